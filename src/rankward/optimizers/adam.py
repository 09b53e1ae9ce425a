"""Adam: each entry's step is scaled by the running mean of its squared gradient."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from rankward.optimizers.base import Optimizer


class Adam(Optimizer):
    """Steps of eta m / (sqrt(v) + eps), m and v the bias-corrected running means of the gradient and of its square.

    The correction of a mean divides by the sum of its weights, which is 1 - beta^t and is kept as a running sum.
    An entry whose gradient has always been zero does not move. The numbers are those of `torch.optim.Adam`: both
    corrections are made to the whole step and to eps instead of to each entry's means.

    Args:
        betas: weights of the two means' past, each from 0 to below 1.
        eps: positive; it keeps the step finite where the gradient vanishes.
        weight_decay: times the factor, added to the gradient.

    Source: Kingma and Ba, "Adam: a method for stochastic optimization" (ICLR 2015), Algorithm 1.

    Example:
        >>> import torch
        >>> one, names = torch.ones(1, dtype=torch.float64), (*Adam.per_parameter, *Adam.per_run)
        >>> state = {name: torch.zeros_like(one) for name in names}
        >>> round(float(Adam().update(one, 7 * one, state, 0.1 * one, one)[0]), 8)  # the first step has size eta
        0.9
    """

    per_parameter = ("mean", "square")
    per_run = ("mean_weight", "square_weight")

    def __init__(self, betas: Sequence[float] = (0.9, 0.999), eps: float = 1e-8, weight_decay: float = 0.0) -> None:
        self.betas, self.eps, self.weight_decay = tuple(betas), eps, weight_decay

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.step(parameter, gradient + self.weight_decay * parameter, state, eta)

    def step(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The update without weight decay."""
        first, second = self.betas
        mean = _rounded(first * state["mean"] + (1 - first) * gradient)
        square = second * state["square"] + (1 - second) * (gradient * gradient)
        mean_weight = first * state["mean_weight"] + (1 - first)
        square_weight = second * state["square_weight"] + (1 - second)
        root = square_weight.sqrt()
        moved = parameter - (eta * root / mean_weight) * (mean / (square.sqrt() + self.eps * root))
        after = {"mean": mean, "square": square, "mean_weight": mean_weight, "square_weight": square_weight}
        return moved, after


def _rounded(mean: Tensor) -> Tensor:
    """A mean rounded to multiples of 2^-1016 (2^-120 in float32): a subnormal one would slow its arithmetic.

    Without gradients a mean decays to such numbers. The square of a gradient of this size is zero.
    """
    limits = torch.finfo(mean.dtype)
    large = 128 * limits.tiny / limits.eps
    return (mean + large) - large
