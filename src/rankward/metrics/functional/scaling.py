"""Exact scaling by powers of two, so that squares and sums of very large and very small numbers stay in range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

LOW, HIGH = 2.0**-200, 2.0**200  # fourth powers of numbers between these, and sums of many, are in float64's range


def in_range(
    arrays: Sequence[Float[Tensor, "runs *_"]],
) -> tuple[list[Float[Tensor, "runs *_"]], Int[Tensor, " runs"]]:
    """float64 arrays over a power of two a run, and its exponent: 0 where the run's largest number is in range already.

    The exponents belong to a run and to nothing beside it, so its bits do not depend on its company. Runs of zeros, and
    those with NaN or infinity, are left as they are.

    Args:
        arrays: [runs, *shape] each; those of one run are scaled by one number.

    Example:
        >>> scaled, exponent = in_range([torch.tensor([[2.0**-500], [3.0]], dtype=torch.float64)])
        >>> scaled[0].tolist(), exponent.tolist()
        ([[0.5], [3.0]], [-499, 0])
    """
    doubles = [array.double() for array in arrays]
    peak = torch.stack([_peak(array) for array in doubles]).amax(0)
    outside = torch.isfinite(peak) & (peak > 0) & ((peak < LOW) | (peak > HIGH))
    if not outside.any():
        return doubles, torch.zeros_like(peak, dtype=torch.int32)
    exponent = torch.frexp(torch.where(outside, peak, 0.0)).exponent.to(torch.int32)
    return [times_power_of_two(array, -exponent) for array in doubles], exponent


def _peak(array: Tensor) -> Tensor:
    flat = array.flatten(1) if array.ndim > 1 else array[:, None]
    return flat.abs().amax(1) if flat.shape[1] else flat.new_zeros(len(flat))


def times_power_of_two(array: Float[Tensor, "runs *_"], exponent: Int[Tensor, " runs"]) -> Float[Tensor, "runs *_"]:
    """Each run's numbers times 2 to its exponent; exact unless the result is out of float64's range."""
    exponent = exponent.reshape(-1, *(1 for _ in array.shape[1:]))
    scaled: Tensor = _Scaled.apply(array, exponent) if array.requires_grad else _scaled(array, exponent)
    return scaled


def _scaled(array: Tensor, exponent: Tensor) -> Tensor:
    half = exponent // 2  # 2 to the whole exponent may be out of range where the result is not
    return torch.ldexp(torch.ldexp(array, half), exponent - half)


class _Scaled(torch.autograd.Function):
    """`_scaled` with its gradient, which torch.ldexp takes to be 0 for negative exponents."""

    @staticmethod
    def forward(ctx: Any, array: Tensor, exponent: Tensor) -> Tensor:
        ctx.save_for_backward(exponent)
        return _scaled(array, exponent)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return _scaled(gradients[0], ctx.saved_tensors[0]), None
