"""The logistic loss of labels."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from rankward.losses.base import Loss


class Logistic(Loss):
    """ln(1 + exp(-observed prediction)) of labels 1 and -1: the negative log-likelihood of logistic regression.

    It is positive and has no minimum: predictions grow without bound once they have the labels' signs. The numbers are
    those of `torch.nn.BCEWithLogitsLoss` with (observed + 1) / 2 as target, to the last digits also where they are
    tiny, and finite for predictions of any size.

    Example:
        >>> Logistic().value(torch.tensor([0.0, 1e3, -1e3]), torch.ones(3))
        tensor([6.9315e-01, 0.0000e+00, 1.0000e+03])
    """

    expected: ClassVar[str] = "1 and -1"

    def value(self, prediction: Tensor, observed: Tensor) -> Tensor:
        margin = observed * prediction
        wrong = margin < 0  # branches, not absolute values: the derivative at a margin of 0 is -observed / 2
        rest = torch.where(wrong, margin, -margin).exp().log1p()
        return torch.where(wrong, rest - margin, rest)

    def allows(self, observed: Tensor) -> Tensor:
        return observed.abs() == 1
