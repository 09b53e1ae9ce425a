"""Speeds at which gradient flow moves components: of CP, of hierarchical tensors, and singular values of chains.

All are for flow on a loss L of the product W. Each function takes `descent`, which is -dL/dW [runs, *dims].
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.linalg import strict_matmul
from rankward.metrics.functional.local_components import local_component_vectors
from rankward.metrics.functional.matricizations import norms_of_components
from rankward.metrics.functional.norms import ordered_sum
from rankward.mode_tree import ModeTree

APART = 1e-8  # of the largest singular value: nearer ones have no singular vectors of their own


@dataclass(frozen=True)
class Motion:
    """The largest components of each run, descending, and how gradient flow moves them.

    Args:
        index: which component it is, from 0.
        norm: sigma, the product of the norms of its vectors, or a singular value.
        alignment: gamma, the inner product of -dL/dW with the component over its norm. NaN for a component of norm 0.
        speed: d sigma / dt by gradient flow, NaN where the alignment is.
        imbalance: epsilon, the largest difference between the squared norms of two of its vectors; None for singular
            values.
        step_error: q in ln sigma(t + eta) - ln sigma(t) = eta speed / sigma + eta^2 q + O(eta^3) of a descent step of
            size eta; None for singular values.
    """

    index: Float[Tensor, "runs k"]
    norm: Float[Tensor, "runs k"]
    alignment: Float[Tensor, "runs k"]
    speed: Float[Tensor, "runs k"]
    imbalance: Float[Tensor, "runs k"] | None = None
    step_error: Float[Tensor, "runs k"] | None = None


def component_motion(
    factors: Sequence[Float[Tensor, "runs _ components"]], descent: Float[Tensor, "runs *dims"], largest: int = 10
) -> Motion:
    """The motion of the `largest` components of a CP factorization.

    With gamma_r the inner product of -dL/dW with component r over its norm sigma_r, gradient flow has exactly
    d sigma_r / dt = gamma_r sigma_r^2 sum_n 1 / |w_r^n|^2; with equal norms this is N gamma_r sigma_r^(2 - 2/N).

    Args:
        factors: mode n's is [runs, d_n, R].
        descent: -dL/dW.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Tensor Factorization" (ICML 2021), Theorem 1.

    Example:
        >>> one, two = torch.ones(1, 1, 1), 2 * torch.ones(1, 1, 1)  # W = 2, and W' = (1 + 4) (-dL/dW)
        >>> component_motion([one, two], 3 * torch.ones(1, 1, 1)).speed.item()
        15.0
    """
    vectors = [factor.double().mT for factor in factors]
    chosen, index = _largest(vectors, largest)
    return _of_vectors(chosen, _component_velocities(chosen, descent.double()), index)


def local_component_motion(
    factors: Sequence[Float[Tensor, "runs *_"]],
    descent: Float[Tensor, "runs *dims"],
    tree: ModeTree,
    largest: int = 10,
) -> list[Motion]:
    """The motion of the `largest` local components of each inner node of a mode tree, in the order of its nodes.

    With C the part of the tensor that passes through a local component of norm sigma, gradient flow has exactly
    d sigma / dt = <-dL/dW, C> sigma sum_v 1 / |v|^2, over its K vectors v; with equal norms this is
    K gamma sigma^(2 - 2/K), where gamma = <-dL/dW, C> / sigma.

    Args:
        factors: in the order of the tree's nodes.
        descent: -dL/dW.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Hierarchical Tensor Factorization and Deep Convolutional
    Neural Networks" (ICML 2022), Theorem 1.

    Example:
        >>> from rankward.mode_tree import mode_tree
        >>> one = torch.ones(1, 1, 1)  # W = 1 * 2 * 1 and W' = (4 + 1 + 4) (-dL/dW)
        >>> (root,) = local_component_motion([one, 2 * one, one[0]], 3 * one, mode_tree("neighbours", 2))
        >>> root.norm.item(), root.speed.item()
        (2.0, 27.0)
    """
    factors = [factor.double() for factor in factors]
    moving = local_component_vectors(_factor_velocities(factors, descent.double(), tree), tree)
    found = []
    for vectors, velocities in zip(local_component_vectors(factors, tree), moving, strict=True):
        chosen, index = _largest(vectors, largest)
        found.append(_of_vectors(chosen, [_pick(velocity, index) for velocity in velocities], index))
    return found


def singular_value_motion(
    factors: Sequence[Float[Tensor, "runs _ _"]],
    product: Float[Tensor, "runs rows cols"],
    descent: Float[Tensor, "runs rows cols"],
    largest: int = 10,
) -> Motion:
    """The motion of the `largest` singular values of a product W = W_L ... W_1, whatever the balance of its factors.

    gamma_r = u_r^T (-dL/dW) v_r, and d sigma_r / dt = u_r^T W' v_r, where gradient flow has
    W' = sum_l A_l A_l^T (-dL/dW) B_l^T B_l with A_l = W_L ... W_(l+1) and B_l = W_(l-1) ... W_1. For balanced factors
    (Equation 5) this is L gamma_r sigma_r^(2 - 2/L). NaN where two singular values are within 1e-8 of the largest one,
    since they have no singular vectors, or where the product is not finite.

    Args:
        factors: W_1, ..., W_L.
        product: their product.
        descent: -dL/dW.

    Source: Arora, Cohen, Hu and Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019), Theorem 3.

    Example:
        >>> root = torch.diag(torch.tensor([2.0, 1.0], dtype=torch.float64))[None]
        >>> motion = singular_value_motion([root, root], root @ root, torch.eye(2, dtype=torch.float64)[None])
        >>> [round(speed, 12) for speed in motion.speed[0].tolist()]  # 2 sigma, as L = 2
        [8.0, 2.0]
    """
    factors = [factor.double() for factor in factors]
    left, values, right = _singular_vectors(product.double())
    gaps = values[:, :-1] - values[:, 1:]
    never = torch.full_like(values[:, :1], torch.inf)
    near = torch.minimum(torch.cat([never, gaps], 1), torch.cat([gaps, never], 1))
    near = torch.minimum(near, torch.where(values > 0, torch.inf, 0.0))
    k = min(largest, values.shape[1])
    known = (near > APART * values[:, :1])[:, :k]
    left, right, moved = left[..., :k], right[..., :k], descent.double()
    above, below = [left], [right]  # A_l^T u_r from l = L down, B_l v_r from l = 1 up
    for factor in reversed(factors[1:]):
        above.append(strict_matmul(factor.mT, above[-1]))
    for factor in factors[:-1]:
        below.append(strict_matmul(factor, below[-1]))
    speed = torch.zeros_like(values[:, :k])
    for layer, (of_left, of_right) in enumerate(zip(reversed(above), below, strict=True)):
        for factor in factors[layer + 1 :]:
            of_left = strict_matmul(factor, of_left)
        for factor in reversed(factors[:layer]):
            of_right = strict_matmul(factor.mT, of_right)
        speed += _inner(of_left, strict_matmul(moved, of_right))
    alignment = _inner(left, strict_matmul(moved, right))
    index = torch.arange(k, dtype=torch.float64).expand(len(values), k)
    alignment, speed = (torch.where(known, each, torch.nan) for each in (alignment, speed))
    return Motion(index, values[:, :k], alignment, speed)


def speed_bounds(
    norm: Float[Tensor, "*batch"],
    alignment: Float[Tensor, "*batch"],
    imbalance: Float[Tensor, "*batch"],
    vectors: float,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    """Bounds on d sigma / dt of a component of so many vectors whose squared norms differ by at most `imbalance`.

    With K vectors and gamma >= 0 they are K gamma sigma^2 / (sigma^(2/K) + epsilon) and
    K gamma (sigma^(2/K) + epsilon)^(K - 1); for gamma < 0 they are exchanged. Equal for an imbalance of 0.

    Source: Razin, Maman and Cohen (ICML 2021), Theorem 1.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> [bound.item() for bound in speed_bounds(one, one, one, 3)]
        [1.5, 12.0]
    """
    size = norm ** (2 / vectors) + imbalance
    slow, fast = vectors * alignment * norm * norm / size, vectors * alignment * size ** (vectors - 1)
    return torch.minimum(slow, fast), torch.maximum(slow, fast)


def _largest(vectors: Sequence[Tensor], largest: int) -> tuple[list[Tensor], Tensor]:
    """The vectors of the components of largest norm, and their indices; the first of equal ones comes first."""
    order = norms_of_components(vectors).sort(dim=-1, descending=True, stable=True).indices[:, :largest]
    return [_pick(vector.double(), order) for vector in vectors], order


def _pick(vector: Tensor, index: Tensor) -> Tensor:
    """[runs, k, length] of [runs, components, length]."""
    return vector.gather(1, index.long()[..., None].expand(-1, -1, vector.shape[-1]))


def _of_vectors(vectors: Sequence[Tensor], velocities: Sequence[Tensor], index: Tensor) -> Motion:
    """The motion of components from their vectors [runs, k, length] and the vectors' velocities under flow.

    The inner product of a vector with its velocity is <-dL/dW, C> for each of them.
    """
    squares = torch.stack([ordered_sum(vector * vector) for vector in vectors])
    velocity_squares = torch.stack([ordered_sum(velocity * velocity) for velocity in velocities])
    norm, along = norms_of_components(vectors), ordered_sum(vectors[0] * velocities[0])
    rates = along / squares  # d ln |v| / dt
    second = velocity_squares / (2 * squares) - rates * rates
    return Motion(
        index=index.double(),
        norm=norm,
        alignment=along / norm,
        speed=norm * ordered_sum(rates.movedim(0, -1)),
        imbalance=squares.amax(0) - squares.amin(0),
        step_error=ordered_sum(second.movedim(0, -1)),
    )


def _component_velocities(vectors: Sequence[Tensor], descent: Tensor) -> list[Tensor]:
    """-dL/dv of each vector [runs, k, d_n] of components: `descent` contracted with all others."""
    found = []
    for kept in range(len(vectors)):
        first, *others = [n for n in reversed(range(len(vectors))) if n != kept]
        moved = descent.movedim(1 + kept, 1).flatten(1, -2)
        made = strict_matmul(moved, vectors[first].mT)  # [runs, the modes before, k]
        for n in others:
            rows = made.unflatten(1, (-1, vectors[n].shape[-1]))
            made = ordered_sum((rows * vectors[n].mT[:, None]).movedim(2, -1))
        found.append(made.mT)
    return found


def _factor_velocities(factors: Sequence[Tensor], descent: Tensor, tree: ModeTree) -> list[Tensor]:
    """-dL/dW of each factor of a hierarchical factorization, in the order of the tree's nodes.

    A row is an index tuple of a node's modes, in the order of the leaves.
    """
    *inner, root = tree.nodes
    made: list[Tensor] = []  # [runs, rows, the parent's width]
    joined: list[Tensor | None] = []  # of inner nodes [runs, rows, width]
    for node, factor in zip(inner, factors, strict=False):
        below = _row_by_row([made[child] for child in node.children]) if node.children else None
        joined.append(below)
        made.append(factor if below is None else strict_matmul(below, factor))
    half = len(root.children) // 2
    sides = [_row_by_row([made[c] for c in part]) for part in (root.children[:half], root.children[half:])]
    moved = descent.permute(0, *(1 + mode for mode in root.modes)).reshape(len(descent), sides[0].shape[1], -1)
    weighed = strict_matmul(moved, sides[1]), strict_matmul(moved.mT, sides[0])
    velocities = [*(torch.empty(0) for _ in inner), ordered_sum((sides[0] * weighed[0]).mT)]
    towards: list[Tensor] = [torch.empty(0) for _ in inner]  # -dL/d(made)
    for part, side in zip((root.children[:half], root.children[half:]), weighed, strict=True):
        for child, direction in zip(part, _divided(side * factors[-1][:, None], [made[c] for c in part]), strict=True):
            towards[child] = direction
    for number in reversed(range(len(inner))):
        below = joined[number]
        if below is None:
            velocities[number] = towards[number]
            continue
        velocities[number] = strict_matmul(below.mT, towards[number])
        children = inner[number].children
        of_rows = strict_matmul(towards[number], factors[number].mT)
        for child, direction in zip(children, _divided(of_rows, [made[c] for c in children]), strict=True):
            towards[child] = direction
    return velocities


def _row_by_row(matrices: Sequence[Tensor]) -> Tensor:
    """Products of each choice of a row from every matrix [runs, rows, width]: the Khatri-Rao product."""
    return reduce(lambda above, below: (above[:, :, None] * below[:, None]).flatten(1, 2), matrices)


def _divided(direction: Tensor, matrices: Sequence[Tensor]) -> list[Tensor]:
    """-dL/dM of each matrix M [runs, rows, width], from that of their Khatri-Rao product."""
    found = []
    for place, matrix in enumerate(matrices):
        one = matrix.new_ones(len(matrix), 1, matrix.shape[2])
        before, after = _row_by_row([one, *matrices[:place]]), _row_by_row([one, *matrices[place + 1 :]])
        parts = direction.unflatten(1, (before.shape[1], matrix.shape[1], after.shape[1]))
        parts = ordered_sum((parts * after[:, None, None]).movedim(3, -1))
        found.append(ordered_sum((parts * before[:, :, None]).movedim(1, -1)))
    return found


def _singular_vectors(product: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """U [runs, rows, n], singular values [runs, n], V [runs, cols, n]; NaN for a product that is not finite."""
    runs, rows, cols = product.shape
    n = min(rows, cols)
    left, values, right = (product.new_full((runs, *size), torch.nan) for size in ((rows, n), (n,), (cols, n)))
    finite = torch.isfinite(product).flatten(1).all(1)
    if finite.any():
        # Zeros up to multiples of 8: LAPACK's bits depend on how a matrix is aligned in memory.
        padded = torch.nn.functional.pad(product[finite], (0, -cols % 8, 0, -rows % 8))
        u, s, v = torch.linalg.svd(padded, full_matrices=False)
        left[finite], values[finite], right[finite] = u[:, :rows, :n], s[:, :n], v.mT[:, :cols, :n]
    return left, values, right


def _inner(left: Tensor, right: Tensor) -> Tensor:
    """The inner products of columns, [runs, k] of two [runs, length, k]."""
    return ordered_sum((left * right).mT)
