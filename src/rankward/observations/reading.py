"""A line that describes the entries read from a file, for the user to check."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Float

GROUPS = 4  # of neighbouring indices that a line names; it counts the others
FROM_ONE = "indices count from 0, and these seem to start from 1 (observations=ratings reads such)"


def what_was_read(mask: Bool[np.ndarray, "*dims"], values: Float[np.ndarray, "*dims"], listed: bool) -> str:
    """How many entries were read, of which size, and which indices never occur.

    Args:
        mask: true where an entry is observed; at least one is.
        values: the observations.
        listed: whether the file lists indices and values, so that the size and the roles of its columns are guesses.
            An array whose every row and column has an entry is not worth a line: the answer is then empty.

    Example:
        >>> eye = np.eye(3)
        >>> what_was_read(eye > 0, eye, listed=True)
        '3 entries of 3 x 3, values from 1 to 1'
        >>> eye[0, 0] = 0
        >>> what_was_read(eye > 0, eye, listed=False)[:64]
        '2 entries of 3 x 3, values from 1 to 1; no entry in row 0 and co'
    """
    found = mask.nonzero()
    seen = [np.unique(index) for index in found]
    gaps = [np.setdiff1d(np.arange(size), index) for size, index in zip(mask.shape, seen, strict=True)]
    empty = [_mode(axis, mask.ndim, gap) for axis, gap in enumerate(gaps) if gap.size]
    if not (empty or listed):
        return ""
    at = values[found]
    plural = "entry" if at.size == 1 else "entries"
    size = " x ".join(map(str, mask.shape))
    line = f"{at.size} {plural} of {size}, values from {at.min():.6g} to {at.max():.6g}"
    if not empty:
        return line
    complete = all(index[-1] == size - 1 for size, index in zip(mask.shape, seen, strict=True))
    tail = FROM_ONE if complete and starts_from_one(found) else "indices count from 0"
    return f"{line}; no entry in {' and '.join(empty)}: {tail}"


def starts_from_one(indices: Sequence[np.ndarray]) -> bool:
    """Whether no entry has the index 0 on any axis; `indices` has one array of indices for each axis."""
    return all(index.min() > 0 for index in indices)


def _mode(axis: int, axes: int, indices: np.ndarray) -> str:
    """Some indices of an axis, in words."""
    several = "s" if indices.size > 1 else ""
    if axes == 2:
        return f"{('row', 'column')[axis]}{several} {_ranges(indices)}"
    return f"{'indices' if several else 'index'} {_ranges(indices)} of axis {axis}"


def _ranges(indices: np.ndarray) -> str:
    """Sorted integers as ranges.

    Example:
        >>> _ranges(np.array([0, 2, 3, 4, 7, 8])), _ranges(np.array([1, 3, 5, 7, 9, 11]))
        ('0, 2 to 4, 7, 8', '1, 3, 5, 7 (and 2 more)')
    """
    cuts = [0, *(np.flatnonzero(np.diff(indices) > 1) + 1).tolist(), indices.size]
    texts = []
    for first, end in list(pairwise(cuts))[:GROUPS]:
        low, high = indices[first], indices[end - 1]
        texts.append(str(low) if high == low else f"{low}, {high}" if high == low + 1 else f"{low} to {high}")
    more = indices.size - cuts[: GROUPS + 1][-1]
    return ", ".join(texts) + (f" (and {more} more)" if more else "")
