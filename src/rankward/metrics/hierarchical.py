"""Local components and ranks of hierarchical tensor factorizations as torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from rankward.metrics.base import TraceMetric, positive, stacked_columns
from rankward.metrics.functional.conserved import local_component_drift
from rankward.metrics.functional.local_components import local_component_norms
from rankward.metrics.functional.matricizations import matricization
from rankward.metrics.functional.ranks import check_rtol, numerical_rank_from_singular_values
from rankward.metrics.functional.singular_values import singular_values
from rankward.mode_tree import ModeTree, Node

END = "\0"  # after the last name


class TreeMetric(TraceMetric):
    """A metric whose columns are named after the nodes of the run's mode tree.

    The names are a state, since the values alone do not have them.
    """

    kind = "hierarchical"

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.texts: list[Tensor]
        self.add_state("texts", default=[], dist_reduce_fx="cat")

    def keep(self, values: Tensor, names: Sequence[str]) -> None:
        """Append values [runs, columns] and the names of their columns, the same in all updates since a reset."""
        self.measured.append(values)
        self.texts.append(torch.tensor(list(("\n".join(names) + END).encode()), dtype=torch.uint8))

    def columns(self) -> dict[str, Tensor]:
        if not self.has_values:
            return {}
        text = bytes(dim_zero_cat(self.texts).tolist()).decode()
        return stacked_columns(self.gathered(), text[: text.index(END)].split("\n"))


class LocalComponentNorms(TreeMetric):
    """Norms of the `largest` local components of each inner node, descending: columns `local_component/<node>/<r>`.

    A node is named by its modes from 0, such as `0_1`, and the root `root`. See `functional.local_component_norms`.

    Raises:
        ValueError: `largest` is not an integer of at least 1.
    """

    def __init__(self, largest: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, factors: Sequence[Tensor], tree: ModeTree) -> None:
        norms = [each[:, : self.largest] for each in local_component_norms(factors, tree)]
        names = [
            f"local_component/{node}/{r}"
            for node, each in zip(node_names(tree), norms, strict=True)
            for r in range(each.shape[1])
        ]
        self.keep(torch.cat(norms, dim=1), names)


class LocalComponentDrift(TraceMetric):
    """Drift of the quantities that gradient flow conserves, column `balance/drift`. See `local_component_drift`."""

    column = "balance/drift"
    kind = "hierarchical"

    def update(self, factors: Sequence[Tensor], tree: ModeTree, initial: Sequence[Tensor] | None = None) -> None:
        if initial is not None:
            self.measured.append(local_component_drift(factors, initial, tree))


class HierarchicalRank(TreeMetric):
    """Numerical rank of the matricization of each node but the root: columns `rank/hierarchical_<modes>`.

    Singular values above `rtol` times the largest are counted; 0 for the zero tensor, NaN for one with NaN.

    Args:
        rtol: from 0 to below 1.
        every_row: measured of every row; False: of each run's last row, since it takes a singular value decomposition
            for each node.

    Raises:
        ValueError: rtol outside of [0, 1).

    Source: Razin, Maman and Cohen (ICML 2022): these are the components of the hierarchical tensor rank.
    """

    def __init__(self, rtol: float = 1e-3, every_row: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_rtol(rtol)
        self.rtol, self.last_row_only = rtol, not every_row

    def update(self, product: Tensor, tree: ModeTree) -> None:
        found: dict[tuple[int, ...], Tensor] = {}  # a matricization and its transpose have the same rank
        ranks = []
        for node in tree.nodes[:-1]:
            modes = tuple(sorted(node.modes))
            others = tuple(mode for mode in range(tree.order) if mode not in modes)
            if others not in found:
                values = singular_values(matricization(product, modes))
                found[modes] = numerical_rank_from_singular_values(values, self.rtol)
            ranks.append(found[modes] if modes in found else found[others])
        self.keep(torch.stack(ranks, dim=-1), [f"rank/hierarchical_{_modes(node)}" for node in tree.nodes[:-1]])


def node_names(tree: ModeTree) -> list[str]:
    """The names of the inner nodes, in their order: the modes from 0, such as `0_1`, or `root`."""
    return ["root" if node is tree.root else _modes(node) for node in tree.nodes if node.children]


def _modes(node: Node) -> str:
    """The modes of a node in ascending order, as in the names of other columns."""
    return "_".join(map(str, sorted(node.modes)))
