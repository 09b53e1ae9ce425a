"""Motion of components under gradient flow as torchmetrics: alignment, speed, imbalance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import TraceMetric, positive
from rankward.metrics.functional import motion
from rankward.metrics.hierarchical import TreeMetric, node_names
from rankward.mode_tree import ModeTree

Descent = Callable[[Tensor], Tensor]  # from products [rows, *dims] to -dL/dW there
OF_SINGULAR_VALUES = ("alignment", "speed")
OF_COMPONENTS = ("alignment", "speed", "imbalance", "step_error", "index")


class SingularValueMotion(TraceMetric):
    """Motion of the `largest` singular values of a product of matrices: columns `alignment/…` and `speed/…`.

    They are named after the column of the singular value, such as `speed/singular_value/0`. See
    `functional.singular_value_motion`.

    Raises:
        ValueError: `largest` is not an integer of at least 1.
    """

    kind = "chain"

    def __init__(self, largest: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, factors: Sequence[Tensor], product: Tensor, negative_gradient: Descent) -> None:
        found = motion.singular_value_motion(factors, product, negative_gradient(product), self.largest)
        self.measured.append(_stacked(found, OF_SINGULAR_VALUES))

    def names(self, shape: Sequence[int]) -> list[str]:
        return _names("singular_value", shape[0], OF_SINGULAR_VALUES)


class ComponentMotion(TraceMetric):
    """Motion of the `largest` components of a CP factorization: columns such as `speed/cp_weight/0`.

    `alignment/…`, `speed/…`, `imbalance/…`, `step_error/…` and `index/…` of the component whose norm the row has in
    `cp_weight/…`. See `functional.component_motion`.

    Raises:
        ValueError: `largest` is not an integer of at least 1.
    """

    kind = "components"

    def __init__(self, largest: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, factors: Sequence[Tensor], product: Tensor, negative_gradient: Descent) -> None:
        found = motion.component_motion(factors, negative_gradient(product), self.largest)
        self.measured.append(_stacked(found, OF_COMPONENTS))

    def names(self, shape: Sequence[int]) -> list[str]:
        return _names("cp_weight", shape[0], OF_COMPONENTS)


class LocalComponentMotion(TreeMetric):
    """Motion of the `largest` local components of each inner node: columns such as `speed/local_component/root/0`.

    `alignment/…`, `speed/…`, `imbalance/…`, `step_error/…` and `index/…` of the local component whose norm the row has
    in `local_component/…`. See `functional.local_component_motion`.

    Raises:
        ValueError: `largest` is not an integer of at least 1.
    """

    def __init__(self, largest: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, factors: Sequence[Tensor], product: Tensor, negative_gradient: Descent, tree: ModeTree) -> None:
        found = motion.local_component_motion(factors, negative_gradient(product), tree, self.largest)
        values = [_stacked(each, OF_COMPONENTS) for each in found]
        names = [
            name
            for node, each in zip(node_names(tree), values, strict=True)
            for name in _names(f"local_component/{node}", each.shape[-1], OF_COMPONENTS)
        ]
        self.keep(torch.cat(values, dim=-1), names)


def _stacked(found: motion.Motion, quantities: Sequence[str]) -> Tensor:
    return torch.cat([getattr(found, quantity) for quantity in quantities], dim=-1)


def _names(family: str, count: int, quantities: Sequence[str]) -> list[str]:
    return [f"{quantity}/{family}/{r}" for quantity in quantities for r in range(count // len(quantities))]
