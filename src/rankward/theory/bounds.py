"""Lower bounds on the unobserved entry."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike


def robustness_bound(
    loss: ArrayLike, b_12: float = 1.0, b_21: float = 1.0, b_22: float = 0.0
) -> Float[np.ndarray, "*losses"]:
    """What the sign of the determinant alone forces on |W_11| at a given loss (the setting of Theorem 2).

    Where sign det W = sign(b_12 b_21), |W_11| >= |W_12 W_21| / |W_22|, and each observed entry is within
    s = sqrt(2 loss) of its value: |W_11| >= (|b_12| - s)(|b_21| - s) / (|b_22| + s), while s < min(|b_12|, |b_21|).

    Args:
        loss: Equation 1's half sum; any shape.

    Returns:
        The bound, float64, in the shape of `loss`; NaN where it says nothing (s too large), infinity at loss 0 and
        b_22 = 0.

    Example:
        >>> float(robustness_bound(1e-4).round(4))
        68.7248
    """
    s = np.sqrt(2 * np.asarray(loss, dtype=np.float64))
    with np.errstate(divide="ignore"):
        bound = (abs(b_12) - s) * (abs(b_21) - s) / (abs(b_22) + s)
    return np.where(s < min(abs(b_12), abs(b_21)), bound, np.nan)
