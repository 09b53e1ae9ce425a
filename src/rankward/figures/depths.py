"""|W_11|, the nuclear norm and the smaller singular value at equal losses, against a real depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style

LOSSES = (1e-1, 1e-2, 1e-3, 1e-4)
ENTRY, NORM, RANK, LOG_ABS, SPECTRAL = (
    "entry/0_0", "norm/nuclear", "rank/effective", "determinant/log_abs", "norm/spectral"
)  # fmt: skip
MEASURED = {"entry": "|W_11|", "norm": "nuclear norm", "fall": "-ln of the smaller singular value"}


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run and loss of `LOSSES`: `run`, `depth`, `seed`, `last_loss`, `entry`, `norm`, `rank` and `fall`.

    Values are interpolated between rows, linearly in the logarithm of the loss: of the entry and the norm their
    logarithms, and `fall`, minus the logarithm of the smaller singular value. They are null at a loss that the run has
    not reached.

    Raises:
        ResultsError: no run of a 2x2 product in singular coordinates.
    """
    rows = []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder):
            continue
        config, trace = results.read_config(folder), results.read_trace(folder)
        if not {ENTRY, NORM, RANK, LOG_ABS, SPECTRAL} <= set(trace.columns) or "singular_value/2" in trace.columns:
            continue
        trace = trace.filter(pl.col("loss") > 0)
        loss = np.log(trace["loss"].to_numpy())
        measured = {
            "entry": np.log(np.abs(trace[ENTRY].to_numpy())),
            "norm": np.log(trace[NORM].to_numpy()),
            "rank": trace[RANK].to_numpy(),
            "fall": np.log(trace[SPECTRAL].to_numpy()) - trace[LOG_ABS].to_numpy(),
        }
        start: dict[str, Any] = {
            "run": results.run_name(sweep, folder),
            "depth": float(config["depth"]["layers"]),
            "seed": int(config["seed"]),
            "last_loss": float(trace["loss"][-1]),
        }
        for at in LOSSES:
            reached = loss[-1] <= np.log(at) + 1e-9
            found = {name: float(np.interp(-np.log(at), -loss, each)) for name, each in measured.items()}
            found |= {name: float(np.exp(found[name])) for name in ("entry", "norm")}
            rows.append({**start, "loss": at, **(found if reached else dict.fromkeys(found))})
    if not rows:
        why = "no run of a 2x2 matrix with lr.coordinates=singular"
        raise results.ResultsError(f"cannot draw depths of {sweep}: {why}")
    schema = dict.fromkeys(("entry", "norm", "rank", "fall"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None).sort("depth", "seed", "loss")


def told(table: pl.DataFrame) -> str:
    """A line for each loss: the range of depths that reach it, of |W_11| and of the effective rank."""
    lines = []
    for loss in sorted(LOSSES, reverse=True):
        part = table.filter((pl.col("loss") == loss) & pl.col("entry").is_not_null())
        if len(part):
            depth, entry, rank = (part[name].to_numpy() for name in ("depth", "entry", "rank"))
            lines.append(
                f"loss {loss:g}: {len(part)} runs of depths {depth.min():g} to {depth.max():g}, |W_11| from "
                f"{entry.min():.4g} to {entry.max():.4g}, effective rank from {rank.min():.4f} to {rank.max():.4f}"
            )
    short = table.filter((pl.col("loss") == min(LOSSES)) & pl.col("entry").is_null())
    for depth in short["depth"].unique().sort():
        last = short.filter(pl.col("depth") == depth)["last_loss"].to_numpy()
        lines.append(f"depth {depth:g}: {len(last)} runs end at losses of {last.min():.3g} to {last.max():.3g}")
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw medians over seeds, and the range, a line for each loss.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "depths")


def _figure(table: pl.DataFrame) -> Figure:
    figure = Figure(figsize=(10.2, 3.4), layout="constrained")
    for axis, (name, label) in zip(figure.subplots(1, len(MEASURED)), MEASURED.items(), strict=True):
        _panel(axis, table, name)
        axis.set(yscale="log", xlabel="depth", ylabel=label)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(LOSSES))
    return figure


def _panel(axis: Axes, table: pl.DataFrame, name: str) -> None:
    for number, loss in enumerate(LOSSES):
        part = table.filter((pl.col("loss") == loss) & pl.col(name).is_not_null())
        over = part.group_by("depth").agg(low=pl.col(name).min(), middle=pl.col(name).median(), high=pl.col(name).max())
        over = over.sort("depth")
        color = style.COLORS[number % len(style.COLORS)]
        axis.plot(over["depth"], over["middle"], color=color, linewidth=1.2, label=f"loss {loss:g}")
        axis.fill_between(
            over["depth"].to_numpy(),
            over["low"].to_numpy(),
            over["high"].to_numpy(),
            color=color,
            alpha=0.25,
            linewidth=0,
        )
