"""Heat maps over learning rate and init, a row a depth, a column a perturbation: the last |W_11| and effective rank."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures.phase_diagram import ENTRY, MAPPED, RANK, draw_map, medians

KEYS = ("depth.layers", "observations.b_22", "lr.eta", "init.scale")


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each depth, perturbation, learning rate and init: medians over seeds of the runs that ended.

    Of a table the parts are streamed, depth by depth: what is kept grows with the cells, and little with the runs.

    Raises:
        ResultsError: no finished 2x2 run.
    """
    runs = results.table_scan(sweep, results.RUNS) if results.is_table(sweep) else results.gather(sweep).lazy()
    if not {ENTRY, RANK, *KEYS} <= set(runs.collect_schema().names()):
        raise results.ResultsError(
            f"cannot draw atlas of {sweep}: no finished run with {ENTRY}, {RANK} and {', '.join(KEYS)}"
        )
    depths = runs.select(pl.col(KEYS[0]).unique().sort()).collect(engine="streaming")
    cells = [runs.filter(pl.col(KEYS[0]) == depth).group_by(*KEYS).agg(medians(**MAPPED)) for (depth,) in depths.rows()]
    return pl.concat([each.sort(*KEYS).collect(engine="streaming") for each in cells])


def draw(sweep: Path) -> list[Path]:
    """Draw a picture for each quantity; cells without a run that ended (diverged) are left grey.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    maps: list[tuple[str, str, str, Any]] = [
        ("atlas_entry", "entry", "last |W_11|", LogNorm(1e-2, 1e2, clip=True)),
        ("atlas_rank", "effective rank", "last effective rank", Normalize(1, 2)),
    ]
    drawn: list[Path] = []
    for name, *how in maps:
        drawn += style.save_drawn(partial(_figure, table, *how), sweep, name, **{"axes.grid": False})
    return drawn


def _figure(table: pl.DataFrame, column: str, title: str, norm: Any) -> Figure:
    depths, perturbations = (table[key].unique().sort().to_list() for key in KEYS[:2])
    figure = Figure(figsize=(1.2 + 1.7 * len(perturbations), 1.1 + 1.7 * len(depths)), layout="constrained")
    axes = figure.subplots(len(depths), len(perturbations), sharex=True, sharey=True, squeeze=False)
    for row, depth in enumerate(depths):
        for col, perturbation in enumerate(perturbations):
            axis = axes[row][col]
            part = table.filter((pl.col(KEYS[0]) == depth) & (pl.col(KEYS[1]) == perturbation))
            image = draw_map(axis, part, column, norm)
            if row == 0:
                axis.set_title(f"W_22 = {perturbation:g}")
            if row == len(depths) - 1:
                axis.set_xlabel("learning rate")
        axes[row][0].set_ylabel(f"depth {depth}\ninit")
    figure.colorbar(image, ax=axes, label=title, aspect=40)
    return figure
