"""What is read off the product and the factors themselves: determinant, balancedness, reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.conserved import differences
from rankward.metrics.functional.norms import root_of_squares
from rankward.metrics.functional.scaling import in_range, times_power_of_two
from rankward.metrics.functional.singular_values import (
    determinant_2x2,
    scaled_by_power_of_two,
    singular_values,
)


def determinant_sign(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """1, 0 or -1; exact for 2x2 matrices, by LU beyond. NaN for a matrix that is not square, or holds NaN or infinity.

    Example:
        >>> determinant_sign(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).item()
        -1.0
    """
    rows, cols = matrix.shape[-2:]
    lead = matrix.shape[:-2]
    flat = matrix.reshape(-1, rows, cols).double()
    sign = torch.full((len(flat),), torch.nan, dtype=torch.float64, device=flat.device)
    if rows == cols == 2:
        sign = torch.sign(determinant_2x2(scaled_by_power_of_two(flat)[0]))
        sign = torch.where(torch.isfinite(flat).all(-1).all(-1), sign, torch.nan)
    elif rows == cols:
        finite = torch.isfinite(flat).all(-1).all(-1)
        sign[finite] = torch.linalg.slogdet(flat[finite]).sign
    return sign.reshape(lead)


def determinant_resolution(factors: Sequence[Float[Tensor, "*batch size size"]]) -> Float[Tensor, "*batch"]:
    """The least ratio, over square factors, of the smallest singular value to the largest; NaN for a zero factor.

    Example:
        >>> determinant_resolution([torch.eye(2), torch.diag(torch.tensor([1.0, 0.25]))]).item()
        0.25
    """
    least = None
    for factor in factors:
        values = singular_values(factor)
        ratio = values[..., -1] / values[..., 0]
        least = ratio if least is None else torch.minimum(least, ratio)
    assert least is not None
    return least


def unbalancedness(factors: Sequence[Float[Tensor, "*batch _ _"]]) -> Float[Tensor, "*batch"]:
    """The largest spectral norm, over layers l, of W_{l+1}^T W_{l+1} - W_l W_l^T: zero where Equation 5 holds.

    Args:
        factors: W_1, ..., W_L, layer l [runs, ..., d_l, d_(l-1)]. A single layer has nothing to balance: 0.

    Example:
        >>> unbalancedness([2 * torch.eye(2), torch.eye(2)]).item()
        3.0
    """
    lead = factors[0].shape[:-2]
    scaled, exponent = in_range([factor.reshape(-1, *factor.shape[-2:]) for factor in factors])
    largest = torch.zeros(len(scaled[0]), dtype=torch.float64, device=factors[0].device)
    for difference in differences(scaled):
        largest = torch.maximum(largest, singular_values(difference)[..., 0])
    return times_power_of_two(largest, 2 * exponent).reshape(lead)


def reconstruction_error(
    matrix: Float[Tensor, "*batch rows cols"], ground_truth: Float[Tensor, "*#batch rows cols"], relative: bool = False
) -> Float[Tensor, "*batch"]:
    """The Frobenius distance from the ground truth; `relative` divides by the ground truth's norm, NaN where it is 0.

    Example:
        >>> reconstruction_error(torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
        5.0
    """
    error = root_of_squares((matrix.double() - ground_truth.double()).flatten(-2))
    if not relative:
        return error
    size = root_of_squares(ground_truth.double().flatten(-2))
    return torch.where(size > 0, error / size, torch.nan)
