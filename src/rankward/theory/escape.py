"""Times at which a component leaves a small start, and the power law that they follow."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float


def escape_time(
    start: Float[np.ndarray, "*batch"] | float, end: float, alignment: float, order: int
) -> Float[np.ndarray, "*batch"]:
    """The time in which the norm of a balanced component grows from `start` to `end` at constant alignment.

    With N vectors and d sigma / dt = N gamma sigma^(2 - 2/N) it is (f(start) - f(end)) / (N gamma), where
    f(sigma) = (sigma^(-a) - 1) / a with a = 1 - 2/N, and f(sigma) = ln(1 / sigma) for N = 2.

    Args:
        start, end: norms, positive.
        alignment: gamma, positive.
        order: N, the number of a component's vectors, or the depth of a chain.

    Source: integral of Razin, Maman and Cohen (ICML 2021), Corollary 1, and of Arora et al. (NeurIPS 2019), Theorem 3.

    Example:
        >>> round(float(escape_time(1e-4, 1.0, 1.0, 4)), 12)  # 100 / 2 - 1 / 2
        49.5
    """
    exponent = 1 - 2 / order
    grown = _growth(np.asarray(start), exponent) - _growth(np.asarray(end), exponent)
    return np.asarray(grown / (order * alignment))


def _growth(norm: np.ndarray, exponent: float) -> np.ndarray:
    """(norm^(-a) - 1) / a, and its limit ln(1 / norm) at a = 0."""
    logs = -np.log(norm)
    return np.asarray(np.expm1(exponent * logs) / exponent if abs(exponent) > 1e-12 else logs)


@dataclass(frozen=True)
class EscapeLaw:
    """The fitted law time = offset + rate (start^(-exponent) - 1) / exponent.

    At exponent 0 it is offset + rate ln(1 / start), the limit.

    Args:
        standard_error: of the exponent, from the residuals.
        points: number of starts.
    """

    exponent: float
    standard_error: float
    offset: float
    rate: float
    points: int

    def time(self, start: Float[np.ndarray, "*batch"]) -> Float[np.ndarray, "*batch"]:
        """The fitted time of a start."""
        return self.offset + self.rate * _growth(start, self.exponent)


def escape_law(start: Float[np.ndarray, " runs"], time: Float[np.ndarray, " runs"]) -> EscapeLaw | None:
    """Fit the exponent of the law that escape times follow; `EscapeLaw` has its form.

    At constant alignment the exponent is 1 - 2/N (see `escape_time`), so it is 0, a logarithm, for N = 2. Least squares
    in the time, by golden-section search in the exponent between -1 and 2 with offset and rate at their best. The
    standard error is that of the linearized fit.

    Returns:
        None with fewer than four different starts, or with a time that is not finite.

    Example:
        >>> start = np.logspace(-6, -1, 6)
        >>> law = escape_law(start, escape_time(start, 0.5, 2.0, 3))
        >>> round(law.exponent, 6), law.standard_error < 1e-6
        (0.333333, True)
    """
    if len(np.unique(start)) < 4 or not np.isfinite(time).all():
        return None
    low, high, ratio = -1.0, 2.0, (np.sqrt(5) - 1) / 2
    inner = [high - ratio * (high - low), low + ratio * (high - low)]
    errors = [_fit(start, time, each)[1] for each in inner]
    while high - low > 1e-10:
        if errors[0] <= errors[1]:
            high, inner[1], errors[1] = inner[1], inner[0], errors[0]
            inner[0] = high - ratio * (high - low)
            errors[0] = _fit(start, time, inner[0])[1]
        else:
            low, inner[0], errors[0] = inner[0], inner[1], errors[1]
            inner[1] = low + ratio * (high - low)
            errors[1] = _fit(start, time, inner[1])[1]
    exponent = (low + high) / 2
    (offset, rate), squares = _fit(start, time, exponent)
    step = 1e-5
    slope = rate * (_growth(start, exponent + step) - _growth(start, exponent - step)) / (2 * step)
    design = np.stack([np.ones(len(start)), _growth(start, exponent), slope], axis=1)
    scale = np.abs(design).max(0)
    inverse = np.linalg.pinv(design / scale)
    variance = squares / (len(start) - 3) * (inverse[2] @ inverse[2]) / scale[2] ** 2
    return EscapeLaw(float(exponent), float(np.sqrt(variance)), float(offset), float(rate), len(start))


def _fit(start: np.ndarray, time: np.ndarray, exponent: float) -> tuple[np.ndarray, float]:
    """Offset and rate of least squares, and the sum of squared residuals."""
    growth = _growth(start, exponent)
    centered = growth - growth.mean()
    rate = (centered * time).sum() / (centered * centered).sum()
    offset = time.mean() - rate * growth.mean()
    residual = time - offset - rate * growth
    return np.array([offset, rate]), float((residual * residual).sum())


def leaving_time(time: Float[np.ndarray, " rows"], norm: Float[np.ndarray, " rows"], share: float = 0.5) -> float:
    """The time at which a norm first reaches `share` of its largest value; linear in ln(norm) between two rows.

    Returns:
        NaN without a finite row, and the first time for a norm that starts there.

    Example:
        >>> leaving_time(np.array([0.0, 1.0, 2.0]), np.array([1.0, 16.0, 8.0]), share=0.25)
        0.5
    """
    finite = np.flatnonzero(np.isfinite(norm) & (norm > 0))
    if not len(finite):
        return float("nan")
    time, logs = time[finite], np.log(norm[finite])
    level = logs.max() + np.log(share)
    at = int((logs >= level).argmax())
    if at == 0:
        return float(time[0])
    part = (level - logs[at - 1]) / (logs[at] - logs[at - 1])
    return float(time[at - 1] + part * (time[at] - time[at - 1]))
