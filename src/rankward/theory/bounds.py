"""Bounds of the paper's theorems at a given loss, as pure functions."""

from __future__ import annotations

import functools
import math

import numpy as np
from jaxtyping import Float, Int
from numpy.typing import ArrayLike

from rankward.observations import dimensions

BLOCK = 2**14  # losses whose bounds are solved for at once: the arrays of a bisection stay in the cache


def robustness_bound(
    loss: ArrayLike, b_12: ArrayLike = 1.0, b_21: ArrayLike = 1.0, b_22: ArrayLike = 0.0
) -> Float[np.ndarray, "*losses"]:
    """The sharp lower bound on |W_11| that the determinant's sign and the loss imply (the setting of Theorem 2).

    Where sign det W = sign(b_12 b_21), |W_11| >= |W_12 W_21| / |W_22|. At a loss l the observed entries differ from
    their values by a, b, c with a^2 + b^2 + c^2 <= s^2 = 2 l, so |W_11| is at least the minimum of
    (|b_12| - a)(|b_21| - b) / (|b_22| + c) over that ball, and a matrix with a determinant of zero attains it. The
    minimum is on the sphere, where a (|b_12| - a) = b (|b_21| - b) = c (|b_22| + c). For |b_12| <= |b_21|, swapping a
    and b shows that a >= b at the minimum, which leaves one solution for every s < |b_12|: a grows with s from 0 to
    |b_12|, and b is the smaller root. With |b_12| = |b_21| = 1, b_22 = 0 and e = (sqrt(1 + 8 l) - 1) / 2 the minimum is
    (1 - e)^(3/2) e^(-1/2) up to l = 3/8, and sqrt(1 - 2 l) from there to 1/2.

    Args:
        loss: Equation 1's half sum; any shape.
        b_12, b_21, b_22: numbers, or arrays of that shape.

    Returns:
        The bound, float64, in the shape of `loss`; NaN where there is none (s >= min(|b_12|, |b_21|)); at loss 0
        |b_12 b_21 / b_22|, which is infinity for b_22 = 0.

    Example:
        >>> float(robustness_bound(1e-4).round(4)), float(robustness_bound(0.0, -2, 0.5, 0.1))
        (70.6965, 10.0)
    """
    s = np.sqrt(2 * np.asarray(loss, dtype=np.float64))
    b_12, b_21, b_22 = np.abs(b_12), np.abs(b_21), np.abs(b_22)
    s, small, large, other = np.broadcast_arrays(s, np.minimum(b_12, b_21), np.maximum(b_12, b_21), b_22)
    exists = s < small
    inside = exists & (s > 0)
    bound = np.full(s.shape, np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        bound[exists] = (small * large / other)[exists]
    places = np.nonzero(inside.ravel())[0]
    for first in range(0, len(places), BLOCK):
        block = places[first : first + BLOCK]
        bound.flat[block] = _least_entry(*(each.flat[block] for each in (s, small, large, other)))
    return bound


def _least_entry(s: np.ndarray, small: np.ndarray, large: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The minimum of (small - a)(large - b) / (other + c) over a^2 + b^2 + c^2 = s^2, for 0 < s < small <= large."""

    def others(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        product = a * (small - a)
        root = np.sqrt(np.maximum(large * large - 4 * product, 0.0))
        return 2 * product / (large + root), 2 * product / (other + np.sqrt(other * other + 4 * product))

    # a^2 + b^2 + c^2 grows with a: halve the interval of ln a down to rounding.
    low, high = np.log(s) - 800.0, np.log(np.minimum(s, small))
    for _ in range(64):
        middle = 0.5 * (low + high)
        a = np.exp(middle)
        b, c = others(a)
        beyond = a * a + b * b + c * c > s * s
        low, high = np.where(beyond, low, middle), np.where(beyond, middle, high)
    a = np.exp(low)
    b, _ = others(a)
    c = np.sqrt(np.maximum(s * s - a * a - b * b, 0.0))
    return np.asarray((small - a) * (large - b) / (other + c))


def robustness_distance_bound(
    loss: ArrayLike, b_12: ArrayLike = 1.0, b_21: ArrayLike = 1.0, b_22: ArrayLike = 0.0
) -> Float[np.ndarray, "*losses"]:
    """The sharp upper bound on a 2x2 matrix's distance from rank 1 that the determinant's sign and the loss imply.

    Where sign det W = sign(b_12 b_21), and s = sqrt(2 loss) < min(|b_12|, |b_21|), W_22 and W_12 W_21 / W_11 have one
    sign, and the second is not the larger. To replace W_22 by it gives rank 1, so the distance is at most
    |W_22| <= |b_22| + s. It comes as near to that as one likes as |W_11| grows. The paper's Theorem 2 has such a bound
    in its Appendix C; this one is ours. At b_22 = 0 it is a third of Equation 10's.

    Args:
        loss: Equation 1's half sum; any shape.
        b_12, b_21, b_22: numbers, or arrays of that shape.

    Returns:
        The bound, float64; NaN where there is none (s >= min(|b_12|, |b_21|)).

    Example:
        >>> float(robustness_distance_bound(1e-4).round(4)), float(robustness_distance_bound(0.0, -2, 0.5, 0.1))
        (0.0141, 0.1)
    """
    s = np.sqrt(2 * np.asarray(loss, dtype=np.float64))
    return np.where(s < np.minimum(np.abs(b_12), np.abs(b_21)), np.abs(b_22) + s, np.nan)


def robustness_effective_rank_bound(
    loss: ArrayLike, b_12: ArrayLike = 1.0, b_21: ArrayLike = 1.0, b_22: ArrayLike = 0.0
) -> Float[np.ndarray, "*losses"]:
    """An upper bound on a 2x2 matrix's effective rank that the determinant's sign and the loss imply.

    The effective rank grows with k = |det W| / |W|^2 = q / (1 + q^2), q = sigma_2 / sigma_1. Under the premises of
    `robustness_distance_bound`, |det W| = |W_11 W_22| - |W_12 W_21|, so k falls with |W_12| and |W_21|. With these at
    their least, u = |b_12| - s and v = |b_21| - s, the largest k over |W_11| is w^2 / (2 (p + sqrt(p^2 + w^2 m))), with
    w = |W_22|, p = u v, m = w^2 + u^2 + v^2; it grows with w <= |b_22| + s. No matrix whose three observed entries are
    each within s has a larger k, and one attains it. (Those of the loss have a sum of squares within s^2, so for them
    the bound is not sharp, but at loss 0.) The bound is ours; the paper's is in its Appendix C.

    Args:
        loss: Equation 1's half sum; any shape.
        b_12, b_21, b_22: numbers, or arrays of that shape.

    Returns:
        The bound, float64, in [1, 2]; NaN where there is none (s >= min(|b_12|, |b_21|)).

    Example:
        >>> float(robustness_effective_rank_bound(1e-4).round(7)), float(robustness_effective_rank_bound(0.0))
        (1.0005595, 1.0)
    """
    s = np.sqrt(2 * np.asarray(loss, dtype=np.float64))
    u, v, w = np.abs(b_12) - s, np.abs(b_21) - s, np.abs(b_22) + s
    exists = (u > 0) & (v > 0)
    p, m = u * v, w * w + u * u + v * v
    with np.errstate(invalid="ignore", divide="ignore"):
        k = np.where(exists, w * w / (2 * (p + np.sqrt(p * p + w * w * m))), np.nan)
    return _effective_rank(np.asarray(k))


def _effective_rank(k: np.ndarray) -> Float[np.ndarray, "*losses"]:
    """The effective rank of a 2x2 matrix by |det| over the squared Frobenius norm, in [0, 1/2]."""
    q = 2 * k / (1 + np.sqrt(np.maximum(1 - 4 * k * k, 0.0)))
    with np.errstate(divide="ignore", invalid="ignore"):
        entropy = np.log1p(q) - np.where(q == 0, 0.0, q * np.log(q)) / (1 + q)
    return np.asarray(np.exp(entropy))


def unforced_ranks(
    loss: ArrayLike, b_12: ArrayLike = 1.0, b_21: ArrayLike = 1.0, b_22: ArrayLike = 0.0
) -> tuple[Float[np.ndarray, "*losses"], Float[np.ndarray, "*losses"]]:
    """Effective rank and distance from rank 1 of a matrix of this loss whose determinant has the other sign.

    The matrix has W_11 = 0, W_12 = b_12, W_21 = b_21 and |W_22| = ||b_22| - sqrt(2 loss)|. An upper bound that is no
    smaller than its ranks excludes nothing.

    Example:
        >>> [float(each) for each in unforced_ranks(0.0)]
        [2.0, 1.0]
    """
    w = np.abs(b_22) - np.sqrt(2 * np.asarray(loss, dtype=np.float64))
    determinant, squares = np.abs(np.multiply(b_12, b_21)), np.square(b_12) + np.square(b_21) + w * w
    k = np.minimum(determinant / squares, 0.5)
    largest = np.sqrt(squares * (1 + np.sqrt(1 - 4 * k * k)) / 2)
    return _effective_rank(np.asarray(k)), np.asarray(determinant / largest)


def dimensions_bound(loss: ArrayLike) -> Float[np.ndarray, "*losses"]:
    """A lower bound on |W_11| for Appendix E's problem of any square size and a positive determinant.

    The lower right block is I + E with |E| <= s = sqrt(2 loss) < 1, so its determinant is positive, and that of W has
    the sign of the 2x2 Schur complement's. Its entries differ from W's by at most d = s^2 / (2 (1 - s)), since the
    blocks beside it, observed as zero, have norms p and q with p^2 + q^2 <= s^2. With t = s + d:
    |W_11| >= (1 - t)^2 / t - d.

    Returns:
        The bound, float64; NaN where there is none (t >= 1, or not positive), infinity at loss 0.

    Example:
        >>> float(dimensions_bound(1e-4).round(2))
        68.22
    """
    s = np.sqrt(2 * np.asarray(loss, dtype=np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        shift = s * s / (2 * (1 - s))
        t = s + shift
        bound = (1 - t) ** 2 / t - shift
    return np.where((s < 1) & (t < 1) & (bound > 0), bound, np.nan)


class EntryBounds:
    """Lower bounds on the absolute value of each run's only unobserved entry, for the right sign of the determinant.

    A 2x2 matrix has the sharp bound of Theorem 2, for any observed values. A larger square matrix has the bound of
    `dimensions_bound` where the observations are those of Appendix E. Other problems have no bound.

    Args:
        mask: [runs, *dims] observed entries; None for measurements of another kind.
        values: [runs, *dims] their values, or [runs, n] without a mask.
        dims: shape of the product.

    Attributes:
        unobserved: [runs, 2] row and column of the unobserved entry; -1 where there is not exactly one.
        values: [runs, 3] b_12, b_21, b_22 of 2x2 problems, with rows and columns permuted so that W_11 is unobserved;
            zeros without a mask.
        is_appendix_e: [runs] whether the observations are Appendix E's, of which Equation 6 is the smallest case.
        sign: [runs] the determinant's sign from which the bound follows: sign(b_12 b_21), changed by each swap of rows
            or columns; 1 for larger matrices.

    Example:
        >>> mask, values = np.array([[[True, False], [True, True]]]), np.array([[[1.0, 2.0], [3.0, 4.0]]])
        >>> bounds = EntryBounds(mask, values, (2, 2))
        >>> bounds.unobserved.tolist(), bounds.values.tolist(), bounds.sign.tolist()
        ([[0, 1]], [[1.0, 4.0, 3.0]], [-1.0])
        >>> bounds.at(np.array([0.0, 0.02]), 0).round(3).tolist()
        [1.333, 1.052]
    """

    def __init__(self, mask: np.ndarray | None, values: np.ndarray, dims: tuple[int, ...]) -> None:
        runs, self.dims = len(values), tuple(dims)
        self.unobserved = np.full((runs, 2), -1)
        self.values = np.zeros((runs, 3))
        self.sign = np.ones(runs)
        self.is_appendix_e = np.zeros(runs, bool)
        if mask is not None and len(self.dims) == 2:
            missing = ~mask.reshape(runs, -1)
            one = missing.sum(1) == 1
            self.unobserved[one] = np.stack(np.divmod(missing.argmax(1), self.dims[1]), axis=1)[one]
            if min(self.dims) >= 2:
                paper = dimensions(self.dims)
                self.is_appendix_e = (mask == paper.mask).all((1, 2)) & (values == paper.values).all((1, 2))
        if self.dims == (2, 2):
            if mask is not None:
                run, (row, col) = np.arange(runs), np.maximum(self.unobserved, 0).T
                others = values[run, row, 1 - col], values[run, 1 - row, col], values[run, 1 - row, 1 - col]
                self.values = np.stack(others, axis=1)
            swaps = np.where(self.unobserved.sum(1) % 2, -1, 1)
            self.sign = np.asarray(np.sign(self.values[:, 0] * self.values[:, 1]) * swaps)

    @property
    def is_square(self) -> bool:
        """Whether the product is a square matrix, which has a determinant."""
        return len(self.dims) == 2 and self.dims[0] == self.dims[1]

    def at(self, loss: Float[np.ndarray, " rows"], run: Int[np.ndarray, " rows"] | int) -> Float[np.ndarray, " rows"]:
        """The bound at a loss of each row; `run` is the row's run, or one run for all rows. NaN without a bound."""
        if self.dims == (2, 2):
            b_12, b_21, b_22 = self.values[run].T
            return robustness_bound(loss, b_12, b_21, b_22)
        return np.where(self.is_appendix_e[run] & self.is_square, dimensions_bound(loss), np.nan)

    def largest_loss(self, run: int) -> float:
        """The loss below which a run has a bound."""
        if self.dims == (2, 2):
            return float(0.5 * np.abs(self.values[run, :2]).min() ** 2)
        return _largest_loss_of_larger_matrices()


@functools.cache
def _largest_loss_of_larger_matrices() -> float:
    losses = np.linspace(0, 0.5, 100_001)[1:]
    return float(losses[~np.isnan(dimensions_bound(losses))].max())


def quasi_norm_constant(p: float) -> float:
    """The least c with |A + B| <= c (|A| + |B|) for the Schatten-p (quasi-)norm: 1 for a norm, else 2^(1/p - 1).

    Example:
        >>> quasi_norm_constant(1), quasi_norm_constant(0.5)
        (1.0, 2.0)
    """
    return 1.0 if p >= 1 else 2.0 ** (1 / p - 1)


def norm_bound(loss: ArrayLike, p: float) -> Float[np.ndarray, "*losses"]:
    """Equation 8 for the Schatten-p (quasi-)norm, under Theorem 1's premises: a lower bound.

    a / sqrt(loss) - b with a = 1 / (sqrt(2) c), b = max(sqrt(2) a, 8 c^2): every |e_i e_j^T| is 1. Negative, and so
    trivial, while the loss is large; infinity at loss 0.

    Example:
        >>> float(norm_bound(1e-4, p=1).round(4))
        62.7107
    """
    c = quasi_norm_constant(p)
    a = 1 / (math.sqrt(2) * c)
    with np.errstate(divide="ignore"):
        return np.asarray(a / np.sqrt(np.asarray(loss, dtype=np.float64)) - max(math.sqrt(2) * a, 8 * c * c))


def least_norm(loss: ArrayLike, p: float) -> Float[np.ndarray, "*losses"]:
    """The Schatten-p norm of a matrix of this loss on Equation 6: a lower bound that is no larger excludes nothing.

    The matrix is (1 - sqrt(loss)) [[0, 1], [1, 0]], of norm 2^(1/p) (1 - sqrt(loss)). For p >= 1 no matrix of the same
    loss has a smaller norm, by duality; 0 from a loss of 1 on.

    Example:
        >>> float(least_norm(1e-4, p=1).round(4))
        1.98
    """
    size = np.maximum(1 - np.sqrt(np.asarray(loss, dtype=np.float64)), 0.0)
    return np.asarray(2 ** (1 / p) * size)


def effective_rank_bound(loss: ArrayLike) -> Float[np.ndarray, "*losses"]:
    """Equation 9, under Theorem 1's premises: an upper bound; the infimum over the solution set is 1 (Proposition 2).

    Example:
        >>> float(effective_rank_bound(1e-4).round(4))
        1.1
    """
    return np.asarray(1 + 2 * math.sqrt(12) / math.log(2) * np.sqrt(np.asarray(loss, dtype=np.float64)))


def distance_bound(loss: ArrayLike) -> Float[np.ndarray, "*losses"]:
    """Equation 10, under Theorem 1's premises: an upper bound on the distance from the infimal rank, 1.

    Example:
        >>> float(distance_bound(1e-4).round(4))
        0.0424
    """
    return np.asarray(3 * math.sqrt(2) * np.sqrt(np.asarray(loss, dtype=np.float64)))
