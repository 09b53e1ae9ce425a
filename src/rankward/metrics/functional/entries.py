"""What is read off the product and the factors themselves: entries, determinant, balancedness, reconstruction."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.ranks import check_count
from rankward.metrics.functional.singular_values import (
    determinant_2x2,
    runs_innermost,
    singular_values,
    strict_matmul,
)
from rankward.metrics.functional.strict import nan_unless_finite, root_of_squares


def product_entries(matrix: Float[Tensor, "*batch rows cols"], largest: int = 16) -> Float[Tensor, "*batch r c"]:
    """The matrix itself, or where it has more than `largest` entries its top left block of at most so many.

    The block is as square as the matrix lets it be.

    Raises:
        ValueError: largest that is no integer of at least 1.

    Example:
        >>> product_entries(torch.zeros(7, 100, 3)).shape
        torch.Size([7, 5, 3])
    """
    check_count("largest", largest, 1)
    rows, cols = matrix.shape[-2:]
    if rows * cols > largest:
        side = math.isqrt(largest)
        kept_rows = min(rows, side) if cols > side else largest // cols
        rows, cols = kept_rows, min(cols, largest // kept_rows)
    return matrix[..., :rows, :cols].double()


def determinant_sign(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """1, 0 or -1: exact for 1x1 and 2x2 matrices, by LU beyond.

    NaN for a matrix that is not square, or that holds NaN or infinity.

    Example:
        >>> determinant_sign(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).item()
        -1.0
    """
    *lead, rows, cols = matrix.shape
    flat = matrix.reshape(-1, rows, cols).double()
    if rows != cols:
        return torch.full(lead, torch.nan, dtype=torch.float64, device=matrix.device)
    if rows == 1:
        sign = torch.sign(flat[:, 0, 0])
    elif rows == 2:
        sign = torch.sign(determinant_2x2(flat)[0])
    else:
        # Borders of the identity up to a multiple of 64 bytes: LAPACK's bits depend on where a matrix begins in memory.
        border = -rows % 8
        padded = torch.nn.functional.pad(flat.nan_to_num(0.0, 0.0, 0.0), (0, border, 0, border))
        padded.diagonal(dim1=-2, dim2=-1)[:, rows:] = 1.0
        sign = torch.linalg.slogdet(padded).sign
    return (sign + nan_unless_finite(flat.flatten(-2))).reshape(lead)


def unbalancedness(factors: Sequence[Float[Tensor, "*batch _ _"]]) -> Float[Tensor, "*batch"]:
    """The largest spectral norm, over layers l, of W_{l+1}^T W_{l+1} - W_l W_l^T: zero where Equation 5 holds.

    NaN where a factor holds NaN or infinity, or is so large that its square overflows.

    Args:
        factors: W_1, ..., W_L; layer l is [runs, ..., d_l, d_(l-1)]. A single layer has nothing to balance: 0.

    Raises:
        ValueError: no factors.

    Example:
        >>> unbalancedness([2 * torch.eye(2), torch.eye(2)]).item()
        3.0
    """
    if not factors:
        raise ValueError("factors: expected at least one")
    below = runs_innermost(factors[0].double())
    largest = nan_unless_finite(below.flatten(-2)) if len(factors) == 1 else torch.zeros_like(below[..., 0, 0])
    for factor in factors[1:]:
        above = runs_innermost(factor.double())
        largest = torch.maximum(largest, _spectral(strict_matmul(above.mT, above) - strict_matmul(below, below.mT)))
        below = above
    return largest


def _spectral(symmetric: Tensor) -> Tensor:
    if symmetric.shape[-1] != 2:
        return singular_values(symmetric)[..., 0]
    a, b, d = symmetric[..., 0, 0], symmetric[..., 0, 1], symmetric[..., 1, 1]
    return 0.5 * ((a + d).abs() + root_of_squares(torch.stack([a - d, b + b]).movedim(0, -1)))


def reconstruction_error(
    matrix: Float[Tensor, "*batch rows cols"], ground_truth: Float[Tensor, "*#batch rows cols"], relative: bool = False
) -> Float[Tensor, "*batch"]:
    """The Frobenius distance from the ground truth (as in Figure 2); NaN where there is NaN or infinity.

    Args:
        matrix: [runs, ..., d, d'].
        ground_truth: broadcast against `matrix`.
        relative: divide by the ground truth's Frobenius norm (a zero ground truth gives infinity, or NaN for 0/0).

    Example:
        >>> reconstruction_error(torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
        5.0
    """
    truth = ground_truth.double()
    error = root_of_squares((matrix.double() - truth).flatten(-2))
    return error / root_of_squares(truth.flatten(-2)) if relative else error
