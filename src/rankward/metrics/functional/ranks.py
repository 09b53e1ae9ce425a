"""Continuous and numerical surrogates of rank (Section 2.2), from singular values in descending order."""

from __future__ import annotations

from numbers import Real

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.norms import ordered_sum, schatten_norm_from_singular_values
from rankward.metrics.functional.scaling import in_range
from rankward.metrics.functional.singular_values import singular_values


def check_rtol(rtol: float) -> None:
    """Refuse, by a ValueError, a relative tolerance outside of [0, 1)."""
    if isinstance(rtol, bool) or not (isinstance(rtol, Real) and 0 <= rtol < 1):
        raise ValueError(f"rtol: {rtol} is not allowed; expected a number from 0 to below 1")


def check_rank(rank: int) -> None:
    """Refuse, by a ValueError, a rank below 0."""
    if isinstance(rank, bool) or not (isinstance(rank, Real) and rank >= 0 and rank == int(rank)):
        raise ValueError(f"rank: {rank} is not allowed; expected an integer of at least 0")


def _of_scaled(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch least"]:
    """Singular values over a power of two: ranks do not change, and the largest value cannot overflow."""
    (scaled,), _ = in_range([matrix.reshape(-1, *matrix.shape[-2:])])
    return singular_values(scaled.reshape(matrix.shape))


def _in_range(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch n"]:
    (scaled,), _ = in_range([values.reshape(-1, values.shape[-1])])
    return scaled.reshape(values.shape)


def effective_rank_from_singular_values(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """exp of the entropy (nats) of sigma_r / sum sigma; see `effective_rank`."""
    values = _in_range(values)
    shares = (values / ordered_sum(values)[..., None]).contiguous()  # 0/0 of a zero matrix: NaN
    return torch.exp(-ordered_sum(torch.special.xlogy(shares, shares)))


def effective_rank(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """Definition 1: the exponential of the entropy, in nats, of the singular values over their sum.

    Between 1 and min(d, d'). The zero matrix has none: NaN, as has a matrix with NaN.

    Example:
        >>> round(effective_rank(torch.eye(2)).item(), 12)
        2.0
    """
    return effective_rank_from_singular_values(_of_scaled(matrix))


def stable_rank_from_singular_values(values: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
    """(Frobenius / spectral norm) squared; see `stable_rank`."""
    ratios = values / values[..., :1]
    return ordered_sum(ratios * ratios)


def stable_rank(matrix: Float[Tensor, "*batch rows cols"]) -> Float[Tensor, "*batch"]:
    """Squared Frobenius norm over squared spectral norm; NaN for the zero matrix.

    Example:
        >>> stable_rank(torch.diag(torch.tensor([2.0, 1.0]))).item()
        1.25
    """
    return stable_rank_from_singular_values(_of_scaled(matrix))


def numerical_rank_from_singular_values(values: Float[Tensor, "*batch n"], rtol: float) -> Float[Tensor, "*batch"]:
    """How many singular values exceed rtol * sigma_1; see `numerical_rank`."""
    check_rtol(rtol)
    values = _in_range(values)
    count = ordered_sum((values > rtol * values[..., :1]).double())
    return torch.where(torch.isfinite(values[..., 0]), count, torch.nan)


def numerical_rank(matrix: Float[Tensor, "*batch rows cols"], rtol: float = 1e-3) -> Float[Tensor, "*batch"]:
    """How many singular values exceed `rtol` times the largest; 0 for the zero matrix, NaN for a matrix with NaN.

    Raises:
        ValueError: rtol outside of [0, 1).

    Example:
        >>> numerical_rank(torch.diag(torch.tensor([1.0, 1e-2, 1e-6])), rtol=1e-3).item()
        2.0
    """
    return numerical_rank_from_singular_values(_of_scaled(matrix), rtol)


def distance_to_rank_from_singular_values(values: Float[Tensor, "*batch n"], rank: int) -> Float[Tensor, "*batch"]:
    """The Frobenius norm of the singular values beyond `rank`; see `distance_to_infimal_rank`."""
    check_rank(rank)
    if rank >= values.shape[-1]:
        return torch.where(torch.isnan(values[..., 0]), torch.nan, torch.zeros_like(values[..., 0]))
    return schatten_norm_from_singular_values(values[..., rank:].contiguous(), 2)


def distance_to_ranks_from_singular_values(
    values: Float[Tensor, "runs *batch n"], ranks: Float[Tensor, " runs"]
) -> Float[Tensor, "runs *batch"]:
    """`distance_to_rank_from_singular_values` with one rank a run; NaN where the rank is NaN."""
    distances = torch.full(values.shape[:-1], torch.nan, dtype=torch.float64, device=values.device)
    for rank in ranks[~torch.isnan(ranks)].unique().tolist():
        runs = ranks == rank
        distances[runs] = distance_to_rank_from_singular_values(values[runs], int(rank))
    return distances


def distance_to_infimal_rank(matrix: Float[Tensor, "*batch rows cols"], rank: int = 1) -> Float[Tensor, "*batch"]:
    """Definition 2: the Frobenius distance to the matrices of rank `rank` or less (Eckart and Young).

    `rank` is the infimal rank of the solution set: 1 for the paper's problem (Proposition 2).

    Raises:
        ValueError: rank below 0.

    Example:
        >>> distance_to_infimal_rank(torch.diag(torch.tensor([5.0, 4.0, 3.0]))).item()
        5.0
    """
    return distance_to_rank_from_singular_values(singular_values(matrix), rank)
