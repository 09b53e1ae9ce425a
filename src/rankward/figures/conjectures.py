"""Conjecture 1 on random completions: error, effective rank and nuclear norm against observations, a line a depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures._quartiles import HOLLOW, draw_medians, quartiles, trials

ERROR, RANK, RATIO = "error/reconstruction", "rank/effective", "ratio/nuclear_norm_to_nuclear"
BASELINE = {ERROR: "rival/nuclear_error", RANK: "rival/nuclear_effective_rank"}
LEAST = "least nuclear norm"


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each method (a depth, or the baseline) and number of observations: medians and quartiles over trials.

    Diverged and unfinished runs are left out; `trials` says how many are in, `converged` how many of them met the
    stop. The baseline agrees with the observations in every trial.

    Raises:
        ResultsError: no finished run with a ground truth and its baseline solution.
    """
    runs = results.gather(sweep)
    needed = {ERROR, RANK, RATIO, *BASELINE.values(), "observations.count", "depth.layers"}
    if not needed <= set(runs.columns):
        raise results.ResultsError(f"cannot draw conjectures of {sweep}: no finished run with metrics=completion")
    runs = runs.filter(pl.col("status").is_in(results.ENDED))
    measured = runs.select(
        method=pl.format("depth {}", "depth.layers"),
        observations="observations.count",
        error=pl.col(ERROR),
        rank=pl.col(RANK),
        ratio=pl.col(RATIO),
        status="status",
    )
    baseline = runs.unique(["observations.count", "observations.seed"]).select(
        method=pl.lit(LEAST),
        observations="observations.count",
        error=pl.col(BASELINE[ERROR]),
        rank=pl.col(BASELINE[RANK]),
        ratio=pl.lit(1.0),
        status=pl.lit("converged"),
    )
    statistics = quartiles({name: name for name in ("error", "rank", "ratio")})
    found = pl.concat([measured, baseline]).group_by("method", "observations").agg(*trials(), *statistics)
    return found.sort(pl.col("method") == LEAST, "method", "observations")


def draw(sweep: Path) -> list[Path]:
    """Draw the three panels.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "conjectures")


def _figure(table: pl.DataFrame) -> Figure:
    figure = Figure(figsize=(10.2, 3.6), layout="constrained")
    panels: list[tuple[str, str, dict[str, Any]]] = [
        ("error", "reconstruction error (Frobenius)", {"yscale": "log"}),
        ("rank", "effective rank", {"yscale": "log"}),
        ("ratio", "nuclear norm over the least", {}),
    ]
    axes = figure.subplots(1, 3)
    for axis, (name, title, look) in zip(axes, panels, strict=True):
        for number, method in enumerate(dict.fromkeys(table["method"].to_list())):
            _line(axis, table.filter(pl.col("method") == method), name, method, number)
        axis.set(title=title, xlabel="observations", **look)
    legend = axes[0].get_legend_handles_labels()
    figure.legend(*legend, loc="outside lower center", ncols=6, title=HOLLOW, title_fontsize=6.5)
    return figure


def _line(axis: Axes, rows: pl.DataFrame, name: str, method: str, number: int) -> None:
    is_baseline = method == LEAST
    look: Any = {
        "color": "0.45" if is_baseline else style.COLORS[number % len(style.COLORS)],
        "linestyle": "--" if is_baseline else "-",
    }
    look |= {"marker": style.MARKERS[number % len(style.MARKERS)], "markersize": 4, "linewidth": 1.1, "capsize": 2}
    draw_medians(axis, rows["observations"].to_numpy(), rows, name, look | {"label": method, "elinewidth": 0.9})
