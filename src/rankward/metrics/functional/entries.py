"""Determinant, balancedness and reconstruction error of products and factors."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from rankward.linalg import product_matrix
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


def product_sign(
    product: Float[Tensor, "runs rows cols"], factors: Sequence[Tensor] | None = None
) -> Float[Tensor, " runs"]:
    """The sign of a product's determinant: of its square factors one by one where it is their product matrix.

    The factors' signs are exact long after rounding has taken the product's. Where the factors are not square matrices,
    or W_L ... W_1 is not `product` to the bit, the sign is that of `product` itself.

    Example:
        >>> tiny = torch.diag(torch.tensor([1.0, 1e-200], dtype=torch.float64))[None]
        >>> product_sign(tiny @ tiny, [tiny, tiny]).item(), product_sign(tiny @ tiny).item()
        (1.0, 0.0)
    """
    sign = determinant_sign(product)
    if not (factors and all(is_square(factor) for factor in factors)):
        return sign
    exact = torch.ones_like(sign)
    for factor in factors:
        exact = exact * determinant_sign(factor)
    return torch.where(is_product(product, factors), exact, sign)


def log_determinant(
    spectral: Sequence[Float[Tensor, "runs ..."]],
) -> tuple[Float[Tensor, " runs"], Float[Tensor, " runs"]]:
    """The sign of a determinant and the logarithm of its size, from U, ln sigma and V of the product.

    Example:
        >>> sign, size = log_determinant([torch.eye(2)[None], torch.tensor([[1.0, -3000.0]]), -torch.eye(2)[None]])
        >>> sign.item(), size.item()
        (1.0, -2999.0)
    """
    left, logs, right = (each.double() for each in spectral)
    return determinant_sign(left) * determinant_sign(right), logs.sum(-1)


def determinant_resolution(
    product: Float[Tensor, "runs rows cols"], factors: Sequence[Tensor] | None = None
) -> Float[Tensor, " runs"]:
    """Relative distance of a determinant from zero: the smallest ratio of singular values of any factor.

    The singular value is the n-th, for an n x n product: the smallest of a square factor, and that of a wide or tall
    one at which the product loses its rank. Where W_L ... W_1 is not `product` to the bit, the ratio is that of
    `product` itself. NaN for a zero matrix, and for a product that is not square.

    Example:
        >>> factors = [torch.eye(2)[None], torch.diag(torch.tensor([1.0, 0.25]))[None]]
        >>> determinant_resolution(factors[1] @ factors[0], factors).item()
        0.25
        >>> determinant_resolution(torch.diag(torch.tensor([4.0, 1.0]))[None]).item()
        0.25
    """
    size = product.shape[-1]
    if product.shape[-2] != size:
        return torch.full(product.shape[:-2], torch.nan, dtype=torch.float64, device=product.device)
    ratio = _last_ratio(product, size)
    if not (factors and all(factor.ndim == product.ndim and min(factor.shape[-2:]) >= size for factor in factors)):
        return ratio
    least = torch.stack([_last_ratio(factor, size) for factor in factors]).amin(0)
    return torch.where(is_product(product, factors), least, ratio)


def _last_ratio(matrix: Tensor, size: int) -> Tensor:
    values = singular_values(matrix)
    return values[..., size - 1] / values[..., 0]


def is_square(matrix: Tensor) -> bool:
    """Whether it is a square matrix, or a batch of them, and no tensor of another order."""
    return matrix.ndim == 3 and matrix.shape[-2] == matrix.shape[-1]


def is_product(product: Float[Tensor, "runs rows cols"], factors: Sequence[Tensor]) -> Bool[Tensor, " runs"]:
    """Whether each product is W_L ... W_1 (Equation 3), to the bit; no factorization of another form is taken for one.

    Example:
        >>> eye = torch.eye(2)[None]
        >>> is_product(eye, [eye, eye]).item(), is_product(2 * eye, [eye, eye]).item()
        (True, False)
    """
    shapes = [factor.shape for factor in factors]
    chained = all(below[-2] == above[-1] for below, above in pairwise(shapes))
    if not chained or (shapes[-1][-2], shapes[0][-1]) != tuple(product.shape[-2:]):
        return torch.zeros(len(product), dtype=torch.bool, device=product.device)
    made = product_matrix([factor.double() for factor in factors])
    return ((made == product) | (made.isnan() & product.isnan())).flatten(1).all(1)


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
    """The absolute Frobenius distance from the ground truth; `relative` divides by the truth's norm, NaN where it is 0.

    Entries that the ground truth lacks (NaN) have no effect, neither on the distance nor on the norm.

    Example:
        >>> reconstruction_error(torch.zeros(2, 2), torch.tensor([[3.0, 0.0], [0.0, 4.0]])).item()
        5.0
    """
    missing = ground_truth.isnan()
    if missing.any():
        matrix, ground_truth = torch.where(missing, 0.0, matrix), torch.where(missing, 0.0, ground_truth)
    error = root_of_squares((matrix.double() - ground_truth.double()).flatten(-2))
    if not relative:
        return error
    size = root_of_squares(ground_truth.double().flatten(-2))
    return torch.where(size > 0, error / size, torch.nan)


def masked_rmse(
    array: Float[Tensor, "runs *dims"], target: Float[Tensor, "runs *dims"], mask: Bool[Tensor, "runs *dims"]
) -> Float[Tensor, " runs"]:
    """Root-mean-square difference over the entries where `mask` is true; NaN where it is false throughout.

    Entries outside of the mask have no effect, even if they are NaN or infinite.

    Example:
        >>> array, mask = torch.tensor([[1.0, 5.0, 9.0]]), torch.tensor([[True, True, False]])
        >>> masked_rmse(array, torch.tensor([[0.0, -2.0, 0.0]]), mask).item()
        5.0
    """
    differences = torch.where(mask, array.double() - target.double(), 0.0)
    return root_of_squares(differences.flatten(1)) / mask.flatten(1).sum(1).double().sqrt()


def masked_mse(
    array: Float[Tensor, "runs *dims"],
    target: Float[Tensor, "runs *dims"],
    mask: Bool[Tensor, "runs *dims"],
    clamp: float | None = None,
) -> Float[Tensor, " runs"]:
    """Mean squared difference over the entries where `mask` is true, each square at most `clamp`.

    NaN where the mask is false throughout. Entries outside of the mask have no effect, even if they are not finite.
    A square that is infinite counts as `clamp`, one that is NaN makes the mean NaN.

    Example:
        >>> array, mask = torch.tensor([[1.0, 5.0, 9.0]]), torch.tensor([[True, True, False]])
        >>> masked_mse(array, torch.zeros(1, 3), mask).item(), masked_mse(array, torch.zeros(1, 3), mask, 4.0).item()
        (13.0, 2.5)
    """
    squares = torch.where(mask, array.double() - target.double(), 0.0).square()
    squares = squares if clamp is None else squares.clamp(max=clamp)
    return squares.flatten(1).sum(1) / mask.flatten(1).sum(1).double()
