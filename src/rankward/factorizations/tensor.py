"""CP factorization of a tensor of any order (Section 4.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.config.checks import enough_components
from rankward.factorizations.base import Components, Factorization
from rankward.factorizations.initialisation import Initialisation

MODES = "abcdefghijklmnopqrstuvwxy"


class TensorFactorization(Factorization):
    """The sum over r of the outer products of the factors' columns r (Equation 12); mode n's factor is [d_n, R].

    Args:
        dims: (d_1, ..., d_N), N at least 2.
        components: R, or None for the product of all dimensions but the largest, with which every tensor can be made.

    Raises:
        ConfigError: an order below 2 (or above 25), or no component.

    Example:
        >>> TensorFactorization((8, 8, 8)).shapes
        [(8, 64), (8, 64), (8, 64)]
    """

    def __init__(self, dims: Sequence[int], components: int | None = None) -> None:
        self.dims = tuple(dims)
        if len(self.dims) < 2:
            raise ConfigError(
                "factorization", "tensor", f"observations of 2 to {len(MODES)} axes, not {len(self.dims)}"
            )
        self.components = enough_components(self.dims) if components is None else components
        if self.components < 1:
            raise ConfigError("factorization.components", self.components, "an integer of at least 1, or null")

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(dim, self.components) for dim in self.dims]

    @property
    def form(self) -> Components | None:
        return Components(self.dims, self.components) if type(self).product is TensorFactorization.product else None

    @property
    def mean_loss(self) -> bool:
        return True

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        """With `gaussian`, normal entries of standard deviation `init.scale`, as in the paper's Figure 2."""
        return init.each(self.shapes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        modes = MODES[: len(factors)]
        return torch.einsum(",".join(f"...{mode}z" for mode in modes) + f"->...{modes}", *factors)
