"""Adam with decoupled weight decay."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from rankward.optimizers.adam import Adam


class AdamW(Adam):
    """Adam's step from a factor that is first multiplied by 1 - eta `weight_decay`: the means never see the decay.

    The numbers are those of `torch.optim.AdamW`. Arguments are those of `Adam`.

    Source: Loshchilov and Hutter, "Decoupled weight decay regularization" (ICLR 2019), Algorithm 2, in torch's form.

    Example:
        >>> import torch
        >>> one, names = torch.ones(1, dtype=torch.float64), (*AdamW.per_parameter, *AdamW.per_run)
        >>> state = {name: torch.zeros_like(one) for name in names}
        >>> round(float(AdamW(weight_decay=0.5).update(one, 7 * one, state, 0.1 * one, one)[0]), 8)
        0.85
    """

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.step((1 - eta * self.weight_decay) * parameter, gradient, state, eta)
