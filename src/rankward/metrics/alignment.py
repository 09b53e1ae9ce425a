"""The alignment of the gradient with the singular vectors as a torchmetric."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankward.linalg import one_thread
from rankward.metrics.base import TraceMetric, stacked_columns
from rankward.metrics.functional.alignment import gradient_alignment
from rankward.metrics.functional.curvature import LossFunction

NAMES = [f"alignment/{entries}_{number}" for entries in ("diagonal", "off_diagonal") for number in ("mean", "std")]


class GradientAlignment(TraceMetric):
    """Entries of the gradient in the singular vectors of the product, |U^T G V|: four columns.

    They are `alignment/diagonal_mean`, `alignment/diagonal_std`, `alignment/off_diagonal_mean` and
    `alignment/off_diagonal_std`; see `functional.gradient_alignment`. G is the gradient of the loss, which is half
    a sum for matrices, in the product. Published values, of half a mean, are smaller by the number of observed entries.

    Example:
        >>> metric = GradientAlignment()
        >>> W = torch.tensor([[[2.0, 0.0], [0.0, 1.0]]])
        >>> metric.update(W, lambda w: ((w[0] - torch.tensor([[1.0, 0.0], [1.0, 1.0]])) ** 2).sum() / 2)
        >>> {name: round(value.item(), 4) for name, value in metric.columns().items()}
        {'alignment/diagonal_mean': 0.5, 'alignment/diagonal_std': 0.7071, 'alignment/off_diagonal_mean': 0.5,
        'alignment/off_diagonal_std': 0.7071}
    """

    kind = "chain"

    def update(self, product: Tensor, loss_function: LossFunction, loss_data: Sequence[Tensor] = ()) -> None:
        """Measure each of `product` [rows, d, d'], which for `loss_function` is the only matrix of a chain of one.

        Args:
            product: [rows, d, d'].
            loss_function, loss_data: as `functional.sharpness` takes them; the data have a rows axis.
        """
        slopes = torch.empty_like(product, dtype=torch.float64)
        with one_thread():
            for row, matrix in enumerate(product.double()):
                data = [each[row].double() for each in loss_data]
                slopes[row] = torch.func.grad(lambda w, data=data: loss_function([w], *data))(matrix)
            self.measured.append(gradient_alignment(product, slopes))

    def columns(self) -> dict[str, Tensor]:
        return stacked_columns(self.gathered(), NAMES)
