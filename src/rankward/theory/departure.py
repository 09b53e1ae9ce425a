"""Where a run leaves the region to which flow from a balanced start is confined, and a law for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float
from scipy.optimize import brentq, minimize
from scipy.stats import norm


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
    sound = np.flatnonzero(np.isfinite(loss) & (loss > 0) & np.isfinite(entry))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.abs(entry[sound]) / bound[sound])
    above = ~(ratio < 0)
    if not len(sound) or above[-1]:
        return float("nan"), -1
    if not above.any():
        return float(loss[sound[0]]), int(sound[0])
    last = int(np.flatnonzero(above)[-1])
    first, second = np.log(loss[sound[last : last + 2]])
    high, low = ratio[last : last + 2]
    share = high / (high - low) if np.isfinite(high) else 1.0
    return float(np.exp(first + share * (second - first))), int(sound[last + 1])


@dataclass(frozen=True)
class Line:
    """y = intercept + slope x with normal errors, fit to values of which some are known to be smaller only.

    Args:
        interval: of the slope, 95 %.
        spread: standard deviation of the errors.
        seen, hidden: how many values were known, and how many only bounded.
    """

    intercept: float
    slope: float
    interval: tuple[float, float]
    spread: float
    seen: int
    hidden: int


def censored_line(
    x: Float[np.ndarray, " n"], y: Float[np.ndarray, " n"], hidden: Bool[np.ndarray, " n"]
) -> Line | None:
    """The likeliest line (Tobit), where `hidden` values are smaller than their y; None with under three known ones.

    Runs that have not departed when they end are such: leaving them out would make the line too flat. The interval is
    the likelihood's own: slopes at which its logarithm is at most 1.92 below the best.

    Example:
        >>> x = np.linspace(0, 1, 50)
        >>> line = censored_line(x, 2 * x + 0.1 * np.sin(99 * x), np.zeros(50, bool))
        >>> round(line.slope, 1), line.interval[0] < 2 < line.interval[1]
        (2.0, True)
    """
    if (~hidden).sum() < 3 or np.ptp(x[~hidden]) == 0:
        return None
    center, scale = x.mean(), max(float(x.std()), 1e-12)
    z = (x - center) / scale

    def cost(parameters: np.ndarray, slope: float | None = None) -> float:
        level, log_spread = parameters[0], parameters[-1]
        rest = (y - level - (parameters[1] if slope is None else slope) * z) / np.exp(log_spread)
        return float(-(norm.logpdf(rest[~hidden]) - log_spread).sum() - norm.logcdf(rest[hidden]).sum())

    guess = np.polyfit(z[~hidden], y[~hidden], 1)
    start = np.array([guess[1], guess[0], np.log(max(1e-6, np.std(y[~hidden] - np.polyval(guess, z[~hidden]))))])
    best = minimize(cost, start, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 4000})
    level, slope, log_spread = best.x

    def excess(value: float) -> float:
        options = {"xatol": 1e-6, "fatol": 1e-8, "maxiter": 2000}
        profile = minimize(cost, best.x[[0, 2]], args=(value,), method="Nelder-Mead", options=options)
        return float(profile.fun - best.fun - 1.92)

    ends = [_crossing(excess, slope, sign * np.exp(log_spread) / np.sqrt(len(x))) / scale for sign in (-1, 1)]
    known = int((~hidden).sum())
    intercept = float(level - slope * center / scale)
    return Line(intercept, float(slope / scale), (ends[0], ends[1]), float(np.exp(log_spread)), known, len(x) - known)


def _crossing(excess: Callable[[float], float], start: float, step: float) -> float:
    """Where `excess`, negative at `start`, becomes positive in the direction of `step`; infinity if it never does."""
    for _ in range(60):
        if excess(start + step) > 0:
            return float(brentq(excess, start, start + step, xtol=abs(step) * 1e-3))
        step *= 2
    return float(np.copysign(np.inf, step))


def predicted_exponent(depth: int) -> float:
    """The b of departure ~ unbalancedness^b that a scaling argument gives: L (L - 2) / (L + 2).

    On the flow's curve |W_11| = x, W_22 = 1 / x, and the loss is 1 / (2 x^2). There x' = L x^(-1 - 2/L), and a factor's
    small singular value obeys s' = -s^(L - 1) / x, so that for L > 2 it falls like s^-(L - 2) ~ x^(1 + 2/L). Layers
    differ in s^2 by what flow conserves, c: where s^2 has come down to c one of them can turn its sign. That makes
    x ~ c^(-L (L - 2) / (2 (L + 2))). For L = 2 the fall is exponential, s ~ exp(-x^2 / 4), and there is no power.

    Example:
        >>> [round(predicted_exponent(depth), 3) for depth in (2, 3, 4)]
        [0.0, 0.6, 1.333]
    """
    return depth * (depth - 2) / (depth + 2)
