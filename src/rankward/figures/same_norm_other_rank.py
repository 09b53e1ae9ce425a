"""The same nuclear norm and another rank: both against the loss, where only a diagonal is observed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rankward import results
from rankward.figures import reads_run_folders, style

NORM, RANK = "norm/nuclear", "rank/effective"


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each recorded row of each run: `run`, `depth`, `seed`, `loss`, `norm`, `rank` and `least`.

    `least` is the sum of the observed diagonal's absolute values, the least nuclear norm of all matrices with it.

    Raises:
        ResultsError: no finished run of which only a diagonal is observed.
    """
    parts = []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder) or results.read_summary(folder)["status"] not in results.ENDED:
            continue
        config, trace = results.read_config(folder), results.read_trace(folder)
        arrays = results.read_arrays(folder)
        mask = arrays.get("observations.mask")
        if mask is None or mask.ndim != 2 or not {NORM, RANK} <= set(trace.columns):
            continue
        if mask.shape[0] != mask.shape[1] or not (mask == np.eye(len(mask), dtype=bool)).all():
            continue
        parts.append(
            trace.select("loss", norm=NORM, rank=RANK).with_columns(
                run=pl.lit(results.run_name(sweep, folder)),
                depth=pl.lit(int(config["depth"]["layers"])),
                seed=pl.lit(int(config["seed"])),
                least=pl.lit(float(np.abs(np.diag(arrays["observations.values"])).sum())),
            )
        )
    if not parts:
        why = "no finished run of which just the diagonal is observed"
        raise results.ResultsError(f"cannot draw same_norm_other_rank of {sweep}: {why}")
    return pl.concat(parts)


def told(table: pl.DataFrame) -> str:
    """A line for each depth: the nuclear norms at the end over the least, and the effective ranks."""
    ends = table.group_by("run", maintain_order=True).last()
    lines = []
    for depth in ends["depth"].unique().sort():
        part = ends.filter(pl.col("depth") == depth)
        ratio, rank = (part["norm"] / part["least"]).to_numpy(), part["rank"].to_numpy()
        lines.append(
            f"depth {depth}: {len(part)} runs end at {ratio.min():.6f} to {ratio.max():.6f} times the least nuclear "
            f"norm, with effective ranks of {rank.min():.2f} to {rank.max():.2f} (median {np.median(rank):.2f})"
        )
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw nuclear norms and effective ranks against the loss, a line for each run.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "same_norm_other_rank")


def _figure(table: pl.DataFrame) -> Figure:
    figure = Figure(figsize=(7.6, 3.3), layout="constrained")
    norm, rank = figure.subplots(1, 2)
    for number, depth in enumerate(table["depth"].unique().sort()):
        color = style.COLORS[number % len(style.COLORS)]
        for place, (_, part) in enumerate(table.filter(pl.col("depth") == depth).group_by("run", maintain_order=True)):
            label = f"depth {depth}" if place == 0 else None
            norm.plot(part["loss"], part["norm"], color=color, linewidth=0.8, alpha=0.7, label=label)
            rank.plot(part["loss"], part["rank"], color=color, linewidth=0.8, alpha=0.7)
    for least in table["least"].unique():
        norm.axhline(least, label="least of all solutions", **style.BOUND)
    for axis, name in ((norm, "nuclear norm"), (rank, "effective rank")):
        axis.set(xscale="log", xlabel="loss", ylabel=name)
        axis.invert_xaxis()
    rank.yaxis.set_major_locator(MaxNLocator(6))
    figure.legend(loc="outside lower center", ncols=3)
    return figure
