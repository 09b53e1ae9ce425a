"""Sign descent: every entry moves by the learning rate."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rankward.optimizers.base import Optimizer


class SignDescent(Optimizer):
    """Steps of eta along the sign of a running mean of gradients: m = momentum m + (1 - momentum) g.

    An entry with a mean of zero does not move.

    Args:
        momentum: from 0 to below 1; 0 takes the sign of the gradient itself.
        weight_decay: times the factor, added to the gradient.

    Source: Bernstein et al., "signSGD: compressed optimisation for non-convex problems" (ICML 2018), Algorithms 1
    and 2 (Signum).

    Example:
        >>> import torch
        >>> gradient, state = torch.tensor([3.0, -0.1, 0.0]), {"mean": torch.zeros(3)}
        >>> SignDescent().update(torch.zeros(3), gradient, state, torch.tensor(0.5), torch.tensor(1.0))[0].tolist()
        [-0.5, 0.5, 0.0]
    """

    per_parameter = ("mean",)

    def __init__(self, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        gradient = gradient + self.weight_decay * parameter
        mean = self.momentum * state["mean"] + (1 - self.momentum) * gradient
        return parameter - eta * mean.sign(), {"mean": mean}
