"""Baseline solutions of low rank: best fits of each rank, greedy low-rank learning, least Schatten quasi-norms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import minimize

from rankward.seeding import generator

FITS = 1e-8  # of the loss of zero: a fit with at most this loss agrees with the observations
STATIONARY = 1e-8  # norm of the gradient with respect to balanced factors, for observed values of norm 1
LEAST_SLOPE = 1e-6  # norm of the gradient with respect to the matrix at which nothing is added
ADDED = 1e-4  # singular value of the component that is added, for observed values of norm 1
FIT_ITERATIONS = 5_000  # of L-BFGS
SCHATTEN_ITERATIONS = 200  # of L-BFGS for each smoothing
SMOOTHING = 0.3  # factor from one smoothing to the next
LEAST_SMOOTHING = 1e-7  # of singular values, for observed values of norm 1


@dataclass(frozen=True)
class Fit:
    """A matrix of at most some rank that is fitted to observed entries.

    Args:
        rank: number of columns of its factors.
        matrix: [d, d'].
        loss: Equation 1, the half sum of squared differences of the observed entries.
        stationary: whether the gradient is below `STATIONARY`. False shows that the solver stopped early, as it may
            where no minimum exists and entries grow without end; a norm far above the others shows that, too.
    """

    rank: int
    matrix: Float[np.ndarray, "rows cols"]
    loss: float
    stationary: bool


def greedy(
    mask: Bool[np.ndarray, "rows cols"], values: Float[np.ndarray, "rows cols"], most: int | None = None
) -> list[Fit]:
    """Greedy low-rank learning: one component more at each step, each step from the end of the last one.

    It starts at zero. Each step adds a small component along the first singular vectors of the negative gradient of the
    loss, and minimises the loss over the factors from there. It ends where the loss is at most `FITS` of that of zero,
    at `most` components, at full rank, or where the gradient is zero. L-BFGS minimises, where the source follows
    gradient flow: where several minima are near, the two may find different ones. Where singular values are equal, the
    order of the SVD decides. Nothing is random.

    Args:
        mask: of observed entries.
        values: those of other entries are ignored.
        most: components; None: the smaller dimension.

    Returns:
        a fit for each step; none if all observed values are zero. The zero matrix, from which it starts, is left out.

    Raises:
        ValueError: an observed value that is not finite.

    Source: Li, Luo and Lyu, "Towards resolving the implicit bias of gradient descent for matrix factorization: greedy
        low-rank learning" (ICLR 2021), Algorithm 1, for a product of two factors.

    Example:
        >>> steps = greedy(np.ones((2, 2), bool), np.diag([3.0, 1.0]))
        >>> [(step.rank, round(step.loss, 6)) for step in steps]
        [(1, 0.5), (2, 0.0)]
    """
    return _fits(mask, values, 1, most)


def best_fits(
    mask: Bool[np.ndarray, "rows cols"],
    values: Float[np.ndarray, "rows cols"],
    starts: int = 5,
    most: int | None = None,
) -> list[Fit]:
    """The fit of least loss that was found for each rank, from 1 up to the first one that fits.

    The losses are not convex, so each fit is a local minimum, the best of so many starts: the fit of the rank below
    with a small component added, as in `greedy`, and normal factors, always from the same seed.

    Args:
        mask: of observed entries.
        values: those of other entries are ignored.
        starts: for each rank, at least 1.
        most: the largest rank; None: the smaller dimension.

    Returns:
        as `greedy`.

    Raises:
        ValueError: an observed value that is not finite.

    Example:
        >>> (fit,) = best_fits(~np.eye(2, dtype=bool), np.array([[0.0, 2.0], [3.0, 0.0]]))
        >>> fit.rank, round(fit.loss, 9), fit.stationary
        (1, 0.0, True)
    """
    return _fits(mask, values, starts, most)


def least_schatten(
    mask: Bool[np.ndarray, "rows cols"], values: Float[np.ndarray, "rows cols"], p: float, starts: int = 4
) -> Float[np.ndarray, "rows cols"]:
    """A completion with a small Schatten-p quasi-norm: among those of so many starts the one with the least.

    L-BFGS minimises the sum of (s^2 + c^2)^(p/2) over the singular values s, by the unobserved entries, while c falls
    from 1 or 0.1 to 1e-7 times the norm of the observed values. The result agrees with the observations exactly. For p
    below 1 it is a local minimum, up to c; from p = 1 on the problem is convex. The first start is zero at the
    unobserved entries, the others are normal there, always from the same seed.

    Args:
        mask: of observed entries.
        values: those of other entries are ignored.
        p: above 0 and at most 2. Flow of depth L keeps balanced factors, whose squared norms sum up to
            L times the sum of s^(2/L).
        starts: at least 1.

    Raises:
        ValueError: an observed value that is not finite, or another p.

    Source: Mohan and Fazel, "Iterative reweighted algorithms for matrix rank minimization" (JMLR 2012), for the smooth
        function, which they minimise by reweighted least squares.

    Example:
        >>> seen = np.array([[False, True], [True, True]])  # [[x, 2], [2, 4]] has rank 1 for x = 1
        >>> least_schatten(seen, np.array([[0.0, 2.0], [2.0, 4.0]]), 0.5).round(4).tolist()
        [[1.0, 2.0], [2.0, 4.0]]
    """
    if not 0 < p <= 2:
        raise ValueError(f"p: {p} is not allowed; expected a number above 0 and at most 2")
    target, size = _scaled(mask, values)
    if size == 0 or p == 2:
        return np.where(mask, values, 0.0)
    draw, spread = generator(0, "least Schatten norm"), 1 / np.sqrt(mask.sum())
    begin = [(np.zeros(mask.shape), 1.0)]
    begin += [(spread * draw.standard_normal(mask.shape), 0.1) for _ in range(starts - 1)]
    found = [_least_smooth(mask, np.where(mask, target, fill), p, smoothing) for fill, smoothing in begin]
    best = min(found, key=lambda matrix: float((np.linalg.svd(matrix, compute_uv=False) ** p).sum()))
    return np.where(mask, values, size * best)


def _least_smooth(mask: np.ndarray, matrix: np.ndarray, p: float, smoothing: float) -> np.ndarray:
    free = ~mask

    def value(entries: np.ndarray) -> tuple[float, np.ndarray]:
        matrix[free] = entries
        u, s, vt = np.linalg.svd(matrix, full_matrices=False)
        squares = s**2 + smoothing**2
        return float((squares ** (p / 2)).sum()), ((u * (p * s * squares ** (p / 2 - 1))) @ vt)[free]

    options = {"maxiter": SCHATTEN_ITERATIONS, "gtol": 1e-9, "ftol": 1e-13}
    while free.any() and smoothing > LEAST_SMOOTHING:
        smoothing = max(LEAST_SMOOTHING, SMOOTHING * smoothing)
        matrix[free] = minimize(value, matrix[free], jac=True, method="L-BFGS-B", options=options).x
    return matrix


def _scaled(mask: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, float]:
    """The observed values over their norm, zeros elsewhere, and the norm."""
    target = np.where(mask, values, 0.0)
    if not np.isfinite(target).all():
        raise ValueError("values: an observed value is not finite")
    size = float(np.linalg.norm(target))
    return (target / size if size else target), size


def _fits(mask: np.ndarray, values: np.ndarray, starts: int, most: int | None) -> list[Fit]:
    target, size = _scaled(mask, values)
    rows, cols = mask.shape
    left, right, found = np.zeros((rows, 0)), np.zeros((cols, 0)), []
    draw = generator(0, "low rank")
    full = min(rows, cols)
    for rank in range(1, 1 + (full if most is None else min(most, full))):
        u, s, vt = np.linalg.svd(target - mask * (left @ right.T))
        if not s[0] > LEAST_SLOPE:
            break
        root = np.sqrt(ADDED)
        begin = [(np.column_stack([left, root * u[:, 0]]), np.column_stack([right, root * vt[0]]))]
        spread = (mask.sum() * rank) ** -0.25  # the products have the size of the observed values
        for _ in range(starts - 1):
            begin.append((spread * draw.standard_normal((rows, rank)), spread * draw.standard_normal((cols, rank))))
        left, right, loss, slope = min((_minimum(mask, target, *each) for each in begin), key=lambda end: end[2])
        found.append(Fit(rank, size * (left @ right.T), size**2 * loss, slope <= STATIONARY))
        if loss <= FITS / 2:
            break
    return found


def _minimum(
    mask: np.ndarray, target: np.ndarray, left: np.ndarray, right: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Balanced factors of a local minimum of the loss, the loss, and the norm of its gradient."""
    rows, rank = left.shape

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        both = flat.reshape(-1, rank)
        residual = mask * (both[:rows] @ both[rows:].T) - target
        slope = np.concatenate([residual @ both[rows:], residual.T @ both[:rows]])
        return float((residual**2).sum()) / 2, slope.ravel()

    options = {"maxiter": FIT_ITERATIONS, "maxfun": 2 * FIT_ITERATIONS, "maxcor": 20, "gtol": 1e-11, "ftol": 0.0}
    end = minimize(value, np.concatenate([left, right]).ravel(), jac=True, method="L-BFGS-B", options=options)
    both = end.x.reshape(-1, rank)
    u, s, vt = np.linalg.svd(both[:rows] @ both[rows:].T, full_matrices=False)
    balanced = np.concatenate([u[:, :rank] * np.sqrt(s[:rank]), vt[:rank].T * np.sqrt(s[:rank])])
    loss, slope = value(balanced.ravel())
    return balanced[:rows], balanced[rows:], loss, float(np.linalg.norm(slope))
