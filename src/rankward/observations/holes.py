"""Whole arrays with holes: NaN, or an empty cell of a CSV, where an entry is not observed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from rankward.config import DataError
from rankward.observations.headers import check_npy

Line = tuple[int, list[str]]  # of a CSV: its number and fields


def read_npy(file: Path) -> np.ndarray:
    """An array of numbers.

    Raises:
        DataError: a file that is torn, holds objects or no numbers, or an array that does not fit into memory.
    """
    try:
        check_npy(file)
        array = np.load(file, allow_pickle=False)
    except DataError:
        raise
    except Exception as error:  # a torn file raises whatever the reader met
        raise DataError(f"cannot be read, it may be torn ({type(error).__name__})") from error
    return np.asarray(array, dtype=np.float64)


def is_hole(field: str) -> bool:
    """Whether a cell says that its entry is not observed."""
    return field.strip().lower() in ("", "nan", "na")


def has_holes(lines: Sequence[Line]) -> bool:
    """Whether a CSV is a whole matrix, known by its holes, and not a list of places and values.

    Raises:
        DataError: it may be either: places that all differ, and holes among the values.
    """
    rows = [fields for _, fields in _data(lines)]
    if len({len(fields) for fields in rows}) != 1 or not any(is_hole(field) for fields in rows for field in fields):
        return False
    width = len(rows[0])
    if _are_places(rows, width - 1) or (width == 4 and _are_places(rows, 2)):  # the fourth column may be a time
        raise DataError("may be a matrix, or places of which some have no value: leave those out, or save a .npy")
    return True


def _are_places(rows: Sequence[list[str]], axes: int) -> bool:
    """Whether so many first columns, two or more, are integers that differ between any two rows."""
    places = {tuple(fields[:axes]) for fields in rows}
    return axes > 1 and len(places) == len(rows) and all(f.strip().isdigit() for place in places for f in place)


def may_be_list(array: np.ndarray) -> bool:
    """Whether an array without holes may be lines `row, column, value` (and a time) instead of a matrix.

    Example:
        >>> may_be_list(np.array([[0, 0, 2.5], [0, 1, 1], [1, 0, 3], [2, 0, 4]])), may_be_list(np.ones((4, 3)))
        (True, False)
    """
    if array.ndim != 2 or array.shape[1] not in (3, 4) or len(array) <= array.shape[1] or np.isnan(array).any():
        return False
    places = array[:, :2]
    return bool((places >= 0).all() and (places % 1 == 0).all() and len(np.unique(places, axis=0)) == len(array))


def matrix(lines: Sequence[Line]) -> np.ndarray:
    """The matrix that a CSV is, NaN in its holes; a first line of words is a header.

    Raises:
        DataError: a cell that is no number, lines of several lengths, or a first line 0, 1, 2, ... (a header).
    """
    rows = _data(lines)
    if not rows:
        raise DataError("no observation; at least one is needed")
    widths = {len(fields) for _, fields in rows}
    if len(widths) > 1:
        raise DataError(f"lines have {min(widths)} to {max(widths)} cells; a matrix has as many in each")
    try:
        whole = np.array([[np.nan if is_hole(f) else float(f) for f in fields] for _, fields in rows])
    except ValueError as error:
        raise DataError(f"a cell is not a number: {error}") from error
    if len(whole) > 1 and whole.shape[1] > 2 and np.array_equal(whole[0], np.arange(whole.shape[1])):
        raise DataError("line 1 is 0, 1, 2, ...: a header? Leave it out, and row numbers too, or save a .npy")
    return whole


def _data(lines: Sequence[Line]) -> Sequence[Line]:
    """Without a header: a first line with a cell that is neither a number nor a hole."""
    return lines[1:] if lines and not all(is_hole(field) or is_number(field) for field in lines[0][1]) else lines


def is_number(text: str) -> bool:
    """Whether a field reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True
