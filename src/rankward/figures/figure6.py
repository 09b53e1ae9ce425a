"""Figure 6: tensors of rank 3 are completed with low rank by gradient descent on a CP factorization (Section 4.2)."""

from __future__ import annotations

from pathlib import Path

from rankward.figures import _completion
from rankward.figures._completion import curves

__all__ = ["curves", "draw"]


def draw(sweep: Path) -> list[Path]:
    """Reconstruction error and rank against the number of observations, a column an order.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    return _completion.draw_as("figure6", sweep)
