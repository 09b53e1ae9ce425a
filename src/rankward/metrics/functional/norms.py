"""Schatten norms and quasi-norms (Section 2.1), from singular values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.scaling import in_range, times_power_of_two
from rankward.metrics.functional.singular_values import singular_values

TINY = torch.finfo(torch.float64).tiny
EXP_LIMIT = 700.0  # of exp's argument in float64


def ordered_sum(terms: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The sum over the last axis in a fixed order, since the order of `torch.sum` may depend on the batch.

    Long axes are halved (first half plus second) down to 64 terms, which are summed from the first to the last.
    """
    while terms.shape[-1] > 64:
        half = terms.shape[-1] // 2
        last = terms[..., 2 * half :]
        terms = torch.cat([terms[..., :half] + terms[..., half : 2 * half], last], dim=-1)
    total = terms[..., 0].clone()
    for k in range(1, terms.shape[-1]):
        total += terms[..., k]
    return total


def root_of_squares(terms: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """The Euclidean norm along the last axis, float64; squares are scaled, so that none overflows or underflows.

    Example:
        >>> root_of_squares(torch.tensor([3e300, 4e300], dtype=torch.float64)).item()
        5e+300
    """
    (scaled,), exponent = in_range([terms.reshape(-1, terms.shape[-1])])
    return times_power_of_two(ordered_sum(scaled * scaled).sqrt(), exponent).reshape(terms.shape[:-1])


def check_p(p: float) -> None:
    """Refuse, by a ValueError, a p that no Schatten (quasi-)norm has."""
    if isinstance(p, bool) or not (isinstance(p, Real) and p > 0):
        raise ValueError(f"p: {p} is not allowed; expected a number in (0, inf]")


def powers(p: float | Sequence[float]) -> tuple[float, ...]:
    """One p or several, checked by `check_p`; none is a ValueError, too.

    Example:
        >>> powers(2), powers([0.5, 1])
        ((2,), (0.5, 1))
    """
    given = tuple(p) if isinstance(p, Sequence) and not isinstance(p, str) else (p,)
    if not given:
        raise ValueError("p: an empty list is not allowed; expected a number in (0, inf], or several")
    for each in given:
        check_p(each)  # type: ignore[arg-type]
    return given  # type: ignore[return-value]


def schatten_norm_from_singular_values(values: Float[Tensor, "*batch n"], p: float) -> Float[Tensor, "*batch"]:
    """(sum sigma_r^p)^(1/p), for p in (0, inf]; below p = 1 a quasi-norm. `values` descend.

    Relative to sigma_1: only a norm that is itself out of float64's range overflows. Zero gives 0, NaN gives NaN.

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
        return torch.where(torch.isinf(largest), largest, largest * ordered_sum(ratios * ratios).sqrt())
    # exp and log, and not pow: its bits depend on where in a batch a number stands.
    logs = torch.log(ratios.contiguous())
    lost = (ratios < TINY) & (values > 0)  # ratios out of range, which a small power brings back
    if lost.any():
        logs = torch.where(lost, torch.log(values) - torch.log(largest)[..., None], logs)
    growth = torch.log(ordered_sum(torch.exp(p * logs))) / p
    norm = largest * torch.exp(growth)
    if (growth > EXP_LIMIT).any():  # it overflows alone, but not times a small sigma_1
        third = torch.exp(growth / 3)
        norm = torch.where(growth > EXP_LIMIT, largest * third * third * third, norm)
    return torch.where((largest > 0) & ~torch.isinf(largest), norm, largest)


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


def parameter_norm(factors: Sequence[Float[Tensor, "runs ..."]]) -> Float[Tensor, " runs"]:
    """The Euclidean norm of all parameters together: the root of the sum of their squares, float64.

    Squares are scaled, so that none overflows or underflows. Zero gives 0, NaN gives NaN.

    Args:
        factors: [runs, *shape] each.

    Example:
        >>> parameter_norm([torch.full((1, 1, 1), 3.0), torch.full((1, 2, 2), 2.0)]).item()
        5.0
    """
    flat = [factor.double().reshape(len(factor), math.prod(factor.shape[1:])) for factor in factors]
    return root_of_squares(torch.cat(flat, dim=1))


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
