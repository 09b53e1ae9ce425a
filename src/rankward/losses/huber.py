"""Huber's loss: squared near the observed value, linear away from it."""

from __future__ import annotations

import torch
from torch import Tensor

from rankward.losses.base import Loss


class Huber(Loss):
    """Half the squared residual up to a size of delta, and delta (|residual| - delta / 2) beyond.

    The numbers are those of `torch.nn.HuberLoss`: up to delta the mean is half of the mean squared error.

    Args:
        delta: positive.

    Raises:
        ValueError: a delta that is not positive.

    Source: Huber, "Robust estimation of a location parameter" (1964).

    Example:
        >>> Huber(delta=1.0).value(torch.tensor([0.5, 3.0]), torch.zeros(2))
        tensor([0.1250, 2.5000])
    """

    def __init__(self, delta: float = 1.0) -> None:
        if not delta > 0:
            raise ValueError(f"delta: {delta} is not allowed; expected a positive number")
        self.delta = delta

    def value(self, prediction: Tensor, observed: Tensor) -> Tensor:
        size = (prediction - observed).abs()
        return torch.where(size <= self.delta, 0.5 * (size * size), self.delta * (size - 0.5 * self.delta))
