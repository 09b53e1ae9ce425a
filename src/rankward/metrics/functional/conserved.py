"""Quantities that gradient flow conserves, and their drift under descent."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.linalg import strict_matmul
from rankward.metrics.functional.local_components import local_component_vectors
from rankward.metrics.functional.norms import ordered_sum
from rankward.metrics.functional.scaling import in_range
from rankward.mode_tree import ModeTree

WIDE = 64  # a hidden layer from which one looks at the layers around it


def matrix_drift(
    factors: Sequence[Float[Tensor, "runs _ _"]], initial: Sequence[Float[Tensor, "runs _ _"]]
) -> Float[Tensor, " runs"]:
    """Drift of W_{l+1}^T W_{l+1} - W_l W_l^T from its start, over the largest squared norm of a factor.

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
    moved = []
    for (below, above), (below_then, above_then) in zip(pairwise(factors), pairwise(initial), strict=True):
        pairs = (above.mT, above_then.mT), (below, below_then)
        step_above, sum_above, step_below, sum_below = narrow(
            [part for now, then in pairs for part in (now - then, now + then)]
        )
        moved.append(_half_moved(step_above, sum_above) - _half_moved(step_below, sum_below))
    return _relative([half + half.mT for half in moved], factors)


def _half_moved(step: Float[Tensor, "runs n _"], both: Float[Tensor, "runs n _"]) -> Float[Tensor, "runs n n"]:
    """A with A + A^T = W W^T - V V^T, of W - V and W + V: two large numbers are never subtracted."""
    return strict_matmul(step, both.mT) / 2


def differences(factors: Sequence[Float[Tensor, "runs _ _"]]) -> list[Tensor]:
    """W_{l+1}^T W_{l+1} - W_l W_l^T of each two neighbouring layers, or matrices with the same nonzero eigenvalues.

    [runs, n, n] each, where n is the hidden size, or where that is large the number of rows and columns on both sides.
    """
    pairs = [narrow([above.double().mT, below.double()]) for below, above in pairwise(factors)]
    return [_gram(above) - _gram(below) for above, below in pairs]


def narrow(parts: Sequence[Float[Tensor, "runs n _"]]) -> list[Tensor]:
    """Matrices in fewer rows, whose A A^T have, and so has any sum of them, the same nonzero eigenvalues.

    A hidden layer wider than the layers around it makes differences of low rank. With [A, B, ...] = QR, where Q has
    orthonormal columns, a A A^T + b B B^T = Q (a R_A R_A^T + b R_B R_B^T) Q^T. Small matrices are left as they are.

    Args:
        parts: with as many rows each.
    """
    columns = [part.shape[-1] for part in parts]
    rows = parts[0].shape[-2]
    if rows <= max(WIDE, sum(columns)):
        return list(parts)
    joined = torch.cat(list(parts), dim=-1)
    finite = torch.isfinite(joined).flatten(1).all(1)
    reduced = torch.full((len(joined), sum(columns), sum(columns)), torch.nan, dtype=joined.dtype, device=joined.device)
    if finite.any():
        # Zeros up to multiples of 8: LAPACK's bits depend on how a matrix is aligned in memory.
        padded = torch.nn.functional.pad(joined[finite], (0, -sum(columns) % 8, 0, -rows % 8))
        reduced[finite] = torch.linalg.qr(padded, mode="r").R[:, : sum(columns), : sum(columns)]
    return list(reduced.split(columns, dim=-1))


def _gram(matrix: Float[Tensor, "runs n _"]) -> Float[Tensor, "runs n n"]:
    return strict_matmul(matrix, matrix.mT)


def component_drift(
    factors: Sequence[Float[Tensor, "runs _ components"]], initial: Sequence[Float[Tensor, "runs _ components"]]
) -> Float[Tensor, " runs"]:
    """Drift of differences of a component's squared vector norms, over the largest squared norm of a factor.

    Gradient flow on Equation 11 conserves |w_r^n|^2 - |w_r^m|^2 for every component r and modes n, m. The root of the
    sum of squared changes over components, the largest over neighbouring modes.

    Example:
        >>> one = torch.ones(1, 1, 1)
        >>> component_drift([one, 2 * one], [one, one]).item()
        0.75
    """
    factors, initial = _alike(factors, initial)
    vectors, then = [factor.mT for factor in factors], [factor.mT for factor in initial]
    return _relative(_differences_moved(vectors, then), factors)


def local_component_drift(
    factors: Sequence[Float[Tensor, "runs *_"]], initial: Sequence[Float[Tensor, "runs *_"]], tree: ModeTree
) -> Float[Tensor, " runs"]:
    """Drift of differences of squared vector norms of a local component, over the largest squared norm of a factor.

    Gradient flow conserves |v|^2 - |v'|^2 for the vectors v, v' of every local component of a hierarchical
    factorization; see `local_component_vectors`. The root of the sum of squared changes over the components of a node,
    the largest over the nodes and over neighbouring vectors. NaN where all factors are zero or any is not finite.

    Args:
        factors, initial: in the order of the tree's nodes.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Hierarchical Tensor Factorization and Deep Convolutional
    Neural Networks" (ICML 2022).

    Example:
        >>> from rankward.mode_tree import mode_tree
        >>> one, root = torch.ones(1, 1, 1), torch.ones(1, 1)
        >>> local_component_drift([one, one, 2 * root], [one, one, root], mode_tree("neighbours", 2)).item()
        0.75
    """
    factors, initial = _alike(factors, initial)
    nodes = zip(local_component_vectors(factors, tree), local_component_vectors(initial, tree), strict=True)
    return _relative([change for now, then in nodes for change in _differences_moved(now, then)], factors)


def _differences_moved(vectors: Sequence[Tensor], initial: Sequence[Tensor]) -> list[Float[Tensor, "runs 1 _"]]:
    """Changes of the differences of squared norms between neighbouring vectors [runs, components, length]."""
    now, then = _squared_norms(vectors), _squared_norms(initial)
    return [
        (above - below - (above_then - below_then))[:, None]
        for (below, above), (below_then, above_then) in zip(pairwise(now), pairwise(then), strict=True)
    ]


def _alike(factors: Sequence[Tensor], initial: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Both over one power of two a run: the drift does not change, and no square overflows or underflows."""
    scaled, _ = in_range([*factors, *initial])
    return scaled[: len(factors)], scaled[len(factors) :]


def _squared_norms(vectors: Sequence[Tensor]) -> list[Tensor]:
    return [ordered_sum(vector.double() * vector.double()) for vector in vectors]


def _relative(moved: list[Tensor], factors: Sequence[Tensor]) -> Tensor:
    """The largest Frobenius norm of `moved` [runs, _, _] over the largest squared one of the factors."""
    size = largest_square(factors)
    changes = [ordered_sum((change * change).flatten(1)).sqrt() for change in moved]
    return (torch.stack(changes).amax(0) if changes else torch.zeros_like(size)) / size


def largest_square(factors: Sequence[Float[Tensor, "runs *_"]]) -> Float[Tensor, " runs"]:
    """The largest squared Frobenius norm of a factor.

    Example:
        >>> largest_square([torch.eye(2)[None], 2 * torch.eye(2)[None]]).item()
        8.0
    """
    return torch.stack([ordered_sum((factor.double() * factor.double()).flatten(1)) for factor in factors]).amax(0)
