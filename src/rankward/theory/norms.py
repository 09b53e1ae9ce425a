"""Norms and quasi-norms that need not be Schatten's, and where a line of solutions comes near their least value.

Proposition 1 is about every norm and quasi-norm: along the solutions of Equation 6 those within epsilon of the least
norm have W_11 in a bounded interval. Its proof gives one. With |A + B|^q <= |A|^q + |B|^q (q = 1 for a norm) and
E = e_1 e_1^T, |W_11|^q |E|^q <= |W|^q + |W(0)|^q. `confine` searches that interval for the smallest one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float

from rankward.metrics.functional.norms import check_p, schatten_norm_from_singular_values
from rankward.theory.solution_set import MAX_PIECES, PIECES, Infimum, SolutionSet, lower_bounds

CONVEXITY, KINKS, WEYL = "by convexity", "at all kinks", "by Weyl's inequality"
ROUNDING = 1e-12  # relative to the norm, of its evaluation: all intervals are wider by this
SECTIONS = 64  # of a bracket, from round to round
RANK_RTOL = 1e-10


class MatrixNorm:
    """A norm of matrices, by its values alone.

    Args:
        name: for people.
        values: takes matrices [..., d, d'] to norms [...].
    """

    power = 1.0  # the largest q <= 1 with |A + B|^q <= |A|^q + |B|^q

    def __init__(self, name: str, values: Callable[[np.ndarray], np.ndarray]) -> None:
        self.name, self.values = name, values

    def below(self, line: SolutionSet, entry: Float[np.ndarray, " n"], half: float) -> Float[np.ndarray, " n"]:
        """A lower bound on the norm of all solutions whose entry differs from these by at most `half`."""
        return self.values(line.at(entry)) - half * float(self.values(_unit(line)))

    def least(self, line: SolutionSet, reach: float) -> tuple[Infimum, str]:
        """The least norm on the line, which is attained within `reach` of 0, and how that is known.

        A norm is convex along the line. A bracket left < middle < right is divided around its least value until it is
        as short as rounding allows; the secants of its two halves, extended, bound the norm from below.
        """

        def at(entry: np.ndarray) -> np.ndarray:
            return self.values(line.at(entry))

        bracket = np.array([-reach, 0.0, reach])
        while bracket[2] - bracket[0] > ROUNDING * max(1.0, abs(bracket[1])) * SECTIONS:
            grid = np.linspace(bracket[0], bracket[2], SECTIONS + 1)
            middle = int(np.clip(at(grid).argmin(), 1, SECTIONS - 1))
            bracket = grid[middle - 1 : middle + 2]
        left, best, right = at(bracket)
        step_left, step_right = np.diff(bracket)
        drop = max((right - best) / step_right * step_left, (left - best) / step_left * step_right, 0.0)
        error = ROUNDING * max(1.0, best)
        return Infimum(float(best - drop - error), float(best), float(bracket[1])), CONVEXITY


class FormsNorm(MatrixNorm):
    """The p-th (quasi-)norm of linear forms <F_i, W>: p = inf is a polyhedral norm; p < 1 a quasi-norm.

    Args:
        forms: [n, d, d'], whose span are all d×d' matrices.
        p: in (0, inf].

    Raises:
        ValueError: p not above 0, or forms that vanish together on some matrix other than zero.

    Example:
        >>> norm = FormsNorm("sum of |entries|", np.eye(4).reshape(4, 2, 2), 1)
        >>> float(norm.values(np.array([[3.0, -1.0], [1.0, 0.0]])))
        5.0
    """

    def __init__(self, name: str, forms: Float[np.ndarray, "n rows cols"], p: float) -> None:
        check_p(p)
        flat = forms.reshape(len(forms), -1)
        if np.linalg.matrix_rank(flat, tol=RANK_RTOL * np.abs(flat).max(initial=0.0)) < flat.shape[1]:
            raise ValueError(f"{name}: the forms vanish on a matrix other than zero, so this is not a norm")
        super().__init__(name, lambda w: _p_norm(np.abs(np.tensordot(w, forms, ([-2, -1], [1, 2]))), p))
        self.forms, self.p, self.power = forms, p, min(1.0, p)

    def below(self, line: SolutionSet, entry: np.ndarray, half: float) -> np.ndarray:
        terms = np.abs(np.tensordot(line.at(entry), self.forms, ([-2, -1], [1, 2])))
        slopes = np.abs(self.forms[:, line.row, line.col])
        return _p_norm(np.maximum(terms - half * slopes, 0.0), self.p)

    def least(self, line: SolutionSet, reach: float) -> tuple[Infimum, str]:
        """As for every norm; a quasi-norm is compared at all its kinks.

        Between two neighbouring zeros of its forms the sum of |form|^p, p < 1, is concave, so it is least at one of
        these zeros; beyond the outermost ones it grows.
        """
        if self.p >= 1:
            return super().least(line, reach)
        slopes = self.forms[:, line.row, line.col]
        kinks = -(self.forms * line.at(np.zeros(1))).sum((1, 2))[slopes != 0] / slopes[slopes != 0]
        values = self.values(line.at(kinks))
        best = float(values.min())
        return Infimum(best - ROUNDING * max(1.0, best), best, float(kinks[values.argmin()])), KINKS


class SchattenNorm(MatrixNorm):
    """The Schatten-p (quasi-)norm, p in (0, inf].

    Raises:
        ValueError: p not above 0.
    """

    def __init__(self, p: float) -> None:
        check_p(p)
        super().__init__(f"Schatten-{p:g}", lambda w: _of_singular_values(_svd(w), p))
        self.p, self.power = p, min(1.0, p)

    def below(self, line: SolutionSet, entry: np.ndarray, half: float) -> np.ndarray:
        values = line.singular_values(entry)
        return lower_bounds(values, _of_singular_values(values, self.p), half, self.p)

    def least(self, line: SolutionSet, reach: float) -> tuple[Infimum, str]:
        return line.least_norm(self.p), WEYL


def entrywise(p: float, weights: Float[np.ndarray, "rows cols"] | None = None) -> FormsNorm:
    """(Sum of (weight |entry|)^p)^(1/p) of 2×2 matrices, or of those of the weights' size.

    Raises:
        ValueError: p not above 0, or a weight of 0.

    Example:
        >>> float(entrywise(np.inf).values(np.array([[3.0, -4.0], [1.0, 0.0]])))
        4.0
    """
    weighted = np.ones((2, 2)) if weights is None else weights
    name = f"{'weighted ' if weights is not None else ''}entry-wise {p:g}"
    return FormsNorm(name, np.diag(weighted.ravel()).reshape(-1, *weighted.shape), p)


def weighted_frobenius(left: Float[np.ndarray, "m rows"], right: Float[np.ndarray, "cols n"]) -> FormsNorm:
    """The Frobenius norm of A W B, with A = left and B = right of full rank.

    Raises:
        ValueError: A W B = 0 for some W other than zero.
    """
    forms = np.einsum("ia,bj->ijab", left, right).reshape(-1, left.shape[1], right.shape[0])
    return FormsNorm("Frobenius of A W B", forms, 2)


def induced(p: float) -> MatrixNorm:
    """Largest |W x|_p over |x|_p <= 1, for p = 1 (columns) or inf (rows); p = 2 is `SchattenNorm(inf)`.

    Raises:
        ValueError: another p.

    Example:
        >>> w = np.array([[1.0, -2.0], [3.0, 4.0]])
        >>> float(induced(1).values(w)), float(induced(np.inf).values(w))
        (6.0, 7.0)
    """
    if p not in (1, np.inf):
        raise ValueError(f"p: {p} is not allowed; expected 1 or inf (2 is SchattenNorm(inf))")
    axis = -2 if p == 1 else -1
    return MatrixNorm(f"induced {p:g}", lambda w: np.abs(w).sum(axis).max(-1))


def ky_fan(weights: Float[np.ndarray, " k"]) -> MatrixNorm:
    """Sum of the k largest singular values; weights that do not rise multiply them.

    Raises:
        ValueError: weights that rise, or are not above 0.

    Example:
        >>> float(ky_fan(np.ones(1)).values(np.diag([3.0, 2.0])).round(9))
        3.0
    """
    if not (np.diff(weights) <= 0).all() or not (weights > 0).all():
        raise ValueError(f"weights: {weights.tolist()} are not allowed; expected positive numbers that do not rise")
    shown = ", ".join(f"{weight:g}" for weight in weights)
    return MatrixNorm(f"Ky Fan with weights {shown}", lambda w: (_svd(w)[..., : len(weights)] * weights).sum(-1))


@dataclass(frozen=True)
class Confined:
    """The interval of the free entry that holds all solutions within epsilon of the least norm.

    Args:
        least: the least norm, for certain in [lower, upper].
        rule: how it is known.
        left, right: every solution within epsilon of the least norm has its free entry between them.
        excess: each end is at most so far from the entry of such a solution.
        bound: of |entry| by the proof of Proposition 1.
    """

    least: Infimum
    rule: str
    left: float
    right: float
    excess: float
    bound: float


def confine(norm: MatrixNorm, line: SolutionSet, epsilon: float, tolerance: float = 1e-9) -> Confined:
    """The smallest interval of the free entry that holds all epsilon-minimizers of a norm, certified from outside.

    Starting from the bound of the proof, pieces of the line are left out where a lower bound on the norm within them is
    above the least norm plus epsilon, and halved where it is not, until the outermost remaining piece is within
    `tolerance` of an epsilon-minimizer. Floating-point evaluation is trusted to `ROUNDING`.

    Args:
        epsilon: above 0, in the norm's units.
        tolerance: of `excess`, relative to the proof's bound. With more than `MAX_PIECES` pieces the search ends early,
            with a larger `excess`.

    Raises:
        ValueError: epsilon not above 0, or a norm that is 0 on the free entry alone, which confines nothing.

    Example:
        >>> found = confine(entrywise(np.inf), SolutionSet.of_equation_6(), epsilon=0.5)
        >>> round(found.least.upper, 9), round(found.left, 6), round(found.right, 6)
        (1.0, -1.5, 1.5)
    """
    if not epsilon > 0:
        raise ValueError(f"epsilon: {epsilon} is not allowed; expected a number above 0")
    unit, zero = float(norm.values(_unit(line))), float(norm.values(line.at(np.zeros(1)))[0])
    if not unit > 0:
        raise ValueError(f"{norm.name}: 0 where only the free entry is not, so this is not a norm")
    q = norm.power

    def bound(level: float) -> float:
        return float((level**q + zero**q) ** (1 / q) / unit)

    least, rule = norm.least(line, bound(zero))
    level = (least.upper + epsilon) * (1 + ROUNDING)
    reach = bound(level)
    ends = [_outermost(norm, line, level, reach, side, side * least.at, tolerance * reach) for side in (-1, 1)]
    (left, left_excess), (right, right_excess) = ends
    return Confined(least, rule, -left, right, max(left_excess, right_excess), reach)


def _outermost(
    norm: MatrixNorm, line: SolutionSet, level: float, reach: float, side: int, inner: float, width: float
) -> tuple[float, float]:
    """An upper bound of the largest side * entry with a norm of at most `level`, and how far it is from such an entry.

    `inner` is an entry, times `side`, that has such a norm.
    """
    half = reach / PIECES
    centers = np.linspace(-reach + half, reach - half, PIECES)
    while True:
        inside = centers[norm.values(line.at(side * centers)) <= level]
        inner = max(inner, float(inside.max(initial=-np.inf)))
        possible = (norm.below(line, side * centers, half) <= level) & (centers + half > inner)
        outer = max(inner, float((centers + half)[possible].max(initial=-np.inf)))
        if outer - inner <= width or 2 * possible.sum() > MAX_PIECES:
            return outer, outer - inner
        half /= 2
        centers = np.concatenate([centers[possible] - half, centers[possible] + half])


def _unit(line: SolutionSet) -> np.ndarray:
    zero, one = line.at(np.array([0.0, 1.0]))
    return np.asarray(one - zero)


def _p_norm(terms: np.ndarray, p: float) -> np.ndarray:
    if np.isinf(p):
        return np.asarray(terms.max(-1))
    return np.asarray((terms**p).sum(-1) ** (1 / p))


def _svd(matrices: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.svd(matrices, compute_uv=False))


def _of_singular_values(values: np.ndarray, p: float) -> np.ndarray:
    return schatten_norm_from_singular_values(torch.from_numpy(values), p).numpy()
