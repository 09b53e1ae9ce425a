"""The ends of runs of several optimizers at the same loss: a column of panels a measure, a row a problem."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rankward import results
from rankward.figures import style

ENTRY, ERROR, RATIO, RANK = (
    "entry/0_0",
    "error/reconstruction_relative",
    "ratio/nuclear_norm_to_nuclear",
    "rank/effective",
)
MEASURES = {
    ENTRY: "|W_11|",
    ERROR: "reconstruction error (relative)",
    RATIO: "nuclear norm over the least",
    RANK: "effective rank",
}
ORDER = ("flow", "descent", "momentum", "adam", "adamw", "rmsprop", "sign", "spectral")
WIDTH = 0.8  # of the marks of an optimizer, in units of the distance between two


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each converged run: problem, optimizer (`flow` for lr=flow), depth, rate, scale, seed and the measures.

    `slower` says whether the rate is not the largest of that optimizer and problem.

    Raises:
        ResultsError: no converged run of a matrix factorization with these measures.
    """
    runs = results.gather(sweep)
    needed = {RATIO, RANK, "optimizer.name", "depth.layers", "init.scale", "observations.name"}
    if not needed <= set(runs.columns):
        missing = ", ".join(sorted(needed - set(runs.columns)))
        raise results.ResultsError(f"cannot draw optimizers of {sweep}: no run has {missing}")
    runs = runs.filter(pl.col("status") == "converged")
    rate = pl.col("lr.eta") if "lr.eta" in runs.columns else pl.lit(None, pl.Float64)
    table = runs.select(
        problem="observations.name",
        optimizer=pl.when(pl.col("lr.name") == "flow").then(pl.lit("flow")).otherwise("optimizer.name"),
        depth="depth.layers",
        rate=rate,
        scale="init.scale",
        seed="seed",
        **{name: pl.col(name).abs() for name in MEASURES if name in runs.columns},
    )
    if not len(table):
        raise results.ResultsError(f"cannot draw optimizers of {sweep}: no run has converged")
    largest = pl.col("rate").max().over("problem", "optimizer")
    return table.with_columns(slower=(pl.col("rate") < largest).fill_null(value=False))


def told(table: pl.DataFrame) -> str:
    """A line for each problem, depth and optimizer: medians over seeds and scales, at the larger and smaller rate."""
    lines = []
    for (problem, depth), part in table.sort("depth").group_by("problem", "depth", maintain_order=True):
        for optimizer in _named(part):
            of_both = [
                part.filter((pl.col("optimizer") == optimizer) & (pl.col("slower") == slower))
                for slower in (False, True)
            ]
            words = []
            for name in _measures(part):
                medians = [f"{np.median(each[name].to_numpy()):.3g}" for each in of_both if len(each)]
                words.append(f"{MEASURES[name]} {' and '.join(medians)}")
            lines.append(f"{problem}, depth {depth}, {optimizer}: {'; '.join(words)}")
    return "\n".join(lines)


def _named(table: pl.DataFrame) -> list[str]:
    names = table["optimizer"].unique().to_list()
    return sorted(names, key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name))


def _measures(part: pl.DataFrame) -> list[str]:
    """The three measures of a problem: its unobserved entry, or the error where there is a ground truth."""
    first = ERROR if ERROR in part.columns and part[ERROR].is_finite().any() else ENTRY
    return [first, RATIO, RANK]


def draw(sweep: Path) -> list[Path]:
    """Draw a row of panels for each problem.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "optimizers")


def _figure(table: pl.DataFrame) -> Figure:
    problems, names = table["problem"].unique().sort().to_list(), _named(table)
    depths, scales = table["depth"].unique().sort().to_list(), table["scale"].unique().sort().to_list()
    figure = Figure(figsize=(10.6, 0.9 + 2.7 * len(problems)), layout="constrained")
    rows = figure.subplots(len(problems), 3, squeeze=False, sharex=True)
    for axes, problem in zip(rows, problems, strict=True):
        part = table.filter(pl.col("problem") == problem)
        for axis, measure in zip(axes, _measures(part), strict=True):
            _panel(axis, part, measure, names, depths, scales)
        axes[0].set_title(problem, loc="left")
    marks: list[Any] = [
        Line2D([], [], color=style.COLORS[k % len(style.COLORS)], marker="s", linestyle="none", label=f"depth {depth}")
        for k, depth in enumerate(depths)
    ]
    marks += [
        Line2D(
            [],
            [],
            color="0.3",
            marker=style.MARKERS[k % len(style.MARKERS)],
            linestyle="none",
            label=f"init scale {scale:g}",
        )
        for k, scale in enumerate(scales)
    ]
    hollow: Any = {"markerfacecolor": "none", "markeredgecolor": "0.3", "linestyle": "none"}
    marks.append(Line2D([], [], marker=style.MARKERS[0], label="smaller learning rate", **hollow))
    figure.legend(handles=marks, loc="outside lower center", ncols=len(marks))
    return figure


def _panel(
    axis: Axes, part: pl.DataFrame, measure: str, names: list[str], depths: list[int], scales: list[float]
) -> None:
    columns = len(depths) * len(scales)
    for row in part.rows(named=True):
        depth, scale = depths.index(row["depth"]), scales.index(row["scale"])
        place = (depth * len(scales) + scale - (columns - 1) / 2) * WIDTH / columns
        color = style.COLORS[depth % len(style.COLORS)]
        face = "none" if row["slower"] else color
        look: Any = {
            "marker": style.MARKERS[scale % len(style.MARKERS)],
            "s": 11,
            "linewidths": 0.7,
            "edgecolors": color,
            "facecolors": face,
        }
        axis.scatter(names.index(row["optimizer"]) + place + 0.03 * row["slower"], row[measure], **look)
    axis.set_xticks(np.arange(len(names)), names, rotation=30, ha="right")
    axis.set_ylabel(MEASURES[measure])
    if measure in (ENTRY, ERROR):
        axis.set_yscale("log")
