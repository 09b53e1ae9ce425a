"""Schatten norms and quasi-norms (Section 2.1), from singular values."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.singular_values import singular_values
from rankward.metrics.functional.strict import ordered_sum, power


def check_p(p: float) -> float:
    """`p` itself.

    Raises:
        ValueError: p that is NaN or not above 0.
    """
    if not p > 0:
        raise ValueError(f"p: {p} is not allowed; expected a number in (0, inf]")
    return p


def schatten_norm_from_singular_values(values: Float[Tensor, "*batch n"], p: float) -> Float[Tensor, "*batch"]:
    """(sum sigma_r^p)^(1/p) for singular values in descending order; see `schatten_norm`.

    Relative to sigma_1, so that no power overflows. Zero gives 0, NaN gives NaN.

    Example:
        >>> schatten_norm_from_singular_values(torch.tensor([4.0, 3.0]), 2).item()
        5.0
    """
    check_p(p)
    largest = values[..., 0]
    if math.isinf(p):
        return largest
    if p == 1:
        return ordered_sum(values)
    ratios = values / torch.where(largest > 0, largest, 1.0)[..., None]
    return largest * power(ordered_sum(power(ratios, p)), 1 / p)


def schatten_norm(matrix: Float[Tensor, "*batch rows cols"], p: float) -> Float[Tensor, "*batch"]:
    """The Schatten-p norm (p >= 1) or quasi-norm (p < 1) of each matrix: (sum sigma_r^p)^(1/p), sigma_1 for p = inf.

    Footnote 5 of the paper. Zero gives 0; a matrix with NaN or infinity gives NaN.

    Args:
        matrix: [runs, ..., d, d'].
        p: in (0, inf].

    Raises:
        ValueError: p that is NaN or not above 0.

    Example:
        >>> schatten_norm(torch.diag(torch.tensor([4.0, 9.0])), p=0.5).item()
        25.0
    """
    return schatten_norm_from_singular_values(singular_values(matrix), p)


def nuclear_norm(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """The sum of singular values (Conjecture 1's norm): Schatten with p = 1.

    Example:
        >>> nuclear_norm(torch.diag(torch.tensor([3.0, -4.0]))).item()
        7.0
    """
    return schatten_norm(matrix, 1)


def frobenius_norm(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """The root of the sum of squared entries: Schatten with p = 2.

    Example:
        >>> frobenius_norm(torch.tensor([[0.0, 3.0], [4.0, 0.0]])).item()
        5.0
    """
    return schatten_norm(matrix, 2)


def spectral_norm(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """The largest singular value: Schatten with p = infinity.

    Example:
        >>> spectral_norm(torch.diag(torch.tensor([3.0, -4.0]))).item()
        4.0
    """
    return schatten_norm(matrix, math.inf)
