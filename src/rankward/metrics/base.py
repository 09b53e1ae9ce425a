"""What all metrics share: values gathered over updates, and the trace columns they fill."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rankward.metrics.functional.singular_values import singular_values as _singular_values


class TraceMetric(Metric):
    """A torchmetrics metric with a value for each matrix: `compute` returns all updates' values, runs axis first.

    A new one implements `update` (which names what it needs: product, singular_values, matricization_values, factors,
    loss, ground_truth, iteration, initial) and `columns`.

    Attributes:
        kind: `matrix`, `tensor` (any order, from CP factors), or `any`: what it can measure.
        last_row_only: too dear for every row; measured of a run's last one, for the whole ensemble at once, and NaN
            elsewhere.
    """

    full_state_update = False
    kind = "any"
    last_row_only = False
    measured: list[Tensor]

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.add_state("measured", default=[], dist_reduce_fx="cat")

    def compute(self) -> Tensor:
        """Values of every matrix since the last reset: [runs, ...], float64; torchmetrics squeezes a single one."""
        return self.gathered()

    def gathered(self) -> Tensor:
        """What `compute` returns, its shape kept for a single matrix too."""
        return dim_zero_cat(self.measured)

    @abstractmethod
    def columns(self) -> dict[str, Tensor]:
        """The computed values under the names of the trace's columns."""

    def notes(self) -> dict[str, str]:
        """What the summary should say of how columns are to be read, by name."""
        return {}


class SpectralMetric(TraceMetric):
    """A metric of the singular values; they are computed from the product where they are not given."""

    kind = "matrix"

    def update(self, product: Tensor, singular_values: Tensor | None = None) -> None:
        """Measure each matrix of `product` [runs, ..., d, d']."""
        values = _singular_values(product) if singular_values is None else singular_values
        self.measured.append(self.measure(values))

    @abstractmethod
    def measure(self, singular_values: Tensor) -> Tensor:
        """The value of each matrix, from its singular values in descending order."""


def stacked_columns(values: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The last axis of `values` as one column a name."""
    return dict(zip(names, torch.unbind(values, dim=-1), strict=True))


def check_largest(largest: int) -> None:
    """Refuse, by a ValueError, a number of columns below 1."""
    if largest < 1:
        raise ValueError(f"largest: {largest} is not allowed; expected an integer of at least 1")
