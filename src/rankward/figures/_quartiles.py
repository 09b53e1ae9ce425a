"""Medians and quartiles as columns, for figures with bars over trials."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl


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


def with_bars(rows: pl.DataFrame, name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Medians, and how far the quartiles lie below and above them, as `errorbar` wants it."""
    median, low, high = (rows[f"{name}_{label}"].to_numpy() for label in ("median", "low", "high"))
    return median, [np.maximum(median - low, 0), np.maximum(high - median, 0)]
