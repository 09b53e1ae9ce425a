"""Heat maps over learning rate and init, a row a depth: the last |W_11|, effective rank, and iterations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style

ENTRY, RANK = "entry/0_0", "rank/effective"


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each depth, learning rate and init: medians over seeds of the runs that ended; null where none did.

    Raises:
        ResultsError: no finished 2x2 run.
    """
    runs = results.gather(sweep)
    if not {ENTRY, RANK, "lr.eta", "init.scale"} <= set(runs.columns):
        raise results.ResultsError(f"cannot draw phase_diagram of {sweep}: no finished run with {ENTRY} and {RANK}")
    ended = pl.col("status").is_in(results.ENDED)
    found = runs.group_by("depth.layers", "lr.eta", "init.scale").agg(
        pl.col(ENTRY).abs().filter(ended).median().alias("entry"),
        pl.col(RANK).filter(ended).median().alias("effective rank"),
        pl.col("iterations").filter(ended).median().alias("iterations"),
        pl.len().alias("runs"),
        (pl.col("status") == "diverged").sum().alias("diverged"),
    )
    return found.sort("depth.layers", "lr.eta", "init.scale")


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
            axis.set_facecolor("0.85")
            x, y, z = grid(part, name)
            image = axis.pcolormesh(x, y, z, norm=norm, cmap="viridis", shading="nearest", rasterized=True)
            axis.set(xscale="log", yscale="log")
            if row == 0:
                axis.set_title(title)
            if row == len(depths) - 1:
                axis.set_xlabel("learning rate")
                figure.colorbar(image, ax=[axes[r][column] for r in range(len(depths))], location="bottom", aspect=30)
        axes[row][0].set_ylabel(f"depth {depth}\ninit")
    return figure


def grid(part: pl.DataFrame, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Learning rates, inits, and values [inits, rates]; NaN where there is none."""
    rates, inits = (part[key].unique().sort().to_numpy() for key in ("lr.eta", "init.scale"))
    values = np.full((len(inits), len(rates)), np.nan)
    rows, cols = np.searchsorted(inits, part["init.scale"]), np.searchsorted(rates, part["lr.eta"])
    values[rows, cols] = part[name].cast(pl.Float64).fill_null(np.nan).to_numpy()
    return rates, inits, values
