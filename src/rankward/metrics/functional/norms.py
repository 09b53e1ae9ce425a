"""Schatten norms and quasi-norms (Section 2.1), from singular values."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.singular_values import singular_values


def ordered_sum(terms: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The sum over the last axis in an order of its own: `torch.sum` may take another order for another batch.

    Long axes are halved (first half plus second) down to 64 terms, which are summed from the first to the last.
    """
    while terms.shape[-1] > 64:
        half = terms.shape[-1] // 2
        rest = terms[..., 2 * half :]
        terms = torch.cat([terms[..., :half] + terms[..., half : 2 * half], rest], dim=-1)
    total = terms[..., 0].clone()
    for k in range(1, terms.shape[-1]):
        total += terms[..., k]
    return total


def check_p(p: float) -> None:
    """Refuse, by a ValueError, a p that no Schatten (quasi-)norm has."""
    if not p > 0:
        raise ValueError(f"p: {p} is not allowed; expected a number in (0, inf]")


def schatten_norm_from_singular_values(values: Float[Tensor, "*batch n"], p: float) -> Float[Tensor, "*batch"]:
    """(sum sigma_r^p)^(1/p), for p in (0, inf]; below p = 1 a quasi-norm. `values` descend.

    Relative to sigma_1, so that nothing overflows. Zero gives 0, NaN gives NaN.

    Raises:
        ValueError: p that is not above 0.
    """
    check_p(p)
    largest = values[..., 0]
    if math.isinf(p):
        return largest.clone()
    if p == 1:
        return ordered_sum(values)
    ratios = values / torch.where(largest > 0, largest, 1.0)[..., None]
    if p == 2:
        return largest * ordered_sum(ratios * ratios).sqrt()
    # exp and log, and not pow: its bits depend on where in a batch a number stands.
    total = ordered_sum(torch.exp(p * torch.log(ratios.contiguous())))
    return torch.where(largest > 0, largest * torch.exp(torch.log(total) / p), largest)


def schatten_norm(matrix: Float[Tensor, "*batch rows cols"], p: float) -> Float[Tensor, "*batch"]:
    """The Schatten-p (quasi-)norm of each matrix, float64.

    Args:
        matrix: [runs, ..., d, d'].
        p: in (0, inf].

    Raises:
        ValueError: p that is not above 0.

    Example:
        >>> schatten_norm(torch.diag(torch.tensor([3.0, 4.0])), p=2).item()
        5.0
    """
    return schatten_norm_from_singular_values(singular_values(matrix), p)


def nuclear_norm(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """The sum of singular values (Conjecture 1's norm).

    Example:
        >>> nuclear_norm(torch.diag(torch.tensor([3.0, 4.0]))).item()
        7.0
    """
    return schatten_norm(matrix, 1)


def frobenius_norm(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """The square root of the sum of squared singular values."""
    return schatten_norm(matrix, 2)


def spectral_norm(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """The largest singular value."""
    return schatten_norm(matrix, math.inf)
