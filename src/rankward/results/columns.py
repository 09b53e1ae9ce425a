"""How a column is aggregated over runs: entries by absolute value, every other column as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import polars as pl

ABSOLUTE = "entry/"  # of runs that differ in an entry's sign alone, the median would be near zero


def is_absolute(column: str, absolute: bool | None = None) -> bool:
    """Whether a column is aggregated by absolute value.

    Args:
        absolute: None for the column's own rule, else the answer.

    Example:
        >>> is_absolute("entry/0_0"), is_absolute("norm/nuclear"), is_absolute("entry/0_0", absolute=False)
        (True, False, False)
    """
    return column.startswith(ABSOLUTE) if absolute is None else absolute


def label(column: str, absolute: bool | None = None) -> str:
    """The column's name, between bars where its absolute value is aggregated.

    Example:
        >>> label("entry/0_0"), label("entry/0_0", absolute=False)
        ('|entry/0_0|', 'entry/0_0')
    """
    return f"|{column}|" if is_absolute(column, absolute) else column


def measured(column: str, absolute: bool | None = None) -> pl.Expr:
    """The column's values as they are aggregated, under the column's name.

    Example:
        >>> import polars as pl
        >>> pl.DataFrame({"entry/0_0": [-2.0, 1.0]}).select(measured("entry/0_0"))["entry/0_0"].to_list()
        [2.0, 1.0]
    """
    import polars as pl

    return pl.col(column).abs() if is_absolute(column, absolute) else pl.col(column)
