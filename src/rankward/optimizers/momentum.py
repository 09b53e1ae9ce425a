"""Gradient descent with momentum."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from rankward.optimizers.base import Optimizer


class Momentum(Optimizer):
    """Steps along a running sum of gradients: b = momentum b + (1 - dampening) g, with b = g at the first step.

    With `nesterov` the step is along g + momentum b instead of b. The numbers are those of `torch.optim.SGD`.

    Args:
        momentum: from 0 to below 1; 0 is gradient descent.
        dampening: from 0 to 1.
        nesterov: needs momentum above 0 and no dampening, as in torch.
        weight_decay: times the factor, added to the gradient.

    Source: Sutskever et al., "On the importance of initialization and momentum in deep learning" (ICML 2013), in the
    form of `torch.optim.SGD`.

    Example:
        >>> one, state = torch.ones(1), {"buffer": torch.ones(1), "started": torch.tensor(1.0)}
        >>> Momentum(momentum=0.5).update(one, one, state, torch.tensor(0.1), torch.tensor(2.0))[0]
        tensor([0.8500])
    """

    per_parameter = ("buffer",)
    per_run = ("started",)

    def __init__(
        self, momentum: float = 0.9, dampening: float = 0.0, nesterov: bool = False, weight_decay: float = 0.0
    ) -> None:
        self.momentum, self.dampening, self.weight_decay = momentum, dampening, weight_decay
        self.nesterov = nesterov

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        gradient = gradient + self.weight_decay * parameter
        share = 1 - self.dampening * state["started"]  # the first gradient is not dampened
        buffer = self.momentum * state["buffer"] + share * gradient
        direction = gradient + self.momentum * buffer if self.nesterov else buffer
        return parameter - eta * direction, {"buffer": buffer, "started": torch.ones_like(state["started"])}
