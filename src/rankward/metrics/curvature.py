"""The curvature of a run's loss as a torchmetric."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import TraceMetric, positive
from rankward.metrics.functional import curvature


class Sharpness(TraceMetric):
    """The largest eigenvalue of the loss's Hessian, and the edge of stability: two columns.

    `curvature/sharpness` is that eigenvalue; see `functional.sharpness`. `curvature/two_over_eta` is 2 / step: gradient
    descent with a constant step is stable below it. NaN for an adaptive rate, a schedule, flow, or another optimizer.

    Args:
        rows: at most so many rows of a run are measured, with NaN in the others; see `TraceMetric.rows`. 1: the last.

    Raises:
        ValueError: a number of rows that is not an integer of at least 1.

    Example:
        >>> metric, two = Sharpness(), 2 * torch.ones(1, 1, 1)
        >>> metric.update([two, two], lambda w: ((w[1] @ w[0] - 4) ** 2).sum() / 2, step_size=torch.tensor([0.25]))
        >>> {name: round(value.item(), 12) for name, value in metric.columns().items()}
        {'curvature/sharpness': 8.0, 'curvature/two_over_eta': 8.0}
    """

    def __init__(self, rows: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.rows = positive("rows", rows)

    def update(
        self,
        factors: Sequence[Tensor],
        loss_function: curvature.LossFunction,
        loss_data: Sequence[Tensor] = (),
        step_size: Tensor | None = None,
    ) -> None:
        """Measure the factors of each row.

        Args:
            factors: [rows, *shape] each.
            loss_function, loss_data: as `functional.sharpness` takes them; the data have a rows axis.
            step_size: [rows], NaN where it is not constant.
        """
        sharp = curvature.sharpness(loss_function, factors, *loss_data)
        steps = torch.full_like(sharp, torch.nan) if step_size is None else step_size.to(sharp)
        self.measured.append(torch.stack([sharp, 2 / steps], dim=-1))

    def names(self, shape: Sequence[int]) -> list[str]:
        return ["curvature/sharpness", "curvature/two_over_eta"]
