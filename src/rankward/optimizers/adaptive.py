"""Gradient descent with an adaptive rate, which falls as the gradients of a run grow."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rankward.optimizers.descent import Descent


class AdaptiveDescent(Descent):
    """Descent with the rate eta / (sqrt(gamma_t / (1 - beta^t)) + eps) of lr=adaptive (Section 4.2).

    With g the gradient over all factors of a run, gamma_t = beta gamma_(t-1) + (1 - beta) |g|^2. The state has gamma_t
    as `mean_square`, and 1 - beta^t as `weight`. Where all gradients so far are zero and eps is, too, the rate is NaN
    or infinite.

    Args:
        beta: from 0 to below 1.
        eps: at least 0.

    Example:
        >>> import torch
        >>> zero, one = torch.zeros(()), torch.ones(())
        >>> state = {"mean_square": zero, "weight": zero}
        >>> rate, after = AdaptiveDescent(beta=0.75, eps=0.0).rate_of_run(one, 16 * one, state, one)
        >>> float(rate), float(after["mean_square"]), float(after["weight"])
        (0.25, 4.0, 0.25)
    """

    per_run = ("mean_square", "weight")

    def __init__(self, beta: float = 0.99, eps: float = 1e-6) -> None:
        super().__init__(weight_decay=None)
        self.beta, self.eps = beta, eps

    def rate_of_run(
        self, eta: Tensor, square: Tensor, state: Mapping[str, Tensor], iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        rest = 1 - self.beta
        mean = self.beta * state["mean_square"] + rest * square
        weight = self.beta * state["weight"] + rest
        return eta / ((mean / weight).sqrt() + self.eps), {"mean_square": mean, "weight": weight}
