"""Entries and norms of vectors as torchmetrics."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import TraceMetric, arrays, positive
from rankward.metrics.functional.norms import powers, schatten_norm_from_singular_values


class VectorEntries(TraceMetric):
    """The first `largest` entries of vectors [runs, d], columns `entry/0`, `entry/1`, ...

    Example:
        >>> metric = VectorEntries(largest=1)
        >>> metric.update(torch.tensor([[1.0, 2.0]]))
        >>> {name: value.tolist() for name, value in metric.columns().items()}
        {'entry/0': [1.0]}
    """

    kind = "vector"

    def __init__(self, largest: int = 16, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, product: Tensor) -> None:
        self.measured.append(arrays(product, 1)[:, : self.largest].double())

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"entry/{i}" for i in range(shape[0])]


class VectorNorm(TraceMetric):
    """The lp (quasi-)norms of vectors [runs, d] for one or several p in (0, inf], columns `norm/l<p>`.

    They are the Schatten norms of the diagonal matrix with those entries.

    Args:
        p: a number, or a list of numbers.

    Raises:
        ValueError: a p that is not above 0.

    Example:
        >>> metric = VectorNorm(p=[1, 2])
        >>> metric.update(torch.tensor([[3.0, -4.0]]))
        >>> {name: value.item() for name, value in metric.columns().items()}
        {'norm/l1': 7.0, 'norm/l2': 5.0}
    """

    kind = "vector"

    def __init__(self, p: float | Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.p = powers(p)

    def update(self, product: Tensor) -> None:
        sizes = arrays(product, 1).double().abs().sort(dim=-1, descending=True).values
        self.measured.append(torch.stack([schatten_norm_from_singular_values(sizes, p) for p in self.p], dim=-1))

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"norm/l{p:g}" for p in self.p]
