"""A chain of layers that are each the identity and a small change."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rankward.factorizations.base import Factorization
from rankward.factorizations.initialisation import Initialisation
from rankward.factorizations.symmetric import square_size


class ResidualFactorization(Factorization):
    """W = (I + W_L) ... (I + W_1) - I, all square; zero where every factor is zero, and its gradient is not zero there.

    It is summed as R_l = R_(l-1) + W_l + W_l R_(l-1), so that small factors do not cancel against the identity.

    Args:
        dims: (d, d), the size of the product.
        layers: depth L.

    Raises:
        ConfigError: dims that are not of a square matrix.

    Source: Hardt and Ma, "Identity Matters in Deep Learning" (ICLR 2017).

    Example:
        >>> import torch
        >>> ResidualFactorization((1, 1), layers=2).product([torch.ones(1, 1), torch.ones(1, 1)]).item()
        3.0
    """

    def __init__(self, dims: Sequence[int], layers: int) -> None:
        self.size, self.layers = square_size("residual", dims), layers

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.size, self.size)] * self.layers

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        return init.each(self.shapes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        result = factors[0]
        for factor in factors[1:]:
            result = result + factor + factor @ result
        return result
