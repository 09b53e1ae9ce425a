"""What gradient flow conserves, and descent does not quite."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.norms import ordered_sum
from rankward.metrics.functional.scaling import in_range
from rankward.metrics.functional.singular_values import strict_matmul


def matrix_drift(
    factors: Sequence[Float[Tensor, "runs _ _"]], initial: Sequence[Float[Tensor, "runs _ _"]]
) -> Float[Tensor, " runs"]:
    """How far W_{l+1}^T W_{l+1} - W_l W_l^T has moved from its start, over the largest squared norm of a factor.

    Gradient flow on Equation 2 conserves these matrices (they are zero under Equation 5). The largest Frobenius norm of
    a change, over layers l; 0 for a single layer, NaN where all factors are zero or any is not finite.

    Args:
        factors, initial: W_1, ..., W_L, layer l [runs, d_l, d_(l-1)].

    Example:
        >>> eye = torch.eye(2)[None]
        >>> round(matrix_drift([eye, 2 * eye], [eye, eye]).item(), 6)  # 3 sqrt(2) / 8
        0.53033
    """
    factors, initial = _alike(factors, initial)
    moved = [new - old for new, old in zip(differences(factors), differences(initial), strict=True)]
    return _relative(moved, factors)


def differences(factors: Sequence[Float[Tensor, "*batch _ _"]]) -> list[Tensor]:
    """W_{l+1}^T W_{l+1} - W_l W_l^T of each two neighbouring layers, [runs, ..., d_l, d_l] each."""
    return [
        strict_matmul(above.double().mT, above.double()) - strict_matmul(below.double(), below.double().mT)
        for below, above in pairwise(factors)
    ]


def component_drift(
    factors: Sequence[Float[Tensor, "runs _ components"]], initial: Sequence[Float[Tensor, "runs _ components"]]
) -> Float[Tensor, " runs"]:
    """How far differences of a component's squared vector norms have moved, over the largest squared norm of a factor.

    Gradient flow on Equation 11 conserves |w_r^n|^2 - |w_r^m|^2 for every component r and modes n, m. The root of the
    sum of squared changes over components, the largest over neighbouring modes.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> component_drift([one, 2 * one], [one, one]).item()
        0.75
    """
    factors, initial = _alike(factors, initial)
    now, then = _squared_norms(factors), _squared_norms(initial)
    moved = [
        (above - below - (above_then - below_then))[:, None]
        for (below, above), (below_then, above_then) in zip(pairwise(now), pairwise(then), strict=True)
    ]
    return _relative(moved, factors)


def _alike(factors: Sequence[Tensor], initial: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Both over one power of two a run: the drift does not change, and no square overflows or underflows."""
    scaled, _ = in_range([*factors, *initial])
    return scaled[: len(factors)], scaled[len(factors) :]


def _squared_norms(factors: Sequence[Tensor]) -> list[Tensor]:
    return [ordered_sum((factor.double() * factor.double()).mT) for factor in factors]


def _relative(moved: list[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """The largest Frobenius norm of `moved` [runs, _, _] over the largest squared one of the factors."""
    size = largest_square(factors)
    changes = [ordered_sum((change * change).flatten(1)).sqrt() for change in moved]
    return (torch.stack(changes).amax(0) if changes else torch.zeros_like(size)) / size


def largest_square(factors: Sequence[Float[Tensor, "runs _ _"]]) -> Float[Tensor, " runs"]:
    """The largest squared Frobenius norm of a factor.

    Example:
        >>> largest_square([torch.eye(2)[None], 2 * torch.eye(2)[None]]).item()
        8.0
    """
    return torch.stack([ordered_sum((factor.double() * factor.double()).flatten(1)) for factor in factors]).amax(0)
