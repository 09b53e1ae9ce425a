"""Departure of a run from the envelope to which flow from a balanced start is confined."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float


def departure(
    loss: Float[np.ndarray, " rows"], entry: Float[np.ndarray, " rows"], bound: Float[np.ndarray, " rows"]
) -> tuple[float, int]:
    """The loss at which |entry| falls below its bound for good, and the first row that lies below.

    Flow from a balanced start with the forcing sign keeps the determinant's sign, and with it |W_11| above the bound
    (Theorem 2): a run that lies below has left that flow's envelope. The loss is interpolated, linearly on log axes in
    the ratio of entry and bound, between the last row above and the next.

    Args:
        loss, entry, bound: of a run's rows, in order; bound is NaN where it says nothing, which counts as above.

    Returns:
        NaN and -1 for a run that ends above its bound, or has no finite row. A run that is below from its first row on
        departs at that row's loss.

    Example:
        >>> loss = np.array([1.0, 0.01, 0.0001])
        >>> departure(loss, np.array([1.0, 8.0, 8.0]), np.array([np.nan, 4.0, 64.0]))
        (0.003162277660168382, 2)
    """
    finite = np.flatnonzero(np.isfinite(loss) & (loss > 0) & np.isfinite(entry))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.abs(entry[finite]) / bound[finite])
    above = ~(ratio < 0)
    if not len(finite) or above[-1]:
        return float("nan"), -1
    if not above.any():
        return float(loss[finite[0]]), int(finite[0])
    last = int(np.flatnonzero(above)[-1])
    first, second = np.log(loss[finite[last : last + 2]])
    high, low = ratio[last : last + 2]
    share = high / (high - low) if np.isfinite(high) else 1.0
    return float(np.exp(first + share * (second - first))), int(finite[last + 1])


def turning(loss: Float[np.ndarray, " rows"], forced: Bool[np.ndarray, " rows"]) -> float:
    """The loss at which the determinant's sign turns for good: the geometric mean of the two rows around it.

    Args:
        loss: of a run's rows, in order, positive.
        forced: whether the determinant has the sign from which the bound follows.

    Returns:
        NaN for a run that ends with that sign; the first row's loss for one that never has it.

    Example:
        >>> turning(np.array([1.0, 0.04, 0.01]), np.array([True, True, False]))
        0.02
    """
    if not len(loss) or forced[-1]:
        return float("nan")
    if not forced.any():
        return float(loss[0])
    last = int(np.flatnonzero(forced)[-1])
    return float(np.sqrt(loss[last] * loss[last + 1]))


def protection(
    loss: Float[np.ndarray, " rows"],
    resolution: Float[np.ndarray, " rows"],
    spectral: Float[np.ndarray, " rows"],
    unbalancedness: Float[np.ndarray, " rows"],
    depth: int,
) -> tuple[float, int]:
    """The loss down to which measured unbalancedness proves that the determinant keeps its sign, and the next row.

    With d the largest spectral norm of W_{l+1}^T W_{l+1} - W_l W_l^T, singular values of two layers differ in their
    squares by at most (L - 1) d (Weyl). So no layer is singular while the smallest squared singular value of one of
    them is above (L - 1) d. The layer of the largest norm has at least sigma_1(W)^(1/L) times the smallest ratio of
    singular values in a layer. This bound is ours; the paper's theorem is in its Appendix D.

    Args:
        loss, resolution, spectral, unbalancedness: of a run's rows, in order: columns `loss`, `determinant/resolution`,
            `norm/spectral` and `balance/unbalancedness`. The largest unbalancedness so far counts.
        depth: L, at least 2, of square layers.

    Returns:
        The loss of the last row of the protected ones from the start, and how many these are. NaN and 0 if there is
        none.

    Example:
        >>> resolution, ones = np.array([0.9, 0.5, 0.05]), np.ones(3)
        >>> protection(np.array([1.0, 0.1, 0.01]), resolution, ones, 0.1 * ones, 2)
        (0.1, 2)
    """
    conserved = np.maximum.accumulate(unbalancedness)
    protected = resolution**2 * spectral ** (2 / depth) > (depth - 1) * conserved
    rows = int(len(loss) if protected.all() else protected.argmin())
    return (float(loss[rows - 1]), rows) if rows else (float("nan"), 0)


def predicted_exponent(depth: float) -> float:
    """The b of departure ~ unbalancedness^b that a scaling argument gives: L (L - 2) / (L + 2).

    On the flow's curve |W_11| = x, W_22 = 1 / x, and the loss is 1 / (2 x^2). There x' = L x^(-1 - 2/L), and a factor's
    small singular value obeys s' = -s^(L - 1) / x, so that for L > 2 it falls like s^-(L - 2) ~ x^(1 + 2/L). Layers
    differ in s^2 by what flow conserves, c: where s^2 has come down to c one of them can turn its sign. That makes
    x ~ c^(-L (L - 2) / (2 (L + 2))). For L = 2 the fall is exponential, s ~ exp(-x^2 / 4), and there is no power.
    It is a limit: of one start made smaller and smaller, whose sign has not turned before it comes to the curve.

    Example:
        >>> [round(predicted_exponent(depth), 3) for depth in (2, 3, 4)]
        [0.0, 0.6, 1.333]
    """
    return depth * (depth - 2) / (depth + 2)
