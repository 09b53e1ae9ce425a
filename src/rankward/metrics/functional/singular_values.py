"""Singular values whose bits do not depend on the other matrices of a batch."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def determinant_2x2(matrix: Float[Tensor, "*batch 2 2"]) -> Float[Tensor, "*batch"]:
    """ad - bc to full relative accuracy: products and difference are split into rounding and error (Dekker, Knuth).

    Entries must be scaled to at most 1, so that nothing overflows; products below 1e-290 may underflow.
    """
    a, b, c, d = (matrix[..., i, j].contiguous() for i in (0, 1) for j in (0, 1))
    first, first_error = _two_product(a, d)
    second, second_error = _two_product(b, c)
    error = first_error - second_error
    part = error - first_error
    lost = (first_error - (error - part)) - (second_error + part)
    return ((first - second) + error) + lost


def singular_values(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch least"]:
    """Singular values in descending order, float64, for any leading axes.

    Vectors and 2x2 matrices by closed form, to full relative accuracy even where sigma_2/sigma_1 is 1e-14; others by
    LAPACK, accurate relative to sigma_1. A matrix with NaN or infinity has NaN singular values.

    Example:
        >>> singular_values(torch.tensor([[0.0, 1e-12], [1.0, 0.0]], dtype=torch.float64)).tolist()
        [1.0, 1e-12]
    """
    rows, cols = matrix.shape[-2:]
    lead = matrix.shape[:-2]
    flat = matrix.reshape(-1, rows, cols).double()
    if min(rows, cols) == 1 or (rows, cols) == (2, 2):
        values = _ClosedForm.apply(flat) if flat.requires_grad else _by_closed_form(flat)
    else:
        finite = torch.isfinite(flat).all(-1).all(-1)
        values = torch.full((len(flat), min(rows, cols)), torch.nan, dtype=torch.float64, device=flat.device)
        if finite.any():
            # Zeros up to multiples of 8: LAPACK's bits depend on how a matrix is aligned in memory.
            padded = torch.nn.functional.pad(flat[finite], (0, -cols % 8, 0, -rows % 8))
            values[finite] = torch.linalg.svdvals(padded)[:, : min(rows, cols)]
    return values.reshape(*lead, min(rows, cols))


class _ClosedForm(torch.autograd.Function):
    """Values by closed form with LAPACK's gradient: a closed form has none where singular values are equal."""

    @staticmethod
    def forward(ctx: Any, flat: Tensor) -> Tensor:
        ctx.save_for_backward(flat)
        return _by_closed_form(flat)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (flat,) = ctx.saved_tensors
        finite = torch.isfinite(flat).all(-1).all(-1)[:, None, None]
        with torch.enable_grad():
            matrix = torch.where(finite, flat.detach(), 0.0).requires_grad_()
            values = torch.linalg.svdvals(matrix)
        return torch.where(finite, torch.autograd.grad(values, matrix, gradients)[0], torch.nan)


def _by_closed_form(flat: Tensor) -> Tensor:
    """Singular values of vectors and of 2x2 matrices."""
    if flat.shape[1:] == (2, 2):
        return _singular_values_2x2(flat)
    scaled, exponent = scaled_by_power_of_two(flat)
    return torch.ldexp(_root_of_squares(scaled.reshape(len(flat), -1)), exponent)[:, None]


def _singular_values_2x2(flat: Tensor) -> Tensor:
    scaled, exponent = scaled_by_power_of_two(flat)
    a, b, c, d = (scaled[:, i, j].contiguous() for i in (0, 1) for j in (0, 1))
    largest = 0.5 * (_hypot(a + d, b - c) + _hypot(a - d, b + c))
    smallest = determinant_2x2(scaled).abs() / torch.where(largest > 0, largest, 1.0)
    smallest = torch.where(torch.isfinite(largest), torch.minimum(smallest, largest), torch.nan)
    return torch.stack([torch.ldexp(largest, exponent), torch.ldexp(smallest, exponent)], dim=-1)


def scaled_by_power_of_two(flat: Tensor) -> tuple[Tensor, Tensor]:
    """Matrices divided by a power of two (so exactly) to a largest entry between 1/2 and 1; and the exponent."""
    peak = flat.abs().amax((-2, -1))
    exponent = torch.frexp(torch.where(torch.isfinite(peak) & (peak > 0), peak, 1.0)).exponent.to(torch.int32)
    scaled = torch.ldexp(
        torch.ldexp(flat, (-exponent // 2)[:, None, None]), (-exponent - -exponent // 2)[:, None, None]
    )
    return torch.where(torch.isfinite(peak)[:, None, None], scaled, torch.nan), exponent


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)


def _root_of_squares(entries: Tensor) -> Tensor:
    total = entries[:, 0] * entries[:, 0]
    for k in range(1, entries.shape[1]):
        total = total + entries[:, k] * entries[:, k]
    return torch.sqrt(total)


def _two_product(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """x*y rounded, and the error of that rounding, exactly (Dekker's product, Veltkamp's splitting)."""
    product = x * y
    x_high, x_low = _split(x)
    y_high, y_low = _split(y)
    return product, ((x_high * y_high - product) + x_high * y_low + x_low * y_high) + x_low * y_low


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    shifted = x * 134217729.0  # 2^27 + 1
    high = shifted - (shifted - x)
    return high, x - high


def thin_singular_values(
    left: Float[Tensor, "rows rank"], right: Float[Tensor, "cols rank"]
) -> Float[Tensor, " least"]:
    """Singular values of A B' from its halves, in descending order, float64; zeros from the rank on.

    They are those of R_A R_B', the triangular factors of A = Q_A R_A and B = Q_B R_B, so that A B' is not written down.
    They are accurate relative to sigma_1 of A times sigma_1 of B. Halves with NaN or infinity have NaN singular values.

    Example:
        >>> thin_singular_values(torch.tensor([[3.0], [4.0]]), torch.tensor([[0.0], [2.0], [0.0]])).tolist()
        [10.0, 0.0]
    """
    least = min(len(left), len(right))
    values = torch.zeros(least, dtype=torch.float64)
    if not (torch.isfinite(left).all() and torch.isfinite(right).all()):
        return torch.full_like(values, torch.nan)
    inner = torch.linalg.qr(left.double(), mode="r").R @ torch.linalg.qr(right.double(), mode="r").R.T
    found = torch.linalg.svdvals(inner)[:least]
    values[: len(found)] = found
    return values
