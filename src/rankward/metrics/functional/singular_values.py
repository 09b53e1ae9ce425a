"""Products, determinants and singular values whose bits do not depend on what else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.strict import (
    exponent,
    nan_unless_finite,
    root_of_squares,
    times_two_to,
    two_product,
    two_sum,
    two_to,
)


def strict_matmul(left: Float[Tensor, "*batch n k"], right: Float[Tensor, "*batch k m"]) -> Float[Tensor, "*batch n m"]:
    """A matrix product summed in ascending k, elementwise: the same bits for any batch (BLAS promises none).

    Example:
        >>> strict_matmul(torch.ones(5, 2, 3), torch.ones(5, 3, 2))[0, 0, 0].item()
        3.0
    """
    result = left[..., :, 0, None] * right[..., None, 0, :]
    for k in range(1, left.shape[-1]):
        result = result + left[..., :, k, None] * right[..., None, k, :]
    return result


def runs_innermost(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch rows cols"]:
    """The same values, laid out entry by entry in memory: elementwise work on small matrices is ten times as fast."""
    *lead, rows, cols = matrix.shape
    return matrix.reshape(-1, rows * cols).T.contiguous().T.reshape(*lead, rows, cols)


def product_matrix(factors: Sequence[Float[Tensor, "*batch _ _"]]) -> Float[Tensor, "*batch rows cols"]:
    """W = W_L ... W_1 (Equation 3) in float64.

    Args:
        factors: W_1, ..., W_L; layer l is [runs, ..., d_l, d_(l-1)].

    Raises:
        ValueError: no factors.

    Example:
        >>> product_matrix([torch.ones(3, 2), 2 * torch.ones(1, 3)]).tolist()
        [[6.0, 6.0]]
    """
    if not factors:
        raise ValueError("factors: expected at least one")
    result = runs_innermost(factors[0].double())
    for factor in factors[1:]:
        result = strict_matmul(runs_innermost(factor.double()), result)
    return result


def determinant_2x2(matrix: Float[Tensor, "*batch 2 2"]) -> tuple[Tensor, Tensor]:
    """ad - bc to full relative accuracy and with its exact sign, as (m, e) for m 2^e, so that nothing under- or overflows.

    Both products are split into their rounding and its error, so that what cancels is exact. NaN or infinity gives an
    m that is NaN or infinite.

    Example:
        >>> m, e = determinant_2x2(torch.tensor([[2.0, 1.0], [1.0, 1.0]], dtype=torch.float64))
        >>> (m * 2.0**e).item()
        1.0
    """
    entries = matrix.reshape(-1, 4).T.contiguous()  # a, b, c, d
    powers = exponent(entries)
    mantissas = entries * two_to(-powers)
    products, errors = two_product(mantissas[:2], mantissas[2:].flip(0))  # ad and bc
    powers = (powers[:2] + powers[2:].flip(0)).masked_fill(products == 0, -2044)  # a zero must not set the scale
    top = torch.maximum(powers[0], powers[1])
    shifts = two_to((powers - top).clamp(min=-1022))
    (ad, bc), (ad_error, bc_error) = products * shifts, errors * shifts
    difference, rounded_off = two_sum(ad, -bc)
    error, error_rounded_off = two_sum(ad_error, -bc_error)
    lead = matrix.shape[:-2]
    return ((difference + error) + (rounded_off + error_rounded_off)).reshape(lead), top.reshape(lead)


def singular_values(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch least"]:
    """Singular values in descending order, float64, for any leading axes.

    Vectors and 2x2 matrices by closed form, to full relative accuracy even where sigma_2/sigma_1 is 1e-14 (or 1e-300);
    others by LAPACK, accurate relative to sigma_1. A matrix with NaN or infinity has NaN singular values.

    Example:
        >>> singular_values(torch.tensor([[0.0, 1e-12], [1.0, 0.0]], dtype=torch.float64)).tolist()
        [1.0, 1e-12]
    """
    *lead, rows, cols = matrix.shape
    flat = matrix.reshape(-1, rows, cols).double()
    if min(rows, cols) == 1:
        values = root_of_squares(flat.reshape(len(flat), rows * cols))[:, None]
    elif (rows, cols) == (2, 2):
        values = _closed_form_2x2(flat)
    else:
        values = _lapack(flat)
    return values.reshape(*lead, min(rows, cols))


def _closed_form_2x2(flat: Tensor) -> Tensor:
    entries = flat.reshape(-1, 4).T.contiguous()
    peak = exponent(entries).amax(0)
    a, b, c, d = entries * two_to(-peak)
    largest = 0.5 * (_hypot(a + d, b - c) + _hypot(a - d, b + c))  # a sum of what rotates and what reflects
    determinant, power = determinant_2x2(flat)
    smallest = determinant.abs() / torch.where(largest > 0, largest, 1.0)
    largest = largest * two_to(peak)
    smallest = torch.minimum(times_two_to(smallest, power - peak), largest)
    return (torch.stack([largest, smallest]) + nan_unless_finite(entries.T)).T


def _lapack(flat: Tensor) -> Tensor:
    rows, cols = flat.shape[-2:]
    finite = nan_unless_finite(flat.flatten(-2))
    # Zero rows and columns up to a multiple of 64 bytes: LAPACK's bits depend on where a matrix begins in memory.
    padded = torch.nn.functional.pad(flat.nan_to_num(0.0, 0.0, 0.0), (0, -cols % 8, 0, -rows % 8))
    return torch.linalg.svdvals(padded)[:, : min(rows, cols)] + finite[:, None]


def _hypot(x: Tensor, y: Tensor) -> Tensor:
    return torch.sqrt(x * x + y * y)
