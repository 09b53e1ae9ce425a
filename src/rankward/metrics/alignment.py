"""The alignment of the gradient with the singular vectors as a torchmetric."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from rankward.metrics.base import TraceMetric
from rankward.metrics.functional.alignment import gradient_alignment

NAMES = [f"alignment/{entries}_{number}" for entries in ("diagonal", "off_diagonal") for number in ("mean", "std")]


class GradientAlignment(TraceMetric):
    """Entries of the gradient in the singular vectors of the product, |U^T G V|: four columns.

    They are `alignment/diagonal_mean`, `alignment/diagonal_std`, `alignment/off_diagonal_mean` and
    `alignment/off_diagonal_std`; see `functional.gradient_alignment`. G is the gradient of the loss, which is half
    a sum for matrices, in the product. Published values, of half a mean, are smaller by the number of observed entries.

    Example:
        >>> import torch
        >>> metric = GradientAlignment()
        >>> W = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
        >>> metric.update(W, lambda product: torch.tensor([[[1.0, 0.0], [1.0, 1.0]]]) - product)
        >>> {name: round(value.item(), 4) for name, value in metric.columns().items()}
        {'alignment/diagonal_mean': 0.5, 'alignment/diagonal_std': 0.7071, 'alignment/off_diagonal_mean': 0.5,
        'alignment/off_diagonal_std': 0.7071}
    """

    kind = "matrix"

    def update(self, product: Tensor, negative_gradient: Callable[[Tensor], Tensor]) -> None:
        """Measure each of `product` [rows, d, d'], at which `negative_gradient` is minus the gradient."""
        self.measured.append(gradient_alignment(product, negative_gradient(product)))

    def names(self, shape: Sequence[int]) -> list[str]:
        return NAMES
