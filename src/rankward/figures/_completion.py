"""Figures 2 and 6: reconstruction error and rank against the number of observations, a column an order."""

from __future__ import annotations

from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures._quartiles import HOLLOW, draw_medians, quartiles, trials
from rankward.figures._runs import short

ERROR, LOWER, UPPER = "error/reconstruction", "rank/cp_lower", "rank/cp_upper"


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each order, method and number of observations: medians and quartiles over trials.

    Diverged and unfinished runs are left out; `trials` says how many are in, `converged` how many of them met the
    stop.

    Raises:
        ResultsError: no finished run with a reconstruction error and ranks.
    """
    table = results.gather(sweep)
    orders = [name for name in table.columns if name.startswith("rank/multilinear_")]
    if not {ERROR, LOWER, UPPER, "observations.count"} <= set(table.columns) or not orders:
        raise results.ResultsError(
            f"cannot draw {sweep}: no finished tensor run with a ground truth and metrics=tensor"
        )
    scale = pl.col("init.scale").map_elements(lambda value: f"tf (init {short(value)})", return_dtype=pl.String)
    linear = pl.col("factorization.name") == "linear"
    statistics = quartiles({"error": ERROR, "rank_lower": LOWER, "rank_upper": UPPER})
    found = (
        table.filter(pl.col("status").is_in(results.ENDED) & pl.col(ERROR).is_not_null())
        .with_columns(
            order=pl.sum_horizontal(pl.col(name).is_not_null() for name in orders),
            method=pl.when(linear).then(pl.lit("linear")).otherwise(scale),
            observations=pl.col("observations.count"),
        )
        .group_by("order", "method", "observations")
        .agg(*trials(), pl.col("init.scale").first().alias("init"), *statistics)
    )
    if found.is_empty():
        raise results.ResultsError(f"cannot draw {sweep}: no finished tensor run there")
    found = found.sort("order", pl.col("method") == "linear", -pl.col("init"), "observations")
    return found.drop("init")


def draw_as(name: str, sweep: Path) -> list[Path]:
    """Draw the curves as `figures/<name>`.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, name)


def _figure(table: pl.DataFrame) -> Figure:
    orders = table["order"].unique().sort().to_list()
    n = len(orders)
    figure = Figure(figsize=(0.35 + 3.85 * n, 5.7), layout="constrained")
    axes = figure.subplots(2, n, sharex="col", squeeze=False)
    methods = list(dict.fromkeys(table["method"].to_list()))
    for column, order in enumerate(orders):
        above, below = axes[0][column], axes[1][column]
        for number, method in enumerate(methods):
            rows = table.filter((pl.col("order") == order) & (pl.col("method") == method))
            if not rows.is_empty():
                _method(above, below, rows, method, number, len(methods))
        above.set(yscale="log", title=f"order {order}")
        below.set(xlabel="number of observations")
        below.set_ylim(bottom=0)
        below.yaxis.get_major_locator().set_params(integer=True)
    axes[0][0].set_ylabel("reconstruction error")
    axes[1][0].set_ylabel("rank")
    handles, labels = axes[0][0].get_legend_handles_labels()
    text = f"medians and quartiles over trials ({HOLLOW}); thin lines: between the rank's lower and upper bound"
    figure.legend(
        handles, labels, loc="outside lower center", ncols=3 * n, title=fill(text, 60 * n), title_fontsize=6.5
    )
    return figure


def _method(above: Axes, below: Axes, rows: pl.DataFrame, method: str, number: int, methods: int) -> None:
    """One method's medians with quartiles, shifted a little so that bars stand side by side."""
    color = "0.45" if method == "linear" else style.COLORS[number % len(style.COLORS)]
    seen = rows["observations"].to_numpy()
    step = np.diff(np.unique(seen)).min() if len(seen) > 1 else 1
    x = seen + 0.12 * step * (number - (methods - 1) / 2)
    look: Any = {"color": color, "marker": style.MARKERS[number % len(style.MARKERS)], "markersize": 4, "capsize": 2}
    look |= {"linewidth": 1.1, "elinewidth": 0.9, "label": method}
    for axis, name in ((above, "error"), (below, "rank_upper")):
        draw_medians(axis, x, rows, name, look)
    lower, upper = rows["rank_lower_median"].to_numpy(), rows["rank_upper_median"].to_numpy()
    below.vlines(x, lower, upper, color=color, linewidth=0.6, alpha=0.6)
