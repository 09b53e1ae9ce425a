"""Continuous and numerical surrogates of rank (Section 2.2), from singular values in descending order."""

from __future__ import annotations

import operator

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.norms import schatten_norm_from_singular_values
from rankward.metrics.functional.singular_values import singular_values
from rankward.metrics.functional.strict import ordered_sum


def check_rtol(rtol: float) -> float:
    """`rtol` itself.

    Raises:
        ValueError: rtol outside of [0, 1).
    """
    if not 0 <= rtol < 1:
        raise ValueError(f"rtol: {rtol} is not allowed; expected a number from 0 to below 1")
    return rtol


def check_count(name: str, count: int, least: int) -> int:
    """`count` itself, an integer of at least `least`.

    Raises:
        ValueError: naming the argument.
    """
    try:
        if operator.index(count) >= least:
            return operator.index(count)
    except TypeError:
        pass
    raise ValueError(f"{name}: {count} is not allowed; expected an integer of at least {least}")


def effective_rank_from_singular_values(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """exp of the entropy, in nats, of sigma_r / sum sigma; see `effective_rank`."""
    ratios = values / values[..., :1]  # of a zero matrix 0/0: NaN
    shares = ratios / ordered_sum(ratios)[..., None]
    return torch.exp(-ordered_sum(shares * torch.log(shares.masked_fill(shares == 0, 1.0))))


def effective_rank(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """Definition 1: the exponential of the entropy, in nats, of the singular values over their sum.

    From 1 to min(d, d'). Definition 1 leaves the zero matrix out, and near it every value is taken: NaN. So is the
    effective rank of a matrix with NaN or infinity.

    Args:
        matrix: [runs, ..., d, d'].

    Example:
        >>> round(effective_rank(torch.eye(2)).item(), 12)
        2.0
    """
    return effective_rank_from_singular_values(singular_values(matrix))


def stable_rank_from_singular_values(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """(Frobenius norm / spectral norm) squared; see `stable_rank`."""
    ratios = values / values[..., :1]
    return ordered_sum(ratios * ratios)


def stable_rank(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """Squared Frobenius norm over squared spectral norm; NaN for the zero matrix, and where there is NaN or infinity.

    Example:
        >>> stable_rank(torch.diag(torch.tensor([2.0, 1.0]))).item()
        1.25
    """
    return stable_rank_from_singular_values(singular_values(matrix))


def numerical_rank_from_singular_values(
    values: Float[Tensor, "*batch n"], rtol: float = 1e-3
) -> Float[Tensor, "*batch"]:
    """How many singular values exceed rtol * sigma_1; see `numerical_rank`."""
    check_rtol(rtol)
    largest = values[..., :1]
    return ordered_sum((values > rtol * largest).double()) + largest[..., 0] * 0.0  # NaN where sigma_1 is no number


def numerical_rank(matrix: Float[Tensor, "*batch rows cols"], rtol: float = 1e-3) -> Float[Tensor, "*batch"]:
    """How many singular values exceed `rtol` times the largest; 0 for the zero matrix, NaN where there is NaN.

    Raises:
        ValueError: rtol outside of [0, 1).

    Example:
        >>> numerical_rank(torch.diag(torch.tensor([1.0, 1e-2, 1e-6])), rtol=1e-3).item()
        2.0
    """
    return numerical_rank_from_singular_values(singular_values(matrix), rtol)


def distance_to_infimal_rank_from_singular_values(
    values: Float[Tensor, "*batch n"], rank: int = 1
) -> Float[Tensor, "*batch"]:
    """The root of the sum of squared singular values beyond the first `rank`; see `distance_to_infimal_rank`."""
    rank = check_count("rank", rank, 0)
    if rank >= values.shape[-1]:
        return values[..., 0] * 0.0
    return schatten_norm_from_singular_values(values[..., rank:], 2)


def distance_to_infimal_rank(matrix: Float[Tensor, "*batch rows cols"], rank: int = 1) -> Float[Tensor, "*batch"]:
    """Definition 2: the Frobenius distance to the matrices of rank `rank` or less (by Eckart and Young).

    `rank` is the infimal rank of the solution set: 1 for the paper's problem (Proposition 2). At min(d, d') and above
    the distance is 0; a matrix with NaN or infinity gives NaN.

    Raises:
        ValueError: rank that is no integer of at least 0.

    Example:
        >>> distance_to_infimal_rank(torch.diag(torch.tensor([5.0, 4.0, 3.0]))).item()
        5.0
    """
    return distance_to_infimal_rank_from_singular_values(singular_values(matrix), rank)
