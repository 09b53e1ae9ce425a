"""The squared loss of the paper."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from rankward.losses.base import Loss


class Squared(Loss):
    """Half the squared residual (Equation 1). Its mean is the mean squared error.

    Engines have a path of their own for it, with the same numbers.

    Example:
        >>> import torch
        >>> Squared().value(torch.tensor([3.0, 1.0]), torch.tensor([1.0, 1.0]))
        tensor([2., 0.])
    """

    in_mean: ClassVar[float] = 2.0

    def value(self, prediction: Tensor, observed: Tensor) -> Tensor:
        residual = prediction - observed
        return 0.5 * (residual * residual)


SQUARED = Squared()
