"""The absolute residual."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rankward.losses.base import Loss


class L1(Loss):
    """The absolute residual; its derivative where the residual is zero is 0, as in torch.

    Descent with a fixed step does not converge: near its end each residual jumps between two signs. Gradient flow is
    refused, since a residual that stays at zero leaves no step that is accurate.

    Example:
        >>> import torch
        >>> L1().value(torch.tensor([3.0, -1.0]), torch.zeros(2))
        tensor([3., 1.])
    """

    smooth: ClassVar[bool] = False

    def value(self, prediction: Tensor, observed: Tensor) -> Tensor:
        return (prediction - observed).abs()
