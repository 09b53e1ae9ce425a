"""Gradient descent, with weight decay."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rankward.optimizers.base import Optimizer


class Descent(Optimizer):
    """Gradient descent on the loss plus `weight_decay` / 2 times the squared norm of the factors.

    Without weight decay (None) it is Equation 2's discretised flow. With lr=flow the engines integrate
    dW/dt = -gradient - weight_decay W, and `update` is not called.

    Args:
        weight_decay: at least 0; None for none, without an operation for it.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> Descent(weight_decay=0.5).update(2 * one, one, {}, torch.tensor(0.1), torch.tensor(1.0))
        (tensor([1.8000]), {})
    """

    def __init__(self, weight_decay: float | None = 0.0) -> None:
        self.weight_decay = weight_decay

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        if self.weight_decay is not None:
            gradient = gradient + self.weight_decay * parameter
        return parameter - eta * gradient, {}
