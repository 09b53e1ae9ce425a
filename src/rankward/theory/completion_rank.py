"""The least rank of a completion of a small matrix, between proved bounds, and the graph of observed entries."""

from __future__ import annotations

from itertools import chain, combinations

import numpy as np
from jaxtyping import Bool, Float
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from rankward.seeding import generator
from rankward.theory.solution_set import RANK_RTOL

LARGEST = 6  # rows and columns: the lower bound looks at all sets of rows and of columns
STARTS = 20  # of Newton's method for each rank
STEPS = 60  # of each
SINGULAR = 1e-4  # of the Jacobian's singular values: below it no completion is proved


def pieces(mask: Bool[np.ndarray, "rows cols"]) -> tuple[int, bool]:
    """The number of connected pieces of the bipartite graph of observed entries, and whether all of them are complete.

    Rows and columns are its vertices, observed entries its edges. A piece is complete where all entries of its rows and
    columns are observed. Rows and columns without an observed entry are no pieces.

    Example:
        >>> pieces(np.array([[True, True, False], [True, True, False], [False, False, True]]))
        (2, True)
        >>> pieces(np.array([[True, True], [False, True]]))
        (1, False)
    """
    row_of, col_of = labels(mask)
    seen_rows, seen_cols = np.asarray(mask.any(1)), np.asarray(mask.any(0))
    inside = (row_of[:, None] == col_of[None, :]) & seen_rows[:, None] & seen_cols[None, :]
    return len(np.unique(row_of[seen_rows])), bool((mask == inside).all())


def labels(mask: Bool[np.ndarray, "rows cols"]) -> tuple[np.ndarray, np.ndarray]:
    """The piece of each row and of each column, as numbers."""
    rows, cols = mask.shape
    i, j = np.nonzero(mask)
    graph = csr_array((np.ones(len(i)), (i, rows + j)), shape=(rows + cols, rows + cols))
    found = np.asarray(connected_components(graph, directed=False)[1])
    return found[:rows], found[rows:]


def least_rank(
    mask: Bool[np.ndarray, "rows cols"],
    values: Float[np.ndarray, "rows cols"],
    known: Float[np.ndarray, "rows cols"] | None = None,
) -> tuple[float, float]:
    """Bounds on the least rank of all matrices with these observed entries: a lower and an upper one.

    Lower: a completion has at least the rank [B C] + rank [A; B] - rank B of every part [A ?; B C] whose blocks A, B, C
    are observed (Woerdeman 1989). A completion of rank 1 exists just if the entries of each cycle of the graph agree,
    which is decided.
    Upper: the smaller dimension; the rank of a known completion; and each rank r for which Newton's method finds
    factors whose product has the observed entries up to rounding, with a Jacobian of full rank: then factors that have
    them exactly are near (Newton and Kantorovich's theorem). It may miss a rank, so the bounds may differ.
    Ranks are decided at 1e-12 of the largest singular value.

    Args:
        mask: of observed entries.
        values: those of other entries are ignored.
        known: a matrix that agrees with the observations, such as a ground truth; None: none is known.

    Returns:
        NaN and NaN where there are more than 6 rows or columns.

    Raises:
        ValueError: the known completion does not agree with the observations.

    Source: Woerdeman, "Minimal rank completions for block matrices" (1989), for the part of two by two blocks.

    Example:
        >>> seen = ~np.eye(3, dtype=bool)
        >>> least_rank(seen, np.array([[0.0, 1.0, 2.0], [1.0, 0.0, 2.0], [2.0, 2.0, 0.0]]))  # u u^T with u = (1, 1, 2)
        (1.0, 1.0)
        >>> least_rank(seen, np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 1.0], [1.0, 1.0, 0.0]]))
        (2.0, 2.0)
    """
    values = np.where(mask, values, 0.0)
    if max(mask.shape) > LARGEST:
        return float("nan"), float("nan")
    if not values.any():
        return 0.0, 0.0
    upper = min(mask.shape)
    if known is not None:
        if not np.allclose(known[mask], values[mask], rtol=1e-9, atol=1e-9 * np.abs(values).max()):
            raise ValueError("known: it does not agree with the observations")
        upper = min(upper, int(ranks(known[None])[0]))
    if has_rank_one(mask, values):
        return 1.0, 1.0
    lower = max(2, _largest_part(mask, values))
    upper = next((rank for rank in range(lower, upper) if _exists(mask, values, rank)), upper)
    return float(lower), float(upper)


