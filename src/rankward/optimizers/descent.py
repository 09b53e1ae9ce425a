"""Gradient descent, with weight decay."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rankward.optimizers.base import Optimizer


class Descent(Optimizer):
    """Gradient descent on the loss plus `weight_decay` / 2 times the squared norm of the factors.

    Without weight decay it is Equation 2's discretised flow, for which the engines have a path of their own.
    With lr=flow the engines integrate dW/dt = -gradient - weight_decay W, and `update` is not called.

    Args:
        weight_decay: at least 0.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> Descent(weight_decay=0.5).update(2 * one, one, {}, torch.tensor(0.1), torch.tensor(1.0))
        (tensor([1.8000]), {})
    """

    def __init__(self, weight_decay: float = 0.0) -> None:
        self.weight_decay = weight_decay

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return parameter - eta * (gradient + self.weight_decay * parameter), {}
