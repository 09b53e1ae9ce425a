"""Symmetric matrices as a difference of two Gram matrices."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rankward.config import ConfigError
from rankward.factorizations.base import Factorization
from rankward.factorizations.initialisation import Initialisation


class SymmetricFactorization(Factorization):
    """W = U U^T - V V^T, with U and V of shape [d, width]: every symmetric matrix, of any signature, where width is d.

    Args:
        dims: (d, d), the size of the product.
        width: columns of U and of V; None for d.

    Raises:
        ConfigError: dims that are not of a square matrix, or a width below 1.

    Source: U U^T alone is the parameterization of Gunasekar et al., "Implicit Regularization in Matrix Factorization"
    (NeurIPS 2017).

    Example:
        >>> SymmetricFactorization((4, 4), width=2).shapes
        [(4, 2), (4, 2)]
    """

    def __init__(self, dims: Sequence[int], width: int | None = None) -> None:
        self.size = square_size("symmetric", dims)
        self.width = self.size if width is None else width
        if self.width < 1:
            raise ConfigError("factorization.width", width, "an integer of at least 1, or null")

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(self.size, self.width)] * 2

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        return init.each(self.shapes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        u, v = factors
        return u @ u.mT - v @ v.mT


def square_size(name: str, dims: Sequence[int]) -> int:
    """The d of a d x d product.

    Raises:
        ConfigError: dims of anything else, for the choice `name` of the group factorization.
    """
    if len(dims) != 2 or dims[0] != dims[1]:
        what = f"a vector of {dims[0]} entries" if len(dims) == 1 else f"{'x'.join(map(str, dims))} observations"
        raise ConfigError("factorization", name, f"one for {what}: it makes square matrices")
    return dims[0]
