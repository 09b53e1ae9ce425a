"""A matrix through layers with a nonlinearity between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.factorizations.initialisation import Initialisation
from rankward.factorizations.matrix import MatrixFactorization

ACTIVATIONS = {"tanh": torch.tanh, "relu": torch.relu}


class NonlinearFactorization(MatrixFactorization):
    """W = W_L φ(W_(L-1) ... φ(W_1)), φ entry by entry: a network's outputs for the inputs e_1, ..., e_d'.

    Args:
        dims, layers, hidden: as for `MatrixFactorization`; at least two layers.
        activation: φ, `tanh` or `relu`.

    Raises:
        ConfigError: as `MatrixFactorization`; one layer, or another activation.

    Example:
        >>> one = torch.ones(1, 1)
        >>> NonlinearFactorization((1, 1), layers=2, activation="relu").product([-one, one]).item()
        0.0
    """

    name = "nonlinear"

    def __init__(
        self,
        dims: Sequence[int],
        layers: int,
        hidden: int | Sequence[int] | None = None,
        activation: str = "tanh",
    ) -> None:
        super().__init__(dims, layers, hidden)
        if layers < 2:
            raise ConfigError("depth.layers", layers, "at least 2: there is no activation after the last layer")
        if activation not in ACTIVATIONS:
            raise ConfigError("factorization.activation", activation, "one of " + ", ".join(ACTIVATIONS))
        self.activation = activation

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        """As a chain's; its `scale` is about that of the product where tanh is about linear."""
        if init.determinant != "any":
            raise ConfigError(
                "init.determinant", init.determinant, "any: only factorization=matrix is drawn again for a sign"
            )
        return super().start(init, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        result = factors[0]
        for factor in factors[1:]:
            result = factor @ ACTIVATIONS[self.activation](result)
        return result
