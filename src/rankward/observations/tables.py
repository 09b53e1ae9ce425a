"""CSV files with a dense matrix or a list of entries, with or without names of rows and columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl

from rankward.config import DataError
from rankward.observations import arrays
from rankward.observations.text import HOLES, SEPARATORS, WITH_COMMA, is_hole, is_number, read_text, with_points

Line = tuple[int, list[str]]  # its number and cells
Way = tuple[int, int]  # how many first lines and how many first columns are names: 0 or 1 of each

VALUE_NAMES = ("value", "values", "val", "rating", "ratings", "score", "data")
ROLES = {"row": 0, "rows": 0, "column": 1, "columns": 1, "col": 1, "cols": 1} | dict.fromkeys(
    VALUE_NAMES, -1
)  # places that such a column has in a list of entries
THREE = "entries of a matrix have three, `row,column,value` (observations=ratings reads the first three)"
CERTAIN = 5  # so many names that count 0, 1, 2, ... beside an empty corner are no entries


def lines(file: Path, separator: str | None = None, decimal: str | None = None) -> list[Line]:
    """The lines that are neither empty, nor comments (`# ...`) at the top, nor Excel's `sep=,`; with decimal points.

    Raises:
        DataError: as `read_text` and `with_points`.
    """
    text = read_text(file, separator)
    found = list(text.records())
    if not found:
        raise DataError("no observation; at least one is needed")
    if decimal is None and ("," not in text.body or (text.separator == "comma" and '"' not in text.body)):
        return found
    if with_points([cells for _, cells in found], text.separator, decimal):
        return found
    return [
        (number, [cell.replace(",", ".") if WITH_COMMA.fullmatch(cell) else cell for cell in cells])
        for number, cells in found
    ]


def shown(cells: Sequence[str]) -> str:
    """A line, or its beginning, in a message; and what it seems to have where commas and points are expected."""
    text = " ".join(",".join(cells).split())
    return (text if len(text) <= 60 else f"{text[:57]}...") + _why(cells)


def _why(cells: Sequence[str]) -> str:
    """A hint on cells that are no numbers: other separators, or decimal commas."""
    for cell in cells:
        for name, mark in SEPARATORS.items():
            parts = cell.strip(" ").split(mark)
            if len(parts) > 1 and name != "comma" and all(is_hole(part) or is_number(part) for part in parts):
                return f" (the separator seems to be {name}: observations.separator={name} says so)"
        if WITH_COMMA.fullmatch(cell):
            return " (numbers seem to have commas in them: observations.decimal=comma reads decimal commas)"
    return ""


def is_matrix(rows: Sequence[Line]) -> bool:
    """Whether a CSV is a whole matrix, known by its holes or the names of its rows, and not a list of entries.

    Raises:
        DataError: it may be either, or its first line names columns that a list has not or has elsewhere.
    """
    ways = _ways(rows)
    top, left = (min(skipped) for skipped in zip(*ways, strict=True))
    body = [cells[left:] for _, cells in rows[top:]]
    holed = len(set(map(len, body))) == 1 and any(is_hole(cell) for cells in body for cell in cells)
    if top:
        _check_roles(rows[0], left, holed)
    if holed and (_are_indices(body, len(body[0]) - 1) or (len(body[0]) == 4 and _are_indices(body, 2))):
        # of four columns the last may be a time
        raise DataError("may be a matrix, or places of which some have no value: leave those out, or save a .npy")
    return holed or left == 1


def has_header(rows: Sequence[Line]) -> bool:
    """Whether the first line is names and cannot be entries."""
    return all(top for top, _ in _ways(rows))


def names_a_list(header: Sequence[str]) -> bool:
    """Whether a header names the columns of a list of entries."""
    return any(cell.strip().lower() in ROLES for cell in header)


def _check_roles(line: Line, left: int, holed: bool) -> None:
    """Refuse a header of a list of entries if its columns are in another order, or there are names of rows or holes."""
    number, cells = line
    roles = {column: ROLES[name] for column, cell in enumerate(cells) if (name := cell.strip().lower()) in ROLES}
    if left or holed:
        if len(roles) > 1 or any(role == -1 and column > 1 for column, role in roles.items()):
            why = "column 1 holds names of rows (pandas: index=False)" if left else "a cell is empty"
            raise DataError(f"line {number} is `{shown(cells)}`, as for lines `row,column,value`, but {why}")
        return
    for column, role in roles.items():
        if column != role % len(cells):
            order = THREE if column == 2 else "the order is row, column (or more indices), value"
            raise DataError(f"line {number} names column {column + 1} `{cells[column].strip()}`: {order}")


def _are_indices(rows: Sequence[list[str]], axes: int) -> bool:
    """Whether so many first columns, two or more, are integers that differ between any two lines that are not empty."""
    filled = [cells for cells in rows if any(map(str.strip, cells))]
    places = {tuple(cells[:axes]) for cells in filled}
    return axes > 1 and len(places) == len(filled) and all(cell.strip().isdigit() for index in places for cell in index)


Names = tuple[list[str] | None, list[str] | None]  # of rows and of columns


def matrix(rows: Sequence[Line], dims: Sequence[int] | None, whole: bool = False) -> tuple[np.ndarray, str, Names]:
    """The dense matrix in a text file, with NaN for empty cells, and the names of its rows and columns.

    The text in between describes which cells are names, or is empty. Where names may as well be entries, `dims`
    decides. `whole` says that the file is no list of entries.

    Raises:
        DataError: a cell that is no number, lines of several lengths, or cells that may be names or entries.
    """
    ways = _ways(rows)
    widths = {len(cells) for _, cells in rows[min(top for top, _ in ways) :]}
    if not widths:
        raise DataError("no observation; at least one is needed")
    if len(widths) != 1:
        raise DataError(f"lines have {min(widths)} to {max(widths)} cells; a matrix has as many in each")
    (width,) = widths
    shapes: dict[tuple[int, ...], Way] = {(len(rows) - top, width - left): (top, left) for top, left in ways}
    if dims is None and len(shapes) > 1:
        readings = ", ".join(f"observations.dims=[{m},{n}] says that {_named(*way)}" for (m, n), way in shapes.items())
        raise DataError(f"may be read in {len(shapes)} ways: {readings}")
    if dims is not None and tuple(dims) not in shapes:
        raise DataError(
            f"observations.dims: {list(dims)} is not the file's {' or '.join(str(list(s)) for s in shapes)}"
        )
    top, left = ways[0] if dims is None else shapes[tuple(dims)]
    body = [(number, cells[left:]) for number, cells in rows[top:]]
    matrix_values = _values(body)
    if dims is None and not np.isnan(matrix_values).all():
        _refuse_empty_end(body, top, left)
        if (
            left
            and not whole
            and _are_ids([cells[0] for _, cells in rows[top:]])
            and arrays.may_be_list(matrix_values, least=1)
        ):
            raise DataError(
                f"{_named(top, left)}, and the rest may be lines `row,column,value` (leave the names out) or a matrix: "
                f"observations.dims=[{len(matrix_values)},{width - left}] says so"
            )
    columns = rows[0][1]
    names = (
        [cells[0].strip() for _, cells in rows[top:]] if left else None,
        [cell.strip() for cell in columns[len(columns) - matrix_values.shape[1] :]] if top else None,
    )
    return matrix_values, _named(top, left) if left or len(shapes) > 1 else "", names


def _values(body: Sequence[Line]) -> np.ndarray:
    """The numbers of cells, as many in each line, with NaN for holes."""
    cells = pl.Series([cell for _, line in body for cell in line], dtype=pl.String).str.strip_chars()
    holes = cells.str.to_lowercase().is_in(list(HOLES))
    values = cells.set(holes, "nan").cast(pl.Float64, strict=False)
    for place in values.is_null().arg_true().to_list():  # polars reads fewer spellings of a number than Python
        number, line = body[place // len(body[0][1])]
        values[place] = _number(line[place % len(line)], number)
    return np.array(values.to_numpy().reshape(len(body), -1))


def _refuse_empty_end(body: Sequence[Line], top: int, left: int) -> None:
    """Refuse empty cells at the end without a name: a line or column that is not observed, or none at all."""
    dims = f"observations.dims=[{len(body)},{len(body[0][1])}]"
    if not top and not any(cells[-1].strip() for _, cells in body):
        raise DataError(
            f"each line ends with a comma: leave it out, or {dims} says that the last column is not observed"
        )
    if not left and not any(map(str.strip, body[-1][1])):
        raise DataError(
            f"the last line has empty cells: leave it out, or {dims} says that the last row is not observed"
        )


def _number(cell: str, number: int) -> float:
    if not is_number(cell):
        raise DataError(f"line {number}: a cell is not a number: {shown([cell])}")
    return float(cell)


def _named(top: int, left: int) -> str:
    names = " and ".join(["line 1"] * top + ["column 1"] * left)
    return f"{names} hold{'' if top and left else 's'} names" if names else "all cells are entries"


def _ways(rows: Sequence[Line]) -> list[Way]:
    """How a matrix may be read; in several ways where its first line or column may be names or entries.

    pandas and R's `write.csv` write an empty cell, or the index's name, above the names of rows; R's `write.table`
    nothing at all.

    Raises:
        DataError: names of which some are missing.
    """
    number, first = rows[0]
    column = [cells[0] for _, cells in rows[1:]]
    words = bool(column) and all(map(_is_word, column))
    if not any(map(_begins_as_number, first)) and any(map(_is_word, first)):
        shorter = len(rows) > 1 and len(first) + 1 == len(rows[1][1])
        if shorter and not any(cells[-1].strip() for _, cells in rows[1:]):
            raise DataError(f"line {number} has {len(first)} cells and each other line ends with a comma: leave it out")
        corner = [""] * shorter + first
        nameless = [column for column, cell in enumerate(corner, start=1) if re.fullmatch(r"\s*|Unnamed: \d+", cell)]
        if nameless not in ([], [1]) or (nameless and not _are_names(column)):
            missing = f"line {number} has no name for column {nameless[-1]}"
            raise DataError(f"{missing}: name it, or leave that column out (pandas: index=False, R: row.names=FALSE)")
        return [(1, 1)] if nameless or words else [(1, 1), (1, 0)] if _are_ids(column) else [(1, 0)]
    ids = _are_ids(first[1:])
    if words and not first[0].strip() and ids:
        return [(1, 1)]
    if words and _is_word(first[0]):
        return [(1, 1), (0, 1)] if ids else [(0, 1)]
    if len(rows) * len(first) <= 4:
        return [(0, 0)]
    if _is_word(first[0]):
        return [(1, 1)] if ids and _are_ids(column) else [(0, 0)]
    if not first[0].strip() and _increase(first[1:]) and _increase(column):
        counting = _count(first[1:]) + _count(column)
        if counting == 2 and len(first) - 1 + len(column) >= CERTAIN:
            return [(1, 1)]
        if counting or (ids and _are_ids(column)):
            return [(1, 1), (0, 0)]
    return [*[(1, 0)] * _count(first), *[(0, 1)] * _count([first[0], *column]), (0, 0)]


def _is_word(cell: str) -> bool:
    """Whether a cell is a name beyond doubt."""
    return not is_hole(cell) and cell.strip()[:1].isalpha() and not is_number(cell)


def _begins_as_number(cell: str) -> bool:
    """Whether a cell is meant as a number, be it one or not."""
    return cell.strip()[:1] in (*"+-.0123456789",)


def _are_names(cells: Sequence[str]) -> bool:
    """Whether cells may be names: all different, and none a hole or a fraction."""
    different = len(set(cells)) == len(cells)
    return different and all(not is_hole(cell) and (not is_number(cell) or float(cell).is_integer()) for cell in cells)


def _are_ids(cells: Sequence[str]) -> bool:
    """Whether cells may be names that are numbers: whole, not below 0, and all different."""
    return bool(cells) and _are_names(cells) and all(is_number(cell) and float(cell) >= 0 for cell in cells)


def _increase(cells: Sequence[str]) -> bool:
    """Whether cells are numbers of which each is larger than the one before."""
    return all(map(is_number, cells)) and all(float(low) < float(high) for low, high in pairwise(cells))


def _count(cells: Sequence[str]) -> bool:
    """Whether two or more cells are 0, 1, 2, ... or 1, 2, 3, ..."""
    if len(cells) < 2 or not all(map(is_number, cells)):
        return False
    first = float(cells[0])
    return first in (0, 1) and all(float(cell) == first + column for column, cell in enumerate(cells))
