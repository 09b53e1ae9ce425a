"""Grokking: errors of observed and of all entries against time, and the time at which the second one falls."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style
from rankward.theory.regression import fitted_slope

ERROR = "error/reconstruction_relative"
FITTED = 1e-3  # of the loss's start: the observed entries are fitted
FALLEN = 0.5  # of the error when they are


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run, with its weight decay and scale, and lists of its times, losses and errors.

    `fitted` is the first time at which the loss is below `FITTED` times its start, and `plateau` the error there.
    `fallen` is the time at which the error has fallen to `FALLEN` times that, by linear interpolation of ln error. Each
    is null where there is no such row.

    Raises:
        ResultsError: no finished flow with weight decay and a ground truth.
    """
    rows = []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder) or results.read_summary(folder)["status"] not in results.ENDED:
            continue
        config, trace = results.read_config(folder), results.read_trace(folder)
        decay = float(config.get("optimizer", {}).get("weight_decay") or 0)
        if "time" in trace.columns and ERROR in trace.columns and decay > 0:
            time, loss, error = (trace[name].to_numpy() for name in ("time", "loss", ERROR))
            row = {"decay": decay, "scale": float(config["init"]["scale"]), "time": time, "loss": loss, "error": error}
            rows.append(row | _events(time, loss, error))
    if not rows:
        why = f"no finished flow with weight decay and the column {ERROR}"
        raise results.ResultsError(f"cannot draw grokking of {sweep}: {why}")
    schema = dict.fromkeys(("fitted", "plateau", "fallen"), pl.Float64)
    return pl.DataFrame(rows, schema_overrides=schema).sort("decay", "scale")


def _events(time: np.ndarray, loss: np.ndarray, error: np.ndarray) -> dict[str, float | None]:
    fitted = np.flatnonzero(loss <= FITTED * loss[0])
    if not len(fitted):
        return {"fitted": None, "plateau": None, "fallen": None}
    first = int(fitted[0])
    found = {"fitted": float(time[first]), "plateau": float(error[first])}
    goal = FALLEN * error[first]
    below = np.flatnonzero((np.arange(len(error)) > first) & (error <= goal))
    if not len(below):
        return {**found, "fallen": None}
    pair = slice(below[0] - 1, below[0] + 1)
    at = np.interp(-np.log(goal), -np.log(error[pair]), time[pair])
    return {**found, "fallen": float(at)}


def slopes(table: pl.DataFrame) -> pl.DataFrame:
    """For each weight decay, the slope of the time of the fall against ln(scale) / decay, and its standard error.

    NaN with fewer than three runs whose error falls.
    """
    rows = []
    for (decay,), part in table.drop_nulls("fallen").group_by("decay", maintain_order=True):
        x, y = np.log(part["scale"].to_numpy()) / float(decay), part["fallen"].to_numpy()  # type: ignore[arg-type]
        slope, error = fitted_slope(x, y) if len(part) >= 3 else (np.nan, np.nan)
        rows.append({"decay": decay, "slope": slope, "standard_error": error, "runs": len(part)})
    return pl.DataFrame(rows)


def told(table: pl.DataFrame) -> str:
    """A line for each weight decay: the slope of the time of the fall, and how much earlier the fit is."""
    lines = []
    for decay, slope, error, runs in slopes(table).rows():
        part = table.filter(pl.col("decay") == decay).drop_nulls("fallen")
        ratio = (part["fallen"] / part["fitted"]).to_numpy().min()
        lines.append(
            f"weight decay {decay:g}: the error of all entries halves at a time of {slope:.3f} +- {error:.3f} times "
            f"ln(scale) / decay and a constant ({runs} runs); the fit is at least {ratio:,.0f} times as early"
        )
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the errors of each weight decay, and the times of the fall.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "grokking")


def _figure(table: pl.DataFrame) -> Figure:
    decays = table["decay"].unique().sort().to_list()
    figure = Figure(figsize=(3.4 * (len(decays) + 1), 3.4), layout="constrained")
    *panels, last = figure.subplots(1, len(decays) + 1)
    for axis, decay in zip(panels, decays, strict=True):
        _errors(axis, table.filter(pl.col("decay") == decay), decay)
    for number, (decay, slope, error, _) in enumerate(slopes(table).rows()):
        part = table.filter(pl.col("decay") == decay).drop_nulls("fallen")
        x = np.log(part["scale"].to_numpy()) / decay
        label = f"weight decay {decay:g}: slope {slope:.3f} ± {error:.3f}"
        last.plot(x, part["fallen"], "o", ms=4, color=style.COLORS[number % len(style.COLORS)], label=label)
        last.plot(x, part["fallen"].mean() + x - x.mean(), label="slope 1" if number == 0 else None, **style.BOUND)
    last.set(xlabel="ln(scale) / weight decay", ylabel="time at which the error has halved")
    if last.has_data():
        last.set_ylim(top=1.3 * last.get_ylim()[1])  # room for the legend
        last.legend(loc="upper left")
    return figure


def _errors(axis: Axes, part: pl.DataFrame, decay: float) -> None:
    shades = np.linspace(0.25, 1, len(part))
    for shade, row in zip(shades, part.rows(named=True), strict=True):
        time = np.array(row["time"])[1:]  # the first is 0
        first = shade == 1
        loss = np.sqrt(np.array(row["loss"]) / row["loss"][0])[1:]
        axis.plot(time, loss, color=style.COLORS[0], alpha=shade, lw=0.9, label="observed entries" if first else None)
        label = "all entries (darker: larger scale)" if first else None
        axis.plot(time, row["error"][1:], color=style.COLORS[1], alpha=shade, lw=0.9, label=label)
    axis.set(xscale="log", yscale="log", ylim=(5e-4, 1.3), xlabel="time", ylabel="error relative to the zero matrix's")
    axis.set_title(f"weight decay {decay:g}")
    axis.legend(loc="lower left")
