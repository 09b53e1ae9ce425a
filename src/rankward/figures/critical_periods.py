"""Critical periods: error and effective rank at the end against the iteration at which the observed values changed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures._quartiles import draw_medians, quartiles, trials

UNTIL = "observations.schedule.until"
MEASURED = {"error": "error/reconstruction_relative", "rank": "rank/effective", "loss": "loss"}


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each depth and iteration of the change: medians and quartiles over trials at the end of the runs.

    `error` is relative to the second ground truth, over all entries. Diverged and unfinished runs are left out;
    `trials` says how many are in, `converged` how many of them met the stop.

    Raises:
        ResultsError: no finished run of observations=changing with an error and an effective rank.
    """
    runs = results.gather(sweep)
    if not {UNTIL, "depth.layers", *MEASURED.values()} <= set(runs.columns):
        why = f"no finished run of observations=changing with the columns {', '.join(MEASURED.values())}"
        raise results.ResultsError(f"cannot draw critical_periods of {sweep}: {why}")
    runs = runs.filter(pl.col("status").is_in(results.ENDED) & pl.col(UNTIL).is_not_null())
    grouped = runs.group_by(depth="depth.layers", until=UNTIL).agg(*trials(), *quartiles(MEASURED))
    if grouped.is_empty():
        raise results.ResultsError(f"cannot draw critical_periods of {sweep}: no finished run there")
    return grouped.sort("depth", "until")


def told(table: pl.DataFrame) -> str:
    """A line for each depth: error and effective rank after the earliest and after the latest change."""
    lines = []
    for (depth,), rows in table.group_by("depth", maintain_order=True):
        ends = [
            f"after a change at {row['until']:,}: relative error {row['error_median']:.2g}, "
            f"effective rank {row['rank_median']:.3g}"
            for row in (rows.row(0, named=True), rows.row(-1, named=True))
        ]
        lines.append(f"depth {depth}: {'; '.join(ends)}")
    return "\n".join(lines)


def draw(sweep: Path) -> list[Path]:
    """Draw errors and effective ranks, a line a depth.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "critical_periods")


def _figure(table: pl.DataFrame) -> Figure:
    figure = Figure(figsize=(7.2, 3.4), layout="constrained")
    panels = figure.subplots(1, 2)
    labels = {"error": "error relative to the second truth", "rank": "effective rank"}
    positive = table.filter(pl.col("until") > 0)["until"].to_numpy()
    for axis, (name, label) in zip(panels, labels.items(), strict=True):
        for number, ((depth,), rows) in enumerate(table.group_by("depth", maintain_order=True)):
            look: Any = {"color": style.COLORS[number % len(style.COLORS)], "linewidth": 1.1, "capsize": 2}
            look |= {"marker": style.MARKERS[number % len(style.MARKERS)], "markersize": 4}
            shown = rows.with_columns(converged="trials")  # runs of a fixed length: none is meant to converge
            draw_medians(axis, rows["until"].to_numpy(), shown, name, look | {"label": f"depth {depth}"})
        axis.set_xscale("symlog", linthresh=positive.min() if len(positive) else 1)
        axis.set(xlabel="iterations before the change", ylabel=label)
    panels[0].set_yscale("log")
    panels[1].legend(loc="upper left")
    return figure
