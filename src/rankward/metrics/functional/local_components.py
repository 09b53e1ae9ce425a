"""Local components of hierarchical tensor factorizations."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.matricizations import norms_of_components
from rankward.mode_tree import ModeTree


def local_component_vectors(factors: Sequence[Tensor], tree: ModeTree) -> list[list[Float[Tensor, "runs width _"]]]:
    """The vectors of the local components of each inner node, in the order of the tree's nodes.

    Component r of a node has column r of the matrix of each child, and row r of the node's own matrix; at the root this
    is the number r of the vector.

    Args:
        factors: [runs, *shape] each, in the order of the tree's nodes.

    Returns:
        For each inner node, a list of its children's columns and its own rows, [runs, width, length] each.
    """
    rows = [*factors[:-1], factors[-1][..., None]]
    return [
        [*(factors[child].mT for child in node.children), own]
        for node, own in zip(tree.nodes, rows, strict=True)
        if node.children
    ]


def local_component_norms(
    factors: Sequence[Float[Tensor, "runs *_"]], tree: ModeTree
) -> list[Float[Tensor, "runs width"]]:
    """The norms of the local components of each inner node, largest first: how few of them carry the tensor.

    A component's norm is the product of its vectors' norms; only one that is itself out of float64's range overflows.

    Args:
        factors: in the order of the tree's nodes.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Hierarchical Tensor Factorization and Deep Convolutional
    Neural Networks" (ICML 2022).

    Example:
        >>> import torch
        >>> from rankward.mode_tree import mode_tree
        >>> factors = [torch.tensor([[[3.0, 0.0], [4.0, 1.0]]]), torch.eye(2)[None], torch.tensor([[-2.0, 20.0]])]
        >>> [norms.tolist() for norms in local_component_norms(factors, mode_tree("neighbours", 2))]
        [[[20.0, 10.0]]]
    """
    return [
        norms_of_components(vectors).sort(-1, descending=True).values
        for vectors in local_component_vectors(factors, tree)
    ]
