"""What a factorization is to the rest of the program: shapes, a start, and the array that its factors stand for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from torch import Tensor

from rankward.factorizations.initialisation import Initialisation


class Factorization(ABC):
    """One run's parameterization of a matrix or tensor, for observations of size `dims`.

    A new one is a class like this in a file of its own and a YAML in `conf/factorization/` whose `_target_` names it;
    the keys of the YAML, `dims` and `layers` are its constructor's arguments.
    """

    @property
    @abstractmethod
    def shapes(self) -> list[tuple[int, ...]]:
        """Shape of each factor, without a runs axis."""

    @abstractmethod
    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        """Initial factors, float64, without a runs axis; depend on the seed alone."""

    @abstractmethod
    def product(self, factors: Sequence[Tensor]) -> Tensor:
        """The matrix or tensor that the factors stand for, differentiable; any leading axes."""

    @property
    def chain(self) -> tuple[int, ...] | None:
        """d_0, d_1, ..., d_L where the product is a chain of matrices (the compiled engine trains these), else None."""
        return None
