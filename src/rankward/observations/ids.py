"""The data's own ids of rows, columns and other indices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from rankward.config import DataError
from rankward.config.errors import nearest

INTEGER = r"^\d+(\.0+)?$"  # an id that is a number from 0, which a program may have written as 1.0


@dataclass(frozen=True, eq=False)
class Ids:
    """The id of each index, axis by axis.

    Args:
        axes: a name of each axis, such as `user` and `item`.
        ids: of each axis, by index: different integers (int64), or different texts.

    Example:
        >>> ids = Ids(("user", "item"), (np.array(["Ann", "Bo"]), np.arange(1, 4)))
        >>> ids.indices(1, pl.Series(["3", "1"])).tolist()
        [2, 0]
    """

    axes: tuple[str, ...]
    ids: tuple[np.ndarray, ...]

    @property
    def dims(self) -> tuple[int, ...]:
        return tuple(map(len, self.ids))

    def indices(self, axis: int, cells: pl.Series) -> np.ndarray:
        """The index of each id of an axis, [entries] int64.

        Raises:
            DataError: an id that the axis has not.
        """
        known = self.ids[axis]
        given, is_integer = as_integers(cells)
        if known.dtype.kind == "i" and not is_integer:
            odd = cells.filter(~cells.str.contains(INTEGER).fill_null(False))[0]
            raise DataError(f"{odd!r} is no id of {self.axes[axis]!r}: these are integers")
        wanted = given if known.dtype.kind == "i" else cells.to_numpy().astype(str)
        order = np.argsort(known, kind="stable")
        place = np.searchsorted(known, wanted, sorter=order).clip(max=len(known) - 1)
        found = order[place]
        unknown = np.flatnonzero(known[found] != wanted)
        if unknown.size:
            first = wanted[unknown[0]].item()
            more = f" (nor are {len(set(wanted[unknown].tolist())) - 1:,} more)" if unknown.size > 1 else ""
            more = more if more != " (nor are 0 more)" else ""
            hint = nearest(first, known.tolist()) if isinstance(first, str) else f"; they go from {known.min()} to "
            hint += "" if isinstance(first, str) else str(known.max())
            raise DataError(f"{first!r} is no id of {self.axes[axis]!r}{more}{hint}")
        return np.asarray(found, dtype=np.int64)

    def columns(self) -> dict[str, np.ndarray]:
        """Columns of the table that a run's folder keeps: a row for each index of each axis.

        `id_is_integer` says of which kind an axis' ids are; `id` has them as texts.
        """
        sizes = self.dims
        return {
            "axis": np.repeat(np.arange(len(sizes)), sizes),
            "name": np.repeat(np.array(self.axes), sizes),
            "index": np.concatenate([np.arange(size) for size in sizes]),
            "id": np.concatenate([ids.astype(str) for ids in self.ids]),
            "id_is_integer": np.repeat([ids.dtype.kind == "i" for ids in self.ids], sizes),
        }

    @classmethod
    def of_table(cls, table: pl.DataFrame) -> Ids:
        """The ids in a table of these columns."""
        parts = table.sort("axis", "index").partition_by("axis", maintain_order=True)
        return cls(
            tuple(part["name"][0] for part in parts),
            tuple(
                part["id"].cast(pl.Int64).to_numpy() if part["id_is_integer"][0] else part["id"].to_numpy().astype(str)
                for part in parts
            ),
        )


def axis_names(axes: int) -> tuple[str, ...]:
    """Names of so many axes, for data without names.

    Example:
        >>> axis_names(2), axis_names(3)
        (('row', 'column'), ('axis_0', 'axis_1', 'axis_2'))
    """
    return {1: ("index",), 2: ("row", "column")}.get(axes, tuple(f"axis_{axis}" for axis in range(axes)))


def as_integers(cells: pl.Series) -> tuple[np.ndarray, bool]:
    """Ids as integers, [entries] int64, and whether all of them are; the integers are meaningless if not.

    Example:
        >>> as_integers(pl.Series(["3", "1.0"]))[0].tolist(), as_integers(pl.Series(["3", "x"]))[1]
        ([3, 1], False)
    """
    if not cells.str.contains(INTEGER).fill_null(False).all():
        return np.zeros(len(cells), np.int64), False
    read = cells.str.replace(r"\.0+$", "").cast(pl.Int64, strict=False)
    return read.fill_null(0).to_numpy(), not read.null_count()


def distinct(cells: pl.Series) -> np.ndarray:
    """The different ids of an axis, integers in their order or else texts in alphabetical order."""
    integers, are_integers = as_integers(cells)
    return np.unique(integers) if are_integers else cells.unique().sort().to_numpy().astype(str)


def named(axes: Sequence[str], rows: Sequence[str] | None, columns: Sequence[str] | None, dims: Sequence[int]) -> Ids:
    """Ids of a matrix from the names of its rows and columns; indices from 0 where there are no names.

    Raises:
        DataError: a name that two rows or two columns have.
    """
    found = []
    for axis, names, size in zip(axes, (rows, columns), dims, strict=True):
        cells = pl.Series([str(index) for index in range(size)] if names is None else list(names), dtype=pl.String)
        if cells.n_unique() < size:
            twice = cells.filter(cells.is_duplicated())[0]
            raise DataError(f"two {axis}s have the name {twice!r}")
        integers, are_integers = as_integers(cells)
        unique = are_integers and len(np.unique(integers)) == size
        found.append(integers if unique else cells.to_numpy().astype(str))
    return Ids(tuple(axes), tuple(found))
