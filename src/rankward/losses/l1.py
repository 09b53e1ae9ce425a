"""The absolute residual."""

from __future__ import annotations

from torch import Tensor

from rankward.losses.base import Loss


class L1(Loss):
    """The absolute residual; its derivative where the residual is zero is 0, as in torch.

    Descent with a fixed step does not converge: near its end each residual jumps between two signs.

    Example:
        >>> import torch
        >>> L1().value(torch.tensor([3.0, -1.0]), torch.zeros(2))
        tensor([3., 1.])
    """

    def value(self, prediction: Tensor, observed: Tensor) -> Tensor:
        return (prediction - observed).abs()
