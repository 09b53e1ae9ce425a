"""Equation 1's half sum from the loss that a run has recorded."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


def half_sums(last_loss: float, arrays: Mapping[str, np.ndarray], loss: Mapping[str, Any]) -> float:
    """Equation 1's half sum over a run's loss: 1, or n / 2 for the mean over n observed entries.

    If the config is silent, the factorization has decided: the final product and the last loss say how.

    Args:
        last_loss: of the trace.
        arrays: of the run, with a mask of observed entries.
        loss: of the config; runs of older versions have none, theirs is squared.

    Returns:
        NaN for a loss that is not squared.

    Example:
        >>> import numpy as np
        >>> half_sums(0.5, {"observations.mask": np.ones((2, 3), bool)}, {"name": "squared", "reduction": "mean"})
        3.0
    """
    import numpy as np

    if loss.get("name", "squared") != "squared":
        return float("nan")
    mask, reduction = arrays["observations.mask"], loss.get("reduction")
    of_mean = float(mask.sum()) / 2
    if reduction is None and "product" in arrays:
        residuals = (arrays["product"] - arrays["observations.values"])[mask].astype(np.float64)
        with np.errstate(divide="ignore", invalid="ignore"):
            found = np.log(0.5 * (residuals**2).sum() / last_loss)
        reduction = "mean" if abs(found - np.log(of_mean)) < abs(found) else "half_sum"  # a NaN: half_sum
    return of_mean if reduction == "mean" else 1.0
