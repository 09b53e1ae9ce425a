"""Fixed points of flow with weight decay on a fully observed matrix, and the certificate that a run goes to them."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float

from rankward.theory.certificates import (
    HOLDS,
    SQUARED_LOSS,
    VIOLATED,
    Bound,
    Certificate,
    RunContext,
    Trace,
    first_failing,
    not_applicable,
    says_nothing,
)

ALIGNED = 1e-9  # relative: the start and the observations share their singular vectors up to this
SMALLEST = 1e-12  # relative: a smaller singular value of the start may be rounding, which grows
MIXTURE = 0.6180339887498949  # of the observations to the start: no singular values of the sum are equal by chance
HALVINGS = 200


def fixed_point(
    target: np.ndarray | float, decay: np.ndarray | float, depth: float, start: np.ndarray | float
) -> np.ndarray:
    """The singular value at which a balanced, aligned flow with weight decay ends: s - y + decay s^(2/L - 1) = 0, or 0.

    Where W and a fully observed Y share their singular vectors and the factors are balanced, each singular value moves
    alone, s' = L s^(2 - 2/L) (y - s) - L decay s. At depth 2 it ends at max(y - decay, 0): the soft threshold. From
    depth 3 on it ends at the larger root if there are two and it starts above the smaller one, else at 0: the end jumps
    as a function of y. Zero stays zero.

    Args:
        target: the singular value y of Y; a negative one, whose vectors have opposite signs in W, has the end 0. It,
            `decay` and `start` are numbers, or arrays of shapes that broadcast.
        decay: above 0.
        depth: number of factors L, at least 2.
        start: at least 0. NaN in any argument gives NaN.

    Raises:
        ValueError: a depth below 2, or a decay that is not above 0.

    Example:
        >>> fixed_point(np.array([2.0, 0.1]), 0.5, 2, 1e-3).tolist()
        [1.5, 0.0]
        >>> fixed_point(2.0, 1.0, 4, np.array([0.3, 0.5])).round(9).tolist()  # the roots: 0.38 and 1
        [0.0, 1.0]
    """
    if depth < 2:
        raise ValueError(f"depth: {depth} is not allowed; expected at least 2")
    target, decay, start = np.broadcast_arrays(*(np.asarray(each, dtype=np.float64) for each in (target, decay, start)))
    if (decay <= 0).any():
        raise ValueError("decay: expected numbers above 0")
    known = np.isfinite(target) & np.isfinite(decay) & np.isfinite(start)
    if depth == 2:
        return np.where(known, np.where(start > 0, np.maximum(target - decay, 0.0), 0.0), np.nan)
    power = 2 / depth - 1
    turn = np.where(known, -power * decay, 1.0) ** (1 / (1 - power))  # s + decay s^power is least here

    def excess(value: Any) -> np.ndarray:
        return np.asarray(value + decay * value**power - target)

    with np.errstate(all="ignore"):
        two = (target > 0) & (excess(turn) <= 0)
        # Below the turn the term of the decay alone is above y at `least`; above it s alone is at y.
        least = (decay / target) ** (-1 / power)
        lower = _bisected(excess, np.where(two, least, turn), turn)
        upper = _bisected(excess, np.where(two, target, turn), turn)
    return np.where(known, np.where(two & (start > lower), upper, 0.0), np.nan)


def _bisected(excess: Any, above: Any, below: Any) -> np.ndarray:
    """The root between numbers where the excess is at least 0 (`above`) and at most 0 (`below`), on a log scale."""
    high, low = np.log(above), np.log(below)
    for _ in range(HALVINGS):
        middle = (high + low) / 2
        positive = excess(np.exp(middle)) > 0
        high, low = np.where(positive, middle, high), np.where(positive, low, middle)
    return np.asarray(np.exp((high + low) / 2))


class Shrinkage(Certificate):
    """Weight decay shrinks singular values to fixed points: s - y + decay s^(2/L - 1) = 0, or 0.

    Each singular value goes from its start to its fixed point without turning (see `fixed_point`), so that in every row
    it lies between both: a singular value outside is a violation. The verdict is `holds` if, in the last row, each is
    within the tolerance of its fixed point; else it says nothing, and `distance` is the largest one.

    Args:
        tolerance: relative to the largest singular value of the start and of the observations.

    Raises:
        ValueError: a tolerance that is not above 0.
    """

    name = "shrinkage"

    def __init__(self, tolerance: float = 1e-6) -> None:
        if not tolerance > 0:
            raise ValueError(f"tolerance: {tolerance} is not allowed; expected a number above 0")
        self.tolerance = tolerance

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing_premises(self, context: RunContext) -> list[str | None]:
        full: Any = False
        start = target = [np.zeros(0)] * context.runs
        if context.mask is not None and len(context.dims) == 2:
            full = context.mask.all(axis=(1, 2))
            pairs = zip(context.product, context.values, strict=True)
            start, target = map(list, zip(*(aligned(*pair) for pair in pairs), strict=True))
        return first_failing(
            context.runs,
            [
                (context.squared, SQUARED_LOSS),
                (context.chain, "a matrix factorization: the product of its factors"),
                (context.depth >= 2, f"a depth of at least 2, not {context.depth}"),
                (context.is_flow, "gradient flow (lr=flow): this run takes discrete steps"),
                (context.decay is not None, "weight decay"),
                (full, "a matrix with all entries observed"),
                (context.balanced, "a balanced start (Equation 5)"),
                (np.array([len(each) > 0 for each in start]), "a start with the singular vectors of the observations"),
                (np.array([(each >= 0).all() for each in target]), "singular vectors with the same signs"),
                (
                    np.array([len(each) > 0 and each.min() > SMALLEST * each.max() for each in start]),
                    "a start without singular values near zero",
                ),
            ],
        )

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise = self.failing_premises(context)[0]
        names = [f"singular_value/{k}" for k in range(min(context.dims, default=0))]
        if premise is None and not set(names) <= set(trace):
            premise = "columns singular_value/... for all of them"
        if premise is not None:
            return {self.name: not_applicable(premise)}
        assert context.decay is not None
        start, target = aligned(context.product[0], context.values[0])
        decay = context.decay[0] * np.broadcast_to(context.half_sums, 1)[0]  # as of Equation 1's half sum, for a mean
        end = fixed_point(target, decay, context.depth, start)
        slack = self.tolerance * max(start.max(), target.max())
        # Bounds of all values are bounds of the k-th largest, too.
        low, high = (np.sort(pick(start, end))[::-1] for pick in (np.minimum, np.maximum))
        values = np.stack([trace[name] for name in names], axis=1)
        margins = np.minimum(values - low, high - values).min(axis=1)
        outside = ~(margins >= -slack)
        if outside.any():
            at = int(outside.argmax())
            found = {"margin": float(margins[at]), "iteration": int(trace["iteration"][at])}
            return {self.name: {"verdict": VIOLATED, **found}}
        distance = float(np.abs(values[-1] - np.sort(end)[::-1]).max())
        found = {"distance": distance, "rows": len(values)}
        if not distance <= slack:
            return {self.name: says_nothing("the singular values are still on the way to their fixed points", found)}
        return {self.name: {"verdict": HOLDS, **found}}


def aligned(
    matrix: Float[np.ndarray, "rows cols"], other: Float[np.ndarray, "rows cols"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Singular values of one matrix, and the numbers that the other has along the same pairs of singular vectors.

    Both are empty where the matrices share no singular vectors, up to `ALIGNED`, and where one is zero or not finite.

    Example:
        >>> aligned(np.diag([2.0, 1.0]), np.diag([3.0, -4.0]))[1].round(9).tolist()
        [3.0, -4.0]
        >>> aligned(np.diag([2.0, 1.0]), np.ones((2, 2)))[1].tolist()
        []
    """
    sizes = np.linalg.norm(matrix), np.linalg.norm(other)
    if not all(np.isfinite(size) and size > 0 for size in sizes):
        return np.zeros(0), np.zeros(0)
    left, _, right = np.linalg.svd(matrix / sizes[0] + MIXTURE * other / sizes[1], full_matrices=False)
    found = []
    for each, size in zip((matrix, other), sizes, strict=True):
        values = np.einsum("ir,ij,rj->r", left, each, right)
        if np.linalg.norm(each - (left * values) @ right) > ALIGNED * size:
            return np.zeros(0), np.zeros(0)
        found.append(values)
    sign = np.where(found[0] < 0, -1.0, 1.0)
    return sign * found[0], sign * found[1]
