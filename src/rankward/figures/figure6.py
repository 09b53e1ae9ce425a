"""Figure 6: gradient descent on a CP factorization completes tensors of rank 3 with low rank (Section 4.2)."""

from functools import partial

from rankward.figures._completion import curves, draw_as

__all__ = ["curves", "draw"]

draw = partial(draw_as, "figure6")
