"""Matricizations of a tensor (every split of its modes into rows and columns) and their ranks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.norms import root_of_squares
from rankward.metrics.functional.ranks import (
    effective_rank_from_singular_values,
    numerical_rank_from_singular_values,
)
from rankward.metrics.functional.scaling import in_range, times_power_of_two
from rankward.metrics.functional.singular_values import singular_values

Modes = tuple[int, ...]


def mode_groups(order: int) -> list[Modes]:
    """The row modes of every matricization, each split of the modes once: single modes first.

    Raises:
        ValueError: an order below 2.

    Example:
        >>> mode_groups(3), mode_groups(4)[4:], mode_groups(2)
        ([(0,), (1,), (2,)], [(0, 1), (0, 2), (0, 3)], [(0,)])
    """
    if order < 2:
        raise ValueError(f"order: {order} is not allowed; expected an integer of at least 2")
    groups = [modes for size in range(1, order // 2 + 1) for modes in combinations(range(order), size)]
    return [modes for modes in groups if 2 * len(modes) < order or modes[0] == 0]


def matricization(tensor: Float[Tensor, "runs *dims"], modes: Modes) -> Float[Tensor, "runs rows cols"]:
    """`modes` along the rows, the others along the columns, each in ascending order.

    Example:
        >>> matricization(torch.zeros(5, 2, 3, 4), (0, 2)).shape
        torch.Size([5, 8, 3])
    """
    dims = tensor.shape[1:]
    others = [n for n in range(len(dims)) if n not in modes]
    moved = tensor.permute(0, *(1 + n for n in (*modes, *others)))
    return moved.reshape(len(tensor), prod(dims[n] for n in modes), prod(dims[n] for n in others))


def matricization_singular_values(tensor: Float[Tensor, "runs *dims"]) -> dict[Modes, Tensor]:
    """Singular values of every matricization, [runs, least] each, in descending order; NaN where the tensor has one."""
    groups = mode_groups(tensor.ndim - 1)
    return {modes: singular_values(matricization(tensor, modes)) for modes in groups}


def multilinear_rank(tensor: Float[Tensor, "runs *dims"], rtol: float = 1e-3) -> Float[Tensor, "runs modes"]:
    """The numerical rank of each single mode's matricization: singular values above `rtol` times its largest.

    0 for the zero tensor, NaN for one with NaN.

    Raises:
        ValueError: rtol outside of [0, 1), or an order below 2.

    Example:
        >>> multilinear_rank(torch.ones(1, 2, 3, 4)).tolist()
        [[1.0, 1.0, 1.0]]
    """
    return multilinear_rank_from_values(matricization_singular_values(tensor), tensor.ndim - 1, rtol)


def multilinear_rank_from_values(
    values: Mapping[Modes, Tensor], order: int, rtol: float
) -> Float[Tensor, "runs modes"]:
    """`multilinear_rank` where the matricizations' singular values are at hand."""
    modes = [values.get((n,), values[(0,)]) for n in range(order)]  # of a matrix, rows and columns have the same
    return torch.stack([numerical_rank_from_singular_values(each, rtol) for each in modes], dim=-1)


def effective_ranks(tensor: Float[Tensor, "runs *dims"]) -> dict[Modes, Tensor]:
    """Definition 1 for every matricization, [runs] each, by its row modes; NaN for the zero tensor.

    Example:
        >>> {modes: rank.item() for modes, rank in effective_ranks(torch.eye(2, dtype=torch.float64)[None]).items()}
        {(0,): 2.0}
    """
    values = matricization_singular_values(tensor)
    return {modes: effective_rank_from_singular_values(each) for modes, each in values.items()}


def cp_weights(factors: list[Float[Tensor, "runs _ components"]]) -> Float[Tensor, "runs components"]:
    """The norm of every component of a CP factorization, largest first: how few of them carry the tensor.

    A component's norm is the product of its vectors' norms; only one that is itself out of float64's range overflows.

    Example:
        >>> cp_weights([torch.tensor([[[1.0, 0.0], [0.0, 2.0]]]), torch.tensor([[[3.0, 0.0], [4.0, 1.0]]])]).tolist()
        [[5.0, 2.0]]
    """
    return norms_of_components([factor.mT for factor in factors]).sort(-1, descending=True).values


def norms_of_components(vectors: Sequence[Float[Tensor, "runs components _"]]) -> Float[Tensor, "runs components"]:
    """The product of the norms of each component's vectors; only one that is itself out of float64's range overflows.

    Args:
        vectors: [runs, components, length] for each part of a component.

    Example:
        >>> norms_of_components([torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[-2.0]]])]).tolist()
        [[10.0]]
    """
    runs, components = vectors[0].shape[:2]
    norms = torch.ones(runs * components, dtype=torch.float64, device=vectors[0].device)
    exponents = torch.zeros(runs * components, dtype=torch.int32, device=vectors[0].device)
    for vector in vectors:
        (norm,), exponent = in_range([root_of_squares(vector.double()).flatten()])
        (norms,), more = in_range([norms * norm])
        exponents = exponents + exponent + more
    return times_power_of_two(norms, exponents).reshape(runs, components)
