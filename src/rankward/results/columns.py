"""Aggregation of columns over runs: entries by absolute value, all other columns unchanged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

ABSOLUTE = "entry/"  # else the median of runs that differ in an entry's sign would be near zero


def is_absolute(column: str, absolute: bool | None = None) -> bool:
    """Whether a column is aggregated by absolute value.

    Args:
        absolute: overrides the rule for the column; None applies it.

    Example:
        >>> is_absolute("entry/0_0"), is_absolute("norm/nuclear"), is_absolute("entry/0_0", absolute=False)
        (True, False, False)
    """
    return column.startswith(ABSOLUTE) if absolute is None else absolute


def label(column: str, absolute: bool | None = None) -> str:
    """The column's name, between bars if its absolute value is aggregated.

    Example:
        >>> label("entry/0_0"), label("entry/0_0", absolute=False)
        ('|entry/0_0|', 'entry/0_0')
    """
    return f"|{column}|" if is_absolute(column, absolute) else column


def aggregated_values(column: str, absolute: bool | None = None) -> pl.Expr:
    """Expression for the values that are aggregated, with the column's name.

    Example:
        >>> import polars as pl
        >>> pl.DataFrame({"entry/0_0": [-2.0, 1.0]}).select(aggregated_values("entry/0_0"))["entry/0_0"].to_list()
        [2.0, 1.0]
    """
    import polars as pl

    return pl.col(column).abs() if is_absolute(column, absolute) else pl.col(column)
