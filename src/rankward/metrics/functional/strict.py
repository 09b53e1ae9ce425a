"""Arithmetic whose bits for one matrix do not depend on the others in its batch, nor on the number of threads.

Elementwise plus, minus, times, divide and square root are rounded as IEEE 754 says, wherever they run. Sums are not
(torch picks an order by shape), nor is `torch.pow` (a vector's tail takes another routine). Powers of two are made of
bits: multiplying by one is exact.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int64
from torch import Tensor


def ordered_sum(terms: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The sum over the last axis, halves added to halves: an order that `n` alone fixes.

    Example:
        >>> ordered_sum(torch.tensor([1.0, 2.0, 3.0])).item()
        6.0
    """
    n = terms.shape[-1]
    if n == 1:
        return terms[..., 0]
    if n % 2:
        return ordered_sum(terms[..., :-1]) + terms[..., -1]
    return ordered_sum(terms[..., : n // 2] + terms[..., n // 2 :])


def power(base: Float[Tensor, "*batch"], p: float) -> Float[Tensor, "*batch"]:
    """base^p for base >= 0 and p > 0; root and square are rounded correctly.

    Example:
        >>> power(torch.tensor([0.0, 8.0], dtype=torch.float64), 1 / 3).tolist()
        [0.0, 2.0]
    """
    if p == 0.5:
        return base.sqrt()
    return base * base if p == 2 else torch.exp(p * torch.log(base))


def exponent(x: Float[Tensor, "*batch"]) -> Int64[Tensor, "*batch"]:
    """floor(log2 |x|) of float64 `x`, held to -1022 (which zero gets) ... 1022."""
    return ((x.detach().view(torch.int64) >> 52) & 0x7FF).clamp(1, 2045) - 1023


def two_to(power: Int64[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """2^power, exactly, for powers from -1022 to 1023."""
    return ((power + 1023) << 52).view(torch.float64)


def times_two_to(x: Float[Tensor, "*batch"], power: Int64[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
    """x 2^power for any power: in two steps, since 2^power itself may be no float64."""
    power = power.clamp(-2044, 2044)
    half = power >> 1
    return x * two_to(half) * two_to(power - half)


def root_of_squares(terms: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The Euclidean norm over the last axis: nothing overflows on the way, and NaN or infinity gives NaN.

    Example:
        >>> root_of_squares(torch.tensor([3e200, 4e200], dtype=torch.float64)).item()
        5e+200
    """
    peak = exponent(terms).amax(-1)
    scaled = terms * two_to(-peak)[..., None]
    return ordered_sum(scaled * scaled).sqrt() * two_to(peak) + nan_unless_finite(terms)


def nan_unless_finite(terms: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """Something to add: 0 where all of the last axis is finite, NaN elsewhere."""
    return ordered_sum(terms * 0.0)


def two_sum(x: Float[Tensor, "*batch"], y: Float[Tensor, "*batch"]) -> tuple[Tensor, Tensor]:
    """x + y rounded, and the error of that rounding, exactly (Knuth)."""
    total = x + y
    part = total - x
    return total, (x - (total - part)) + (y - part)


def two_product(x: Float[Tensor, "*batch"], y: Float[Tensor, "*batch"]) -> tuple[Tensor, Tensor]:
    """x y rounded, and the error of that rounding, exactly where nothing under- or overflows (Dekker, Veltkamp)."""
    product = x * y
    (x_high, x_low), (y_high, y_low) = _split(x), _split(y)
    return product, ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    shifted = x * 134217729.0  # 2^27 + 1
    high = shifted - (shifted - x)
    return high, x - high