def ranks(matrices: Float[np.ndarray, "n rows cols"]) -> np.ndarray:
    """The rank of each matrix: the number of singular values above 1e-12 of the largest."""
    found = np.linalg.svd(matrices, compute_uv=False)
    return np.asarray((found > RANK_RTOL * np.maximum(found[:, :1], np.finfo(float).tiny)).sum(1))


def has_rank_one(mask: Bool[np.ndarray, "rows cols"], values: Float[np.ndarray, "rows cols"]) -> bool:
    """Whether numbers x_i and y_j exist with x_i y_j equal to each observed entry, up to 1e-12 of it.

    The entries other than zero decide them piece by piece, up to a factor of each piece. An observed zero then needs a
    row or a column that has no other entry than zeros.

    Example:
        >>> has_rank_one(np.array([[True, True], [True, False]]), np.array([[0.0, 1.0], [1.0, 0.0]]))
        False
    """
    edges = mask & (values != 0)
    if (mask & ~edges & edges.any(1)[:, None] & edges.any(0)[None, :]).any():
        return False
    x, y = np.full(mask.shape[0], np.nan), np.full(mask.shape[1], np.nan)
    row_of, _ = labels(edges)
    x[[int(np.flatnonzero(row_of == piece)[0]) for piece in np.unique(row_of)]] = 1.0
    for _ in range(sum(mask.shape)):  # a spanning forest, level by level
        for i, j in np.argwhere(edges):
            if np.isnan(y[j]) and not np.isnan(x[i]):
                y[j] = values[i, j] / x[i]
            elif np.isnan(x[i]) and not np.isnan(y[j]):
                x[i] = values[i, j] / y[j]
    product = np.outer(x, y)
    return bool((np.abs(product - values)[edges] <= 1e-12 * np.abs(values)[edges]).all())


def _largest_part(mask: np.ndarray, values: np.ndarray) -> int:
    """The largest of rank [B C] + rank [A; B] - rank B over all rows of B and C and all columns of A and B."""
    rows, cols = (_subsets(size) for size in mask.shape)
    # For each set of rows the columns that they all see, and for each set of columns the rows that see them all.
    seen_cols = ~((~mask)[None] & rows[:, :, None]).any(1)
    seen_rows = ~((~mask)[None] & cols[:, None, :]).any(2)
    r, c = (each.ravel() for each in np.meshgrid(np.arange(len(rows)), np.arange(len(cols)), indexing="ij"))
    whole = ~(cols[c] & ~seen_cols[r]).any(1)  # B is observed
    r, c = r[whole], c[whole]
    block = (rows[r][:, :, None] & cols[c][:, None, :]) * values
    wide = ranks((rows[:, :, None] & seen_cols[:, None, :]) * values)
    tall = ranks((seen_rows[:, :, None] & cols[:, None, :]) * values)
    return int((wide[r] + tall[c] - ranks(block)).max())


def _subsets(size: int) -> np.ndarray:
    """Every subset of so many, [2^size, size] bool."""
    chosen = chain.from_iterable(combinations(range(size), count) for count in range(size + 1))
    found = np.zeros((2**size, size), dtype=bool)
    for place, subset in enumerate(chosen):
        found[place, list(subset)] = True
    return found


def _exists(mask: np.ndarray, values: np.ndarray, rank: int) -> bool:
    """Whether a completion of this rank is proved; False where none is found."""
    rows, cols = mask.shape
    i, j = np.nonzero(mask)
    if len(i) > rank * (rows + cols - rank):  # more equations than a Jacobian has independent rows
        return False
    size = float(np.abs(values).max())
    target = values[i, j] / size
    draw = generator(0, "completion rank")
    at = np.arange(len(i))
    for _ in range(STARTS):
        left, right = draw.standard_normal((rows, rank)), draw.standard_normal((cols, rank))
        for _ in range(STEPS):
            residual = (left[i] * right[j]).sum(1) - target
            jacobian = np.zeros((len(i), rows + cols, rank))
            jacobian[at, i] = right[j]
            jacobian[at, rows + j] = left[i]
            u, s, vt = np.linalg.svd(jacobian.reshape(len(i), -1), full_matrices=False)
            if not s[-1] > SINGULAR:
                break
            # The derivative of the products changes by at most as much as the factors: an error of s^2 / 2 suffices.
            error = np.linalg.norm(residual) + 1e-14 * np.linalg.norm(np.abs(left[i] * right[j]).sum(1))
            if np.linalg.norm(residual) < 1e-13 and error <= 0.25 * s[-1] ** 2:
                return True
            step = (vt.T @ ((u.T @ residual) / s)).reshape(-1, rank)
            left, right = left - step[:rows], right - step[rows:]
    return False
