"""Hierarchical factorization of a tensor: a matrix at each node of a mode tree, a vector at its root."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

from torch import Tensor

from rankward.config import ConfigError
from rankward.config.checks import enough_components, level_widths, tree_of
from rankward.factorizations.base import Factorization, Hierarchy
from rankward.factorizations.initialisation import Initialisation


class HierarchicalFactorization(Factorization):
    """The tensor of a mode tree, whose factors are in the order of `ModeTree.nodes`.

    The tensor of a leaf's channel s is column s of its matrix [dimension, its parent's width]. That of an inner node is
    the sum over r of W[r, s] times the outer product of its children's tensors of channel r, where W is its matrix
    [its width, its parent's width]. At the root, a vector takes the place of W.

    Args:
        dims: (d_1, ..., d_N), N at least 2.
        tree: see `rankward.mode_tree.mode_tree`; all modes below the root, with a vector of ones, make a CP
            factorization.
        arity: children of a node of a pattern.
        widths: one for each level of inner nodes from the bottom up, one integer for all, or None: the product of all
            dimensions but the largest.

    Raises:
        ConfigError: an order below 2, a tree that does not have each mode once, widths that are not one for each level
            or are below 1.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Hierarchical Tensor Factorization and Deep Convolutional
    Neural Networks" (ICML 2022).

    Example:
        >>> HierarchicalFactorization((8, 8, 6, 6), widths=(5, 3)).shapes
        [(8, 5), (8, 5), (6, 5), (6, 5), (5, 3), (5, 3), (3,)]
    """

    def __init__(
        self,
        dims: Sequence[int],
        tree: Any = "neighbours",
        arity: int | None = None,
        widths: int | Sequence[int] | None = None,
    ) -> None:
        self.dims = tuple(dims)
        if len(self.dims) < 2:
            raise ConfigError("factorization", "hierarchical", "diagonal or linear: the observations have 1 axis")
        self.tree = tree_of("factorization", tree, arity, len(self.dims))
        chosen = enough_components(self.dims) if widths is None else widths
        self.widths = level_widths("factorization.widths", chosen, self.tree)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return self.tree.shapes(self.dims, self.widths)

    @property
    def form(self) -> Hierarchy | None:
        return Hierarchy(self.tree) if type(self).product is HierarchicalFactorization.product else None

    @property
    def mean_loss(self) -> bool:
        return True

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        """With `gaussian`, normal entries of standard deviation `init.scale` in all factors."""
        return init.each(self.shapes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        *inner, root = self.tree.nodes
        made: list[Tensor] = []  # of each node [entries, its parent's width], its modes in the order of the leaves
        for node, factor in zip(inner, factors, strict=False):
            made.append(_row_by_row([made[child] for child in node.children]) @ factor if node.children else factor)
        children = [made[child] for child in root.children]
        half = len(children) // 2
        flat = (_row_by_row(children[:half]) * factors[-1]) @ _row_by_row(children[half:]).mT
        in_order = sorted(range(len(self.dims)), key=root.modes.__getitem__)
        return flat.reshape([self.dims[mode] for mode in root.modes]).permute(in_order)


def _row_by_row(matrices: Sequence[Tensor]) -> Tensor:
    """Products of each choice of a row from every matrix [rows, width], column by column: the Khatri-Rao product."""
    width = matrices[0].shape[1]
    return reduce(lambda above, below: (above[:, None] * below[None]).reshape(-1, width), matrices)
