"""Dense arrays in which NaN marks entries that are not observed."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from rankward.observations.headers import check_npy, errors_of_reader


def read_npy(file: Path) -> np.ndarray:
    """An array of numbers.

    Raises:
        DataError: a file that is torn, holds objects or no numbers, or an array that does not fit into memory.
    """
    with errors_of_reader():
        check_npy(file)
        array = np.load(file, allow_pickle=False)
    return np.asarray(array, dtype=np.float64)


def may_be_list(array: np.ndarray, least: int = 0) -> bool:
    """Whether an array without holes may be lines `row, column, value` (and a time) instead of a matrix.

    It has at least `least` lines; 0: more lines than columns.

    Example:
        >>> may_be_list(np.array([[0, 0, 2.5], [0, 1, 1], [1, 0, 3], [2, 0, 4]])), may_be_list(np.ones((4, 3)))
        (True, False)
    """
    if (
        array.ndim != 2
        or array.shape[1] not in (3, 4)
        or len(array) < (least or array.shape[1] + 1)
        or np.isnan(array).any()
    ):
        return False
    places = array[:, :2]
    return bool((places >= 0).all() and (places % 1 == 0).all() and len(np.unique(places, axis=0)) == len(array))
