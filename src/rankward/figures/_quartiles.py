"""Medians and quartiles over trials, as columns and as markers with bars."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes

HOLLOW = "hollow: not all trials converged"


def trials() -> list[pl.Expr]:
    """Columns `trials` and `converged`: how many runs a median is of, and how many of them met their stop."""
    return [pl.len().alias("trials"), (pl.col("status") == "converged").sum().alias("converged")]


def quartiles(measured: Mapping[str, str]) -> list[pl.Expr]:
    """For each name and its column, `<name>_median`, `<name>_low`, `<name>_high`.

    Example:
        >>> pl.DataFrame({"x": [1.0, 2.0, 3.0]}).select(quartiles({"a": "x"})).rows()
        [(2.0, 1.5, 2.5)]
    """
    return [
        pl.col(column).quantile(level, "linear").alias(f"{name}_{label}")
        for name, column in measured.items()
        for label, level in (("median", 0.5), ("low", 0.25), ("high", 0.75))
    ]


def draw_medians(axis: Axes, x: np.ndarray, rows: pl.DataFrame, name: str, look: Mapping[str, Any]) -> None:
    """Medians as markers on a line, quartiles as bars; a marker is hollow where `converged` is less than `trials`."""
    middle, low, high = (rows[f"{name}_{label}"].to_numpy() for label in ("median", "low", "high"))
    bars = [np.maximum(middle - low, 0), np.maximum(high - middle, 0)]
    axis.errorbar(x, middle, yerr=bars, **look)
    some = (rows["converged"] < rows["trials"]).to_numpy()
    marker = {name: look[name] for name in ("color", "marker", "markersize")}
    axis.plot(x[some], middle[some], linestyle="none", markerfacecolor="white", zorder=3, **marker)
