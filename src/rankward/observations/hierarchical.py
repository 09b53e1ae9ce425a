"""Random ground truths of low hierarchical rank."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np

from rankward.config.checks import level_widths, tree_of
from rankward.observations.measurement import EntryMask
from rankward.observations.synthetic import _revealed
from rankward.seeding import generator


def hierarchical_truth(
    dims: Sequence[int],
    rank: int | Sequence[int],
    count: int,
    noise: float = 0.0,
    seed: int = 0,
    tree: Any = "neighbours",
    arity: int | None = None,
    norm: float = 1.0,
) -> EntryMask:
    """`count` entries of the tensor of a mode tree with standard normal factors, scaled to Frobenius norm `norm`.

    The hierarchical rank of a tensor is the rank of each node's matricization, the root's excepted. Here it is at most
    the smaller of `rank` at the node's level and at its parent's; it is as large with probability one unless dimensions
    or the ranks of other nodes are smaller.

    Args:
        rank: one for each level of inner nodes from the bottom up, or one for all.
        tree, arity: see `rankward.mode_tree.mode_tree`.

    Raises:
        ConfigError: a tree that does not have each mode once, or ranks that are not one for each level.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Hierarchical Tensor Factorization and Deep Convolutional
    Neural Networks" (ICML 2022).

    Example:
        >>> observed = hierarchical_truth((4, 4, 4, 4), rank=(3, 2), count=100, norm=16.0)
        >>> observed.count, round(float(np.linalg.norm(observed.ground_truth)), 12)
        (100, 16.0)
        >>> int(np.linalg.matrix_rank(observed.ground_truth.reshape(16, 16)))
        2
    """
    nodes = tree_of("observations", tree, arity, len(dims))
    draw = generator(seed, "ground truth")
    made: list[np.ndarray] = []  # of each node [*dims of its modes, its parent's width]
    for node, shape in zip(
        nodes.nodes, nodes.shapes(dims, level_widths("observations.rank", rank, nodes)), strict=True
    ):
        factor = draw.standard_normal(shape)
        children = [made[child] for child in node.children]
        made.append(np.tensordot(reduce(_outer, children), factor, axes=1) if children else factor)
    truth = made[-1].transpose(np.argsort(nodes.root.modes))
    return _revealed(truth * (norm / np.linalg.norm(truth)), count, noise, seed)


def _outer(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Outer products of the tensors of each channel, which is the last axis."""
    return left[(..., *[None] * (right.ndim - 1), slice(None))] * right
