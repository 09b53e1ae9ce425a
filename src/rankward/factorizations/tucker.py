"""Tucker's factorization of a tensor: a core and a matrix for each mode."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.factorizations.base import Factorization
from rankward.factorizations.initialisation import Initialisation


class TuckerFactorization(Factorization):
    """The core G [r_1, ..., r_N], multiplied in each mode n by a matrix A_n [d_n, r_n]; G is the first factor.

    Args:
        dims: (d_1, ..., d_N), N at least 2.
        ranks: r_1, ..., r_N, one integer for all modes, or None for the dimensions themselves (every tensor).

    Raises:
        ConfigError: an order below 2, or ranks that are not one of each mode or are below 1.

    Source: Kolda and Bader, "Tensor Decompositions and Applications" (SIAM Review 2009), Section 4.

    Example:
        >>> TuckerFactorization((8, 8, 6), ranks=2).shapes
        [(2, 2, 2), (8, 2), (8, 2), (6, 2)]
    """

    def __init__(self, dims: Sequence[int], ranks: int | Sequence[int] | None = None) -> None:
        self.dims = tuple(dims)
        if len(self.dims) < 2:
            raise ConfigError("factorization", "tucker", "diagonal or linear: the observations have 1 axis")
        self.ranks = (
            (ranks,) * len(self.dims) if isinstance(ranks, int) else tuple(self.dims if ranks is None else ranks)
        )
        if len(self.ranks) != len(self.dims) or min(self.ranks) < 1:
            raise ConfigError(
                "factorization.ranks", ranks, f"null, an integer of at least 1, or {len(self.dims)} of them"
            )

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [self.ranks, *zip(self.dims, self.ranks, strict=True)]

    @property
    def mean_loss(self) -> bool:
        return True

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        return init.each(self.shapes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        result, *matrices = factors
        for matrix in matrices:  # the first axis is contracted, the new one comes last: N times, and all are in order
            result = torch.tensordot(result, matrix, dims=([0], [1]))
        return result
