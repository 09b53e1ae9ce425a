"""Least rank and least nuclear norm against the start's scale, by the graph of observed entries and by depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures._quartiles import quartiles

GRAPHS = ("connected", "complete bipartite pieces", "other pieces")
MEASURED = {
    "rank": "distance from the least rank\n(of the Frobenius norm)",
    "norm": "nuclear norm over the least, minus 1",
}
FITTED = 1e-8  # not "converged": the slowest runs, at their limit of steps by then, have other norms than the rest
LOWEST = 1e-6  # of the axes: at a loss of 1e-10 smaller numbers are not resolved


def runs(sweep: Path) -> pl.DataFrame:
    """A row for each run whose loss fell to `FITTED`: `graph`, `depth`, `scale`, `truth`, `rank` and `norm`.

    `rank` is the distance of the end from the matrices of least rank, of its Frobenius norm: null where the least rank
    is only known to lie between two numbers. `norm` is the nuclear norm over the least, minus 1. `truth` is the rank of
    the truth.

    Raises:
        ResultsError: no such run.
    """
    needed = {
        "loss", "depth.layers", "init.scale", "observed/pieces", "observed/complete_bipartite",
        "rank/distance_to_least", "norm/frobenius", "ratio/nuclear_norm_to_nuclear", "observations.rank",
    }  # fmt: skip
    table = results.table_scan(sweep, results.RUNS).collect() if results.is_table(sweep) else results.gather(sweep)
    table = table.filter(pl.col("loss") <= FITTED) if "loss" in table.columns else table
    if not needed <= set(table.columns) or not len(table):
        why = "no finished run of metrics=connectivity"
        raise results.ResultsError(f"cannot draw connectivity of {sweep}: {why}")
    graph = (
        pl.when(pl.col("observed/pieces") == 1)
        .then(pl.lit(GRAPHS[0]))
        .when(pl.col("observed/complete_bipartite") == 1)
        .then(pl.lit(GRAPHS[1]))
        .otherwise(pl.lit(GRAPHS[2]))
    )
    return table.select(
        graph=graph,
        depth=pl.col("depth.layers"),
        scale=pl.col("init.scale"),
        truth=pl.col("observations.rank"),
        rank=(pl.col("rank/distance_to_least") / pl.col("norm/frobenius")).fill_nan(None),
        norm=pl.col("ratio/nuclear_norm_to_nuclear") - 1,
    )


def curves(sweep: Path) -> pl.DataFrame:
    """Medians and quartiles over runs for each graph, depth and scale: `rank_median`, `norm_low`, ...

    `runs` counts them, `known` those whose least rank is known.

    Raises:
        ResultsError: no run to draw.
    """
    keys = ("graph", "depth", "scale")
    counted = [pl.len().alias("runs"), pl.col("rank").count().alias("known")]
    both = {name: name for name in MEASURED}
    return runs(sweep).group_by(*keys).agg(*counted, *quartiles(both)).sort(*keys)


def told(table: pl.DataFrame) -> str:
    """A line for each graph and depth: both medians from the largest scale to the smallest."""
    lines = []
    for graph in GRAPHS:
        for depth in table["depth"].unique().sort():
            part = table.filter((pl.col("graph") == graph) & (pl.col("depth") == depth)).sort("scale", descending=True)
            if not len(part):
                continue
            scales = ", ".join(f"{scale:g}" for scale in part["scale"])
            rank, norm = (
                ", ".join("-" if value is None else f"{value:.1e}" for value in part[f"{name}_median"])
                for name in MEASURED
            )
            lines.append(
                f"{graph}, depth {depth}: {part['runs'].sum():,} runs at scales {scales}: distance from the least rank "
                f"{rank}; nuclear norm above the least by {norm} of it (medians)"
            )
    return "\n".join(lines)


def draw(sweep: Path) -> list[Path]:
    """Draw both distances, a column for each graph, a line for each depth.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "connectivity")


def _figure(table: pl.DataFrame) -> Figure:
    graphs = [graph for graph in GRAPHS if graph in set(table["graph"])]
    figure = Figure(figsize=(0.9 + 2.7 * len(graphs), 5.4), layout="constrained")
    axes = figure.subplots(2, len(graphs), sharex=True, sharey=True, squeeze=False)
    for column, graph in enumerate(graphs):
        axes[0][column].set_title(graph)
        for row, name in enumerate(MEASURED):
            axis = axes[row][column]
            for number, depth in enumerate(table["depth"].unique().sort()):
                part = table.filter((pl.col("graph") == graph) & (pl.col("depth") == depth))
                part = part.filter(pl.col(f"{name}_median").is_not_null())
                middle, low, high = (
                    np.maximum(part[f"{name}_{label}"].to_numpy(), LOWEST) for label in ("median", "low", "high")
                )
                look: Any = {"color": style.COLORS[number % len(style.COLORS)], "marker": style.MARKERS[number]}
                axis.errorbar(
                    part["scale"], middle, [middle - low, high - middle],
                    label=f"depth {depth}" if row == column == 0 else None, markersize=4, linewidth=1, **look,
                )  # fmt: skip
            axis.set(xscale="log", yscale="log", ylim=(LOWEST / 2, 2))
            axis.set_xlabel("init" if row else "")
    axes[0][0].invert_xaxis()
    for row, label in enumerate(MEASURED.values()):
        axes[row][0].set_ylabel(label)
    figure.legend(loc="outside lower center", ncols=4)
    return figure
