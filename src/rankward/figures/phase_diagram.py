"""Heat maps over learning rate and init, a row a depth: the last |W_11|, effective rank, and iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.collections import QuadMesh
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.results.columns import aggregated_values

ENTRY, RANK = "entry/0_0", "rank/effective"
MAPPED = {"entry": aggregated_values(ENTRY), "effective rank": aggregated_values(RANK)}
ENDED = pl.col("status").is_in(results.ENDED)


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each depth, learning rate and init: medians over seeds of the runs that ended; null where none did.

    Raises:
        ResultsError: no finished 2x2 run.
    """
    runs = results.gather(sweep)
    if not {ENTRY, RANK, "lr.eta", "init.scale"} <= set(runs.columns):
        raise results.ResultsError(f"cannot draw phase_diagram of {sweep}: no finished run with {ENTRY} and {RANK}")
    columns = medians(**MAPPED, iterations=pl.col("iterations"))
    found = runs.group_by("depth.layers", "lr.eta", "init.scale").agg(columns)
    return found.sort("depth.layers", "lr.eta", "init.scale")


def medians(**columns: pl.Expr) -> list[pl.Expr]:
    """Medians of a cell over the runs that ended, the number of its runs, and the number that diverged."""
    return [
        *(values.filter(ENDED).median().alias(name) for name, values in columns.items()),
        pl.len().alias("runs"),
        (pl.col("status") == "diverged").sum().alias("diverged"),
    ]


def draw(sweep: Path) -> list[Path]:
    """Draw the maps; cells without a run that ended (diverged) are left grey.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "phase_diagram", **{"axes.grid": False})


def _figure(table: pl.DataFrame) -> Figure:
    depths = table["depth.layers"].unique().sort().to_list()
    maps: list[tuple[str, str, Any]] = [
        ("entry", "last |W_11|", LogNorm(1e-2, 1e2, clip=True)),
        ("effective rank", "last effective rank", Normalize(1, 2)),
        ("iterations", "iterations", LogNorm(1e2, max(1e3, *table["iterations"].drop_nulls()))),
    ]
    figure = Figure(figsize=(10.2, 0.9 + 2.5 * len(depths)), layout="constrained")
    axes = figure.subplots(len(depths), len(maps), sharex=True, sharey=True, squeeze=False)
    for row, depth in enumerate(depths):
        part = table.filter(pl.col("depth.layers") == depth)
        for column, (name, title, norm) in enumerate(maps):
            axis = axes[row][column]
            image = draw_map(axis, part, name, norm)
            if row == 0:
                axis.set_title(title)
            if row == len(depths) - 1:
                axis.set_xlabel("learning rate")
                figure.colorbar(image, ax=[axes[r][column] for r in range(len(depths))], location="bottom", aspect=30)
        axes[row][0].set_ylabel(f"depth {depth}\ninit")
    return figure


def draw_map(axis: Axes, part: pl.DataFrame, name: str, norm: Normalize) -> QuadMesh:
    """A column of the cells over learning rate and init; grey where there is no value."""
    axis.set_facecolor("0.85")
    image = axis.pcolormesh(*grid(part, name), norm=norm, cmap="viridis", shading="nearest", rasterized=True)
    axis.set(xscale="log", yscale="log")
    return image


def grid(part: pl.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Learning rates, inits, and values [inits, rates]; NaN where there is none."""
    rates, inits = (part[key].unique().sort().to_numpy() for key in ("lr.eta", "init.scale"))
    values = np.full((len(inits), len(rates)), np.nan)
    rows, cols = np.searchsorted(inits, part["init.scale"]), np.searchsorted(rates, part["lr.eta"])
    values[rows, cols] = part[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return rates, inits, values
