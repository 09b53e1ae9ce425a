"""How the compiled engine's kernels see a factorization: flat arrays, and which kernel."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from math import prod

import numpy as np

from rankward.dynamics.cp import Plan
from rankward.dynamics.kernels import store
from rankward.factorizations.base import Chain, Components

LANES_WIDEST = 55  # beyond, eight runs' factors and products leave a megabyte of cache

Shapes = tuple[tuple[int, ...], ...]


class Layout(ABC):
    """Between arrays with a runs axis and the kernel's own.

    `sizes` is what the kernel is told of the factorization; `uses_blas` whether it calls BLAS.
    """

    sizes: np.ndarray
    uses_blas = False

    @abstractmethod
    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        """Factors [runs, *shape] as [runs, parameters], a copy."""

    @abstractmethod
    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        """The inverse of `packed`."""

    @abstractmethod
    def entries(self, array: np.ndarray) -> np.ndarray:
        """Mask or values [runs, *dims] as [runs, entries]."""

    @property
    @abstractmethod
    def parameters(self) -> int:
        """Numbers that a run's factors hold, without padding."""

    @abstractmethod
    def kernel(self, runs_a_thread: int, dynamics: str) -> store.Kernel:
        """The compiled function that fits so many runs."""


class ChainLayout(Layout):
    """Factors side by side, row-major."""

    def __init__(self, chain: tuple[int, ...], shapes: Shapes, dtype: str) -> None:
        self.chain, self.shapes, self.dtype = chain, shapes, dtype
        self.sizes = np.array(chain)
        self.family = store.family(chain)
        self.uses_blas = self.family == "blas"

    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        return np.concatenate([factor.reshape(len(factor), -1) for factor in factors], axis=1)

    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([prod(shape) for shape in self.shapes])[:-1]
        parts = np.split(flat, ends, axis=1)
        return [part.reshape(len(flat), *shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def entries(self, array: np.ndarray) -> np.ndarray:
        return array.reshape(len(array), -1)

    @property
    def parameters(self) -> int:
        return sum(prod(shape) for shape in self.shapes)

    def kernel(self, runs_a_thread: int, dynamics: str) -> store.Kernel:
        # The same bits either way: a register of runs when there are enough of them and their work fits in cache.
        widest = max(self.chain)
        alone = runs_a_thread <= max(1, widest // 10) or widest > LANES_WIDEST
        return store.chain_kernel(self.chain, self.dtype, alone and self.family == "strict", dynamics)


class ComponentsLayout(Layout):
    """Chunks of components, tiles of entries; see `Plan`."""

    def __init__(self, plan: Plan, dtype: str) -> None:
        self.plan, self.dtype, self.sizes = plan, dtype, plan.sizes

    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        return self.plan.packed(factors)

    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        return self.plan.unpacked(flat)

    def entries(self, array: np.ndarray) -> np.ndarray:
        return self.plan.tiled(array)

    @property
    def parameters(self) -> int:
        return self.plan.components * sum(self.plan.dims)

    def kernel(self, runs_a_thread: int, dynamics: str) -> store.Kernel:
        drive: store.Kernel = store.cp_kernels(self.plan.vectors, self.dtype, dynamics).drive
        return drive


def layout_of(structure: Chain | Components, shapes: Sequence[tuple[int, ...]], dtype: str) -> Layout:
    """The layout of a factorization's factors, each of its `shapes` without the runs axis."""
    return _layout(structure, tuple(shapes), dtype)


@lru_cache(maxsize=16)
def _layout(structure: Chain | Components, shapes: Shapes, dtype: str) -> Layout:
    if isinstance(structure, Chain):
        return ChainLayout(structure.sizes, shapes, dtype)
    return ComponentsLayout(Plan(structure.dims, structure.components, dtype), dtype)
