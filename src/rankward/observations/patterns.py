"""Matrices whose observed entries form a pattern: the diagonal, blocks along it, or any pattern of rows of 0 and 1."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from rankward.observations.measurement import EntryMask
from rankward.observations.synthetic import ground_truth


def diagonal(
    values: Sequence[float] | None = None,
    size: int | None = None,
    rank: int | None = None,
    seed: int | None = None,
) -> EntryMask:
    """The diagonal of a square matrix.

    Args:
        values: on the diagonal; None: those of a random ground truth.
        size, rank, seed: of the ground truth, if there are no values; the seed None: 0.

    Example:
        >>> diagonal([1.0, 1.5]).values.tolist()
        [[1.0, 0.0], [0.0, 1.5]]
        >>> diagonal(size=4, rank=1).count
        4
    """
    rows = len(values) if values is not None else size or 0
    return observed(np.eye(rows, dtype=bool), values, rank, seed)


def blocks(
    sizes: Sequence[int | Sequence[int]],
    values: Sequence[float] | None = None,
    rank: int | None = None,
    seed: int | None = None,
) -> EntryMask:
    """Blocks along the diagonal, all of whose entries are observed.

    Args:
        sizes: of each block: a number, or the numbers of its rows and columns.
        values: of the observed entries, row by row; None: those of a random ground truth.
        rank, seed: of the ground truth, if there are no values; the seed None: 0.

    Example:
        >>> blocks([1, [2, 1]], values=[1, 2, 3]).values.tolist()
        [[1.0, 0.0], [0.0, 2.0], [0.0, 3.0]]
    """
    pairs = [(each, each) if isinstance(each, int) else tuple(each) for each in sizes]
    rows, cols = (np.repeat(np.arange(len(pairs)), count) for count in zip(*pairs, strict=True))
    return observed(rows[:, None] == cols[None, :], values, rank, seed)


def pattern(
    pattern: str, values: Sequence[float] | None = None, rank: int | None = None, seed: int | None = None
) -> EntryMask:
    """The entries at which a pattern has a 1.

    Args:
        pattern: rows of 0 and 1, separated by /.
        values: of the observed entries, row by row; None: those of a random ground truth.
        rank, seed: of the ground truth, if there are no values; the seed None: 0.

    Example:
        >>> pattern("110/011", values=[1, 2, 3, 4]).values.tolist()
        [[1.0, 2.0, 0.0], [0.0, 3.0, 4.0]]
    """
    return observed(mask_of(pattern), values, rank, seed)


def mask_of(pattern: str) -> Bool[np.ndarray, "rows cols"]:
    """The mask of a pattern of rows of 0 and 1, separated by /.

    Example:
        >>> mask_of("10/11").tolist()
        [[True, False], [True, True]]
    """
    return np.array([[letter == "1" for letter in row] for row in str(pattern).split("/")])


def observed(
    mask: Bool[np.ndarray, "rows cols"], values: Sequence[float] | None, rank: int | None, seed: int | None
) -> EntryMask:
    """The entries of a mask with these values, row by row, or with those of a random ground truth of this rank."""
    if values is None:
        assert rank is not None
        truth = ground_truth(mask.shape, rank, seed or 0)
        return EntryMask(mask, truth, truth)
    full = np.zeros(mask.shape)
    full[mask] = values
    return EntryMask(mask, full)
