"""RMSprop: each entry's step is scaled by the root of the running mean of its squared gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from rankward.optimizers.base import Optimizer


class RMSprop(Optimizer):
    """Steps of eta g / (sqrt(v) + eps), v = alpha v + (1 - alpha) g^2 without bias correction, and with momentum.

    With `centered`, the square of the gradient's running mean is subtracted from v. The numbers are those of
    `torch.optim.RMSprop`.

    Args:
        alpha: weight of the mean's past, from 0 to below 1.
        eps: positive; it keeps the step finite where the gradient vanishes.
        momentum: of the scaled gradients, from 0 to below 1.
        centered: whether v is an estimate of the variance.
        weight_decay: times the factor, added to the gradient.

    Source: Tieleman and Hinton, Lecture 6.5 of "Neural networks for machine learning" (2012); centered: Graves,
    "Generating sequences with recurrent neural networks" (2013), Equations 38 to 41.

    Example:
        >>> import torch
        >>> one = torch.ones(1)
        >>> state = {"square": 4 * one, "buffer": 0 * one}
        >>> RMSprop(alpha=0.75).update(one, 2 * one, state, torch.tensor(0.5), torch.tensor(1.0))[0]
        tensor([0.5000])
    """

    def __init__(
        self,
        alpha: float = 0.99,
        eps: float = 1e-8,
        momentum: float = 0.0,
        centered: bool = False,
        weight_decay: float = 0.0,
    ) -> None:
        self.alpha, self.eps, self.momentum, self.weight_decay = alpha, eps, momentum, weight_decay
        self.centered = centered

    @property
    def per_parameter(self) -> Sequence[str]:  # type: ignore[override] # see the class: they may be properties
        return ("square", "buffer", "mean") if self.centered else ("square", "buffer")

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        gradient = gradient + self.weight_decay * parameter
        after = {"square": self.alpha * state["square"] + (1 - self.alpha) * (gradient * gradient)}
        variance = after["square"]
        if self.centered:
            after["mean"] = self.alpha * state["mean"] + (1 - self.alpha) * gradient
            variance = variance - after["mean"] * after["mean"]
        after["buffer"] = self.momentum * state["buffer"] + gradient / (variance.sqrt() + self.eps)
        return parameter - eta * after["buffer"], after
