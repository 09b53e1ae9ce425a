"""The linear baseline of the paper: the array itself is trained from zero."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankward.factorizations.base import Chain, Factorization, ignores_init
from rankward.factorizations.initialisation import Initialisation


class LinearFactorization(Factorization):
    """One factor that is the product, started at zero: observed entries are fit, the others stay zero (Section 4.2).

    Example:
        >>> LinearFactorization((2, 3)).shapes
        [(2, 3)]
    """

    def __init__(self, dims: Sequence[int]) -> None:
        self.dims = tuple(dims)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.dims]

    @property
    def form(self) -> Chain | None:
        is_own = type(self).product is LinearFactorization.product
        return Chain(self.dims[::-1]) if is_own and len(self.dims) == 2 else None

    @property
    def mean_loss(self) -> bool:
        return len(self.dims) > 2

    @ignores_init
    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        return [torch.zeros(self.dims, dtype=torch.float64)]

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        return factors[0]
