"""A difference of powers, entry by entry: the diagonal linear network."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rankward.factorizations.base import Factorization
from rankward.factorizations.initialisation import Initialisation


class DiagonalFactorization(Factorization):
    """W = u^L - v^L, entry by entry, for an array of any number of axes; u∘u - v∘v for depth 2.

    Of a vector this is a linear network of diagonal layers, whose implicit bias goes from the l2 to the l1 norm as its
    start gets smaller. The published start is `init=constant`: u and v are `init.scale` everywhere, so that W is zero.

    Args:
        dims: of the product.
        layers: the power L.

    Source: Woodworth et al., "Kernel and Rich Regimes in Overparametrized Models" (COLT 2020), Section 4 for L = 2 and
    Section 5 for larger L.

    Example:
        >>> import torch
        >>> DiagonalFactorization((2,), layers=2).product([torch.tensor([3.0, 0.0]), torch.tensor([1.0, 2.0])]).tolist()
        [8.0, -4.0]
    """

    def __init__(self, dims: Sequence[int], layers: int) -> None:
        self.dims, self.layers = tuple(dims), layers

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.dims, self.dims]

    @property
    def mean_loss(self) -> bool:
        return len(self.dims) > 2

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        return init.each(self.shapes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        u, v = factors
        return u**self.layers - v**self.layers
