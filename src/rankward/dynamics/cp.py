"""Memory layout of the CP kernel: chunks of components, a tree over the modes, tiles of entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from rankward.dynamics.kernels.cache import WIDTH
from rankward.dynamics.kernels.tiles import chunk_vectors

SPARSE_FRACTION = 0.16  # of entries observed: below it, computing only those is faster than the full tensor


@dataclass(frozen=True)
class Node:
    """A set of adjacent modes: `rows` is the product of their dimensions, `first` its offset in a block."""

    rows: int
    first: int
    left: int = -1
    right: int = -1


class Plan:
    """The memory layout for tensors of `dims` with `components` components.

    Args:
        dims: at least two.
        components: R.
        dtype: `float64` or `float32`.

    Example:
        >>> plan = Plan((8, 8, 8), 64, "float32")
        >>> plan.vectors, plan.parameters, plan.entries
        (4, 1536, 512)
    """

    def __init__(self, dims: Sequence[int], components: int, dtype: str) -> None:
        self.dims, self.components = tuple(dims), components
        width = WIDTH[dtype]
        self.vectors = chunk_vectors(components, width)
        self.chunk = self.vectors * width
        self.chunks = -(-components // self.chunk)
        self.nodes: list[Node] = []
        self.rows = 0
        for dim in self.dims:
            self._add(dim)
        self.leaf_rows = self.rows
        split = _split(self.dims)
        halves = self._tree(0, split), self._tree(split, len(self.dims))
        self.tiles = [-(-self.nodes[half].rows // 4) for half in halves]
        self.entries = 16 * self.tiles[0] * self.tiles[1]
        self.parameters = self.chunks * self.leaf_rows * self.chunk
        few = int(SPARSE_FRACTION * prod(self.dims))
        head = [self.chunks, self.leaf_rows, self.rows, *self.tiles, *halves, len(self.dims), few]
        nodes = [number for n in self.nodes for number in (n.rows, n.first, n.left, n.right)]
        self.sizes = np.array([*head, *nodes])
        self._place = self._places(self.nodes[halves[1]].rows)

    def _add(self, rows: int, left: int = -1, right: int = -1) -> int:
        self.nodes.append(Node(rows, self.rows, left, right))
        self.rows += -(-rows // 4) * 4
        return len(self.nodes) - 1

    def _tree(self, start: int, end: int) -> int:
        if end - start == 1:
            return start
        split = start + _split(self.dims[start:end])
        left, right = self._tree(start, split), self._tree(split, end)
        return self._add(prod(self.dims[start:end]), left, right)

    def _places(self, cols: int) -> np.ndarray:
        """The offset of each entry of the tensor (row-major) in the order of tiles."""
        row, col = np.divmod(np.arange(prod(self.dims)), cols)
        return ((row // 4) * self.tiles[1] + col // 4) * 16 + (row % 4) * 4 + col % 4

    def packed(self, factors: Sequence[np.ndarray]) -> np.ndarray:
        """Factors [runs, d_n, R] in the kernel's layout: [runs, parameters]."""
        runs = len(factors[0])
        flat = np.zeros((runs, self.chunks, self.leaf_rows, self.chunk), factors[0].dtype)
        for node, factor in zip(self.nodes, factors, strict=False):
            padded = np.zeros((runs, node.rows, self.chunks * self.chunk), factor.dtype)
            padded[..., : self.components] = factor
            split = padded.reshape(runs, node.rows, self.chunks, self.chunk)
            flat[:, :, node.first : node.first + node.rows] = split.transpose(0, 2, 1, 3)
        return flat.reshape(runs, self.parameters)

    def unpacked(self, flat: np.ndarray) -> list[np.ndarray]:
        """The inverse of `packed`."""
        split = flat.reshape(len(flat), self.chunks, self.leaf_rows, self.chunk)
        return [
            np.ascontiguousarray(split[:, :, node.first : node.first + node.rows].transpose(0, 2, 1, 3))
            .reshape(len(flat), node.rows, self.chunks * self.chunk)[..., : self.components]
            for node in self.nodes[: len(self.dims)]
        ]  # fmt: skip

    def tiled(self, array: np.ndarray) -> np.ndarray:
        """Entries [runs, *dims] in the order of tiles, zeros between: [runs, entries]."""
        flat = np.zeros((len(array), self.entries), array.dtype)
        flat[:, self._place] = array.reshape(len(array), len(self._place))
        return flat

    def untiled(self, flat: np.ndarray) -> np.ndarray:
        """The inverse of `tiled`."""
        return flat[:, self._place].reshape(len(flat), *self.dims)


def _split(dims: Sequence[int]) -> int:
    """The number of modes in the first of two halves, chosen so that both are small."""
    return min(range(1, len(dims)), key=lambda at: prod(dims[:at]) + prod(dims[at:]))
