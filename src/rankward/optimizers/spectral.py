"""Spectral descent: every matrix factor steps along the orthogonal factor of its momentum, as Muon does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from rankward.config import ConfigError
from rankward.optimizers.base import Optimizer

FAST = (3.4445, -4.7750, 2.0315)  # Muon's: it moves singular values quickly to 0.68 to 1.20, and keeps them there
CLOSE = (15 / 8, -10 / 8, 3 / 8)  # the cubically convergent one, from below sqrt(7/3)
EXACT = (FAST,) * 13 + (CLOSE,) * 4


class Spectral(Optimizer):
    """Steps of eta along the orthogonal factor U V^T of a running mean of gradients U S V^T.

    The mean is m = momentum m + (1 - momentum) g, and with `nesterov` the orthogonal factor is that of
    (1 - momentum) g + momentum m. It comes from `ns_steps` Newton-Schulz steps with Muon's coefficients, which bring
    singular values to between 0.68 and 1.20; or, with None, from 17 steps that converge. In float64 their result has
    an error below 1e-10 for condition numbers up to 1e5, and below 1e-9 up to 1e6. A singular value below 1e-7 of the
    largest is not brought to 1; one below 1e-16, as rounding leaves of zero, contributes less than 2e-8.

    A factor of any size moves by the same distance: there is neither a scale for its shape (Muon multiplies by
    sqrt(max(1, rows / columns)), or by 0.2 sqrt(max(rows, columns))) nor an eps. A factor with zero momentum does not
    move. In torch's `Muon` the same steps are in bfloat16; `weight_decay` is decoupled, as there: the factor is first
    multiplied by 1 - eta `weight_decay`.

    Args:
        momentum: from 0 to below 1; 0 takes the gradient itself.
        nesterov: needs momentum above 0.
        weight_decay: at least 0.
        ns_steps: at least 1; None for the exact orthogonal factor.

    Source: Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); spectral descent: Carlson
    et al., "Preconditioned spectral descent for deep learning" (NeurIPS 2015).

    Example:
        >>> import torch
        >>> zero, gradient = torch.zeros(2, 2), torch.tensor([[0.0, 3.0], [-0.01, 0.0]])
        >>> moved, _ = Spectral(ns_steps=None).update(zero, gradient, {"mean": zero}, torch.tensor(0.5), torch.ones(()))
        >>> moved.round(decimals=4).tolist()
        [[0.0, -0.5], [0.5, 0.0]]
    """

    per_parameter = ("mean",)

    def __init__(
        self, momentum: float = 0.95, nesterov: bool = True, weight_decay: float = 0.0, ns_steps: int | None = 5
    ) -> None:
        self.momentum, self.weight_decay = momentum, weight_decay
        self.nesterov, self.ns_steps = nesterov, ns_steps

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        mean = self.momentum * state["mean"] + (1 - self.momentum) * gradient
        along = self.momentum * mean + (1 - self.momentum) * gradient if self.nesterov else mean
        steps = EXACT if self.ns_steps is None else (FAST,) * self.ns_steps
        return (1 - eta * self.weight_decay) * parameter - eta * orthogonal_factor(along, steps), {"mean": mean}

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        for shape in shapes:
            if len(shape) != 2:
                size = "x".join(map(str, shape)) or "one number"
                raise ConfigError("optimizer", "spectral", f"another one: a factor of shape {size} is no matrix")


def orthogonal_factor(matrix: Tensor, steps: Sequence[tuple[float, float, float]] = EXACT) -> Tensor:
    """The orthogonal factor of a matrix [rows, cols], by Newton-Schulz steps X -> a X + b X X^T X + c (X X^T)^2 X.

    Args:
        matrix: of any size; zero has the factor zero.
        steps: the coefficients (a, b, c) of each.

    Example:
        >>> import torch
        >>> orthogonal_factor(torch.tensor([[3.0, 0.0], [0.0, -2.0]])).round(decimals=4).tolist()
        [[1.0, 0.0], [0.0, -1.0]]
    """
    scaled = matrix / _positive(matrix.abs().amax())  # first, so that no square overflows or vanishes
    made = scaled / scaled.norm().clamp(min=1)  # the norm is at least 1, except that of zero
    wide = made if matrix.shape[0] <= matrix.shape[1] else made.T
    for a, b, c in steps:
        gram = wide @ wide.T
        wide = a * wide + (b * gram + c * (gram @ gram)) @ wide
    return wide if matrix.shape[0] <= matrix.shape[1] else wide.T


def _positive(size: Tensor) -> Tensor:
    """A size that is not negative, with 1 in place of zero."""
    return size + (size <= 0)
