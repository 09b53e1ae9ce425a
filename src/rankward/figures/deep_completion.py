"""Mean squared errors of completed matrices against the size of the start, and that of least nuclear norm."""

from __future__ import annotations

import json
from math import prod
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures._quartiles import HOLLOW, draw_medians, quartiles, trials

LEAST = "least nuclear norm"
COLUMNS = (
    "error/reconstruction",
    "rank/effective",
    "norm/nuclear",
    "rival/nuclear_error",
    "ratio/nuclear_norm_to_nuclear",
)
PUBLISHED = {  # Arora, Cohen, Hu and Luo (2019), 100x100, rank 5: by observed entries and method
    (2000, LEAST): "0.105",
    (2000, "depth 2"): "0.024 to 0.105",
    (2000, "depth 3"): "2.8e-5",
    (2000, "depth 4"): "2.8e-5",
}


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each number of observations, method and start: medians and quartiles over trials.

    `start` is the expected root mean square of the Frobenius norm of the initial product; null for least nuclear norm.
    `error` is the mean squared error over all entries. Diverged and unfinished runs are left out; `trials` says how
    many are in, `converged` how many of them met the stop.

    Raises:
        ResultsError: no finished run with a ground truth and its baseline solution.
    """
    runs = results.gather(sweep)
    if not {*COLUMNS, "observations.count", "observations.dims", "depth.layers"} <= set(runs.columns):
        raise results.ResultsError(f"cannot draw deep_completion of {sweep}: no finished run with metrics=completion")
    runs = runs.filter(pl.col("status").is_in(results.ENDED)).with_columns(
        size=pl.col("observations.dims").map_elements(lambda dims: prod(json.loads(dims)), return_dtype=pl.Int64)
    )
    nuclear, rank = pl.col("norm/nuclear"), pl.col("rank/effective")
    shared = {"observations": pl.col("observations.count"), "status": pl.col("status")}
    measured = runs.select(
        method=pl.format("depth {}", "depth.layers"),
        start=pl.col("init.scale") * pl.col("size").sqrt(),
        error=pl.col("error/reconstruction") ** 2 / pl.col("size"),
        rank=rank,
        norm=nuclear,
        **shared,
    )
    least = runs.unique(["observations.count", "observations.seed"], maintain_order=True).select(
        method=pl.lit(LEAST),
        start=pl.lit(None, pl.Float64),
        error=pl.col("rival/nuclear_error") ** 2 / pl.col("size"),
        rank=pl.col("rival/nuclear_effective_rank"),
        norm=nuclear / pl.col("ratio/nuclear_norm_to_nuclear"),
        **(shared | {"status": pl.lit("converged")}),
    )
    statistics = quartiles({name: name for name in ("error", "rank", "norm")})
    found = pl.concat([measured, least]).group_by("observations", "method", "start").agg(*trials(), *statistics)
    return found.sort("observations", pl.col("method") == LEAST, "method", "start")


def told(table: pl.DataFrame) -> str:
    """Format each method's errors over starts, and those published for 100x100 matrices of rank 5."""
    lines = []
    for _, rows in table.group_by("observations", "method", maintain_order=True):
        count, method = rows["observations"][0], rows["method"][0]
        errors, ranks = rows["error_median"].drop_nulls(), rows["rank_median"].drop_nulls()
        if errors.is_empty():
            continue
        said = f"{count:,} entries, {method}: mean squared error {_range(errors)}, effective rank {_range(ranks)}"
        published = PUBLISHED.get((count, method))
        lines.append(said + (f" (Arora et al. 2019: {published})" if published else ""))
    return "\n".join(lines)


def _range(values: pl.Series) -> str:
    low, high = (f"{value:.2g}" for value in (values.to_numpy().min(), values.to_numpy().max()))
    return low if low == high else f"{low} to {high}"


def draw(sweep: Path) -> list[Path]:
    """Draw a panel for each number of observations.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "deep_completion")


def _figure(table: pl.DataFrame) -> Figure:
    counts = table["observations"].unique().sort().to_list()
    figure = Figure(figsize=(0.5 + 3.6 * len(counts), 3.7), layout="constrained")
    axes = figure.subplots(1, len(counts), squeeze=False, sharey=True)[0]
    for axis, count in zip(axes, counts, strict=True):
        rows = table.filter(pl.col("observations") == count)
        for number, method in enumerate(dict.fromkeys(rows["method"].to_list())):
            part = rows.filter(pl.col("method") == method)
            if method == LEAST:
                axis.axhline(part["error_median"][0], label=method, **style.BOUND)
                continue
            look: Any = {"color": style.COLORS[number % len(style.COLORS)], "linewidth": 1.1, "capsize": 2}
            look |= {"marker": style.MARKERS[number % len(style.MARKERS)], "markersize": 4}
            draw_medians(axis, part["start"].to_numpy(), part, "error", look | {"label": method})
        axis.set(xscale="log", yscale="log", xlabel="Frobenius norm of the start", title=f"{count:,} entries")
    axes[0].set_ylabel("mean squared error, all entries")
    legend = axes[0].get_legend_handles_labels()
    style.legend_beneath(figure, *legend, ncols=4, title=HOLLOW, title_fontsize=6.5)
    return figure
