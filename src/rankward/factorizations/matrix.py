"""Deep matrix factorization (Equations 2 and 3)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from rankward.config import ConfigError
from rankward.factorizations.base import Chain, Factorization
from rankward.factorizations.initialisation import Initialisation


class MatrixFactorization(Factorization):
    """W = W_L ... W_1, with W_1 first and layer l of shape [d_l, d_(l-1)].

    Args:
        dims: (d, d'), the size of the product.
        layers: depth L, at least 1.
        hidden: sizes of the hidden layers: None (min(d, d'), as in the paper), one size, or L-1 of them.

    Raises:
        ConfigError: dims that are not of a matrix, or as many hidden sizes as do not fit the depth.

    Example:
        >>> MatrixFactorization((4, 6), layers=3).shapes
        [(4, 6), (4, 4), (4, 4)]
    """

    name = "matrix"

    def __init__(self, dims: Sequence[int], layers: int, hidden: int | Sequence[int] | None = None) -> None:
        if len(dims) != 2:
            others = "diagonal" if len(dims) == 1 else "tensor, tucker, diagonal"
            axes = "1 axis" if len(dims) == 1 else f"{len(dims)} axes"
            raise ConfigError("factorization", self.name, f"{others} or linear: the observations have {axes}")
        rows, cols = dims
        if hidden is None or isinstance(hidden, int):
            hidden = [hidden or min(rows, cols)] * (layers - 1)
        if len(hidden) != layers - 1:
            raise ConfigError("factorization.hidden", list(hidden), f"{layers - 1} sizes for depth {layers}")
        self.sizes = (cols, *hidden, rows)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [(above, below) for below, above in zip(self.sizes, self.sizes[1:], strict=False)]

    @property
    def form(self) -> Chain | None:
        return Chain(self.sizes) if type(self).product is MatrixFactorization.product else None

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        return init.draw(self.sizes, seed)

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        result = factors[0]
        for factor in factors[1:]:
            result = factor @ result
        return result
