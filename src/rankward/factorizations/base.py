"""Interface of a factorization: shapes, initial factors, and the product that the factors represent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from rankward.factorizations.initialisation import Initialisation
from rankward.mode_tree import ModeTree

Start = TypeVar("Start", bound=Callable[..., list[Tensor]])


@dataclass(frozen=True)
class Chain:
    """A product of matrices W_L ... W_1; `sizes` are d_0, d_1, ..., d_L, layer l is [d_l, d_(l-1)]."""

    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Components:
    """A sum of outer products (Equation 12): mode n's factor is [dims[n], components]."""

    dims: tuple[int, ...]
    components: int


@dataclass(frozen=True)
class Hierarchy:
    """The tensor of a mode tree: a matrix for each node, in the order of its nodes, and a vector for its root."""

    tree: ModeTree


@dataclass(frozen=True)
class Spectral:
    """Balanced layers of a matrix of size `dims` as U, ln sigma and V of their product; `depth` is a real number."""

    dims: tuple[int, int]
    depth: float

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        rows, cols = self.dims
        return [(rows, min(self.dims)), (min(self.dims),), (cols, min(self.dims))]


class Factorization(ABC):
    """One run's parameterization of a vector, matrix or tensor, for observations of size `dims`.

    A new one is a class like this in a file of its own and a YAML in `conf/factorization/` whose `_target_` names it;
    the keys of the YAML, `dims` and `layers` are its constructor's arguments. `product` is traced and compiled.
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
        """The array [*dims] that one run's factors represent, differentiable, without a runs axis."""

    @property
    def form(self) -> Chain | Components | Hierarchy | Spectral | None:
        """The structure that metrics and conservation laws may assume; None if there is none."""
        return None

    @property
    def mean_loss(self) -> bool:
        """Whether `loss.reduction=null` is a mean over observed entries (tensors), not a half sum (matrices)."""
        return False

    @property
    def tensor_stops(self) -> bool:
        """Whether defaults of the checks and of `max_iterations` are the paper's for tensors, not for matrices."""
        return self.mean_loss


def ignores_init(start: Start) -> Start:
    """Mark a `start` that uses neither its init nor its seed, so that configs that set them are refused or run once.

    A class that overrides `start` has an unmarked one.
    """
    start.ignores_init = True  # type: ignore[attr-defined]
    return start
