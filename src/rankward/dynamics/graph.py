"""The computation graph of one iteration of a run: a short list of elementary steps over blocks of numbers.

A graph comes from `tracing.py`. It is written out as scalar text by `kernels/unrolled.py`, as instructions over arrays
by `kernels/blocked.py`, and evaluated in NumPy here, which is how a trace is checked.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from rankward.dynamics.state import BATCH, GRADIENTS, LABELS

# Elementwise functions; `choose(a, b, then, otherwise)` is `then` where a <= b, else (also where one is NaN) the other.
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
    "root": np.sqrt,
    "exponential": np.exp,
    "logarithm": np.log,
    "tangent": np.tanh,
    "logistic": lambda a: 1 / (1 + np.exp(-a)),
    "choose": lambda a, b, then, otherwise: np.where(a <= b, then, otherwise),
}
TRANSCENDENTAL = ("exponential", "logarithm", "tangent", "logistic")


@dataclass(frozen=True)
class Array:
    """A strided view of a block: element (i, j, ...) is at offset + i strides[0] + j strides[1] + ..."""

    block: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int = 0

    @property
    def size(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def is_contiguous(self) -> bool:
        """Whether the elements lie side by side in row-major order."""
        return all(
            size == 1 or stride == expected
            for size, stride, expected in zip(self.shape, self.strides, contiguous(self.shape), strict=True)
        )

    @cached_property
    def places(self) -> np.ndarray:
        """The offset of each element in its block, in row-major order.

        Example:
            >>> Array(0, (2, 3), (1, 2)).places.tolist()
            [0, 2, 4, 1, 3, 5]
        """
        at = np.full((1,) * len(self.shape), self.offset)
        for axis, (size, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
            shape = [1] * len(self.shape)
            shape[axis] = size
            at = at + stride * np.arange(size).reshape(shape)
        return at.reshape(-1)

    def permuted(self, axes: Sequence[int]) -> Array:
        """The same elements with the axes in another order."""
        return replace(
            self, shape=tuple(self.shape[axis] for axis in axes), strides=tuple(self.strides[axis] for axis in axes)
        )

    def flat(self) -> Array:
        """A contiguous array as one axis."""
        return replace(self, shape=(self.size,), strides=(1,))

    def expanded(self, shape: Sequence[int]) -> Array:
        """Broadcast to a shape."""
        new = len(shape) - len(self.shape)
        strides = [0] * new + [
            0 if size == 1 else stride for size, stride in zip(self.shape, self.strides, strict=True)
        ]
        return replace(self, shape=tuple(shape), strides=tuple(strides))


def contiguous(shape: Sequence[int]) -> tuple[int, ...]:
    """Strides of row-major order.

    Example:
        >>> contiguous((2, 3, 4))
        (12, 4, 1)
    """
    strides = [1]
    for size in reversed(shape[1:]):
        strides.append(strides[-1] * size)
    return tuple(reversed(strides))[: len(shape)]


Operand = Array | float


@dataclass(frozen=True)
class Elementwise:
    """A function of operands, element by element; each has the block's shape or is one number."""

    out: int
    function: str
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Product:
    """Matrix products [batch, rows, inner] times [batch, inner, columns]; sums run over ascending inner indices."""

    out: int
    left: Array
    right: Array


@dataclass(frozen=True)
class Total:
    """Sums over the middle axis of [outer, count, inner], in ascending order."""

    out: int
    array: Array


@dataclass(frozen=True, eq=False)
class Gather:
    """Element i is number `table[i]` of the sources' elements, counted from 1 through all of them, or 0 for zero."""

    out: int
    sources: tuple[Array, ...]
    table: np.ndarray


Step = Elementwise | Product | Total | Gather


@dataclass(frozen=True)
class Graph:
    """Steps from inputs to outputs.

    Args:
        dtype: of all numbers, `float64` or `float32`.
        sizes: numbers of each block.
        inputs: blocks that are given, in order.
        constants: blocks whose numbers are known.
        steps: in the order in which they are made.
        outputs: what is computed.
        replaced: inputs, by their position, that the outputs after the first replace at each iteration; empty where
            those outputs are gradients.
        noise: the random parts of a step, whose arrays are the last inputs.
    """

    dtype: str
    sizes: tuple[int, ...]
    inputs: tuple[int, ...]
    constants: dict[int, np.ndarray]
    steps: tuple[Step, ...]
    outputs: tuple[Array, ...]
    replaced: tuple[int, ...] = ()
    noise: tuple[str, ...] = ()

    def only(self, *outputs: int) -> Graph:
        """The graph of some of its outputs, without steps that those do not need."""
        chosen = tuple(self.outputs[number] for number in outputs)
        needed = {array.block for array in chosen}
        steps: list[Step] = []
        for step in reversed(self.steps):
            if step.out in needed:
                steps.append(step)
                needed.update(array.block for array in arrays_of(step))
        constants = {block: values for block, values in self.constants.items() if block in needed}
        return replace(self, constants=constants, steps=tuple(reversed(steps)), outputs=chosen)

    @cached_property
    def operations(self) -> int:
        """Additions, multiplications and other functions of numbers, a product's among them."""
        return sum(_operations(step, self.sizes[step.out]) for step in self.steps)

    @property
    def side(self) -> float:
        """The side of square matrices with as many multiplications as the largest product; 0 where there is none."""
        counts = [math.prod(s.left.shape[1:]) * s.right.shape[2] for s in self.steps if isinstance(s, Product)]
        return math.cbrt(max(counts, default=0))

    @property
    def numbers(self) -> int:
        """Numbers of all inputs, constants and steps."""
        blocks = [*self.inputs, *self.constants, *(step.out for step in self.steps)]
        return sum(self.sizes[block] for block in blocks)

    @property
    def noise_sizes(self) -> tuple[int, int, int]:
        """Entries (or measurements), parameters, and a bit for each random part of a step."""
        factors = next(place for place, number in enumerate((*self.replaced, -1)) if place != number)
        sizes = [self.sizes[block] for block in self.inputs]
        kinds = sum(1 << number for number, kind in enumerate((LABELS, GRADIENTS, BATCH)) if kind in self.noise)
        return sizes[factors + 1], sum(sizes[:factors]), kinds

    @property
    def functions(self) -> set[str]:
        """Names of the elementwise functions in use."""
        return {step.function for step in self.steps if isinstance(step, Elementwise)}

    def evaluate(self, *inputs: np.ndarray) -> list[np.ndarray]:
        """The outputs, in NumPy."""
        blocks: dict[int, np.ndarray] = {block: values.reshape(-1) for block, values in self.constants.items()}
        blocks |= {
            block: np.ascontiguousarray(values, self.dtype).reshape(-1)
            for block, values in zip(self.inputs, inputs, strict=True)
        }

        def values(operand: Operand) -> Any:
            if isinstance(operand, float):
                return np.dtype(self.dtype).type(operand)
            return blocks[operand.block][operand.places].reshape(operand.shape)

        with np.errstate(all="ignore"):
            for step in self.steps:
                if isinstance(step, Elementwise):
                    made = FUNCTIONS[step.function](*map(values, step.operands))
                    made = np.broadcast_to(made, (self.sizes[step.out],) if np.ndim(made) == 0 else np.shape(made))
                elif isinstance(step, Product):
                    made = values(step.left) @ values(step.right)
                elif isinstance(step, Total):
                    made = values(step.array).sum(1)
                else:
                    flat = [np.zeros(1, self.dtype), *(values(source).reshape(-1) for source in step.sources)]
                    made = np.concatenate(flat)[step.table]
                blocks[step.out] = np.asarray(made, self.dtype).reshape(-1)
        return [values(output) for output in self.outputs]


def arrays_of(step: Step) -> Iterator[Array]:
    """The arrays that a step reads."""
    if isinstance(step, Elementwise):
        yield from (operand for operand in step.operands if isinstance(operand, Array))
    elif isinstance(step, Product):
        yield from (step.left, step.right)
    elif isinstance(step, Total):
        yield step.array
    else:
        yield from step.sources


def _operations(step: Step, size: int) -> int:
    if isinstance(step, Gather):
        return 0
    if isinstance(step, Product):
        return size * (2 * step.left.shape[2] - 1)
    return step.array.size - size if isinstance(step, Total) else size


def _key(operand: Operand) -> object:
    """A dictionary key for an operand that distinguishes 0.0 and -0.0."""
    return repr(operand) if isinstance(operand, float) else operand


@dataclass
class Builder:
    """Build a graph; a step that exists already is reused.

    Args:
        dtype: of all numbers.
    """

    dtype: str
    sizes: list[int] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    constants: dict[int, np.ndarray] = field(default_factory=dict)
    steps: dict[int, Step] = field(default_factory=dict)
    _known: dict[object, int] = field(default_factory=dict)

    def graph(self, outputs: Sequence[Array], replaced: Sequence[int] = ()) -> Graph:
        """The graph of the steps that these outputs need."""
        graph = Graph(
            self.dtype,
            tuple(self.sizes),
            tuple(self.inputs),
            self.constants,
            tuple(self.steps.values()),
            tuple(outputs),
            tuple(replaced),
        )
        return graph.only(*range(len(outputs)))

    def _block(self, size: int) -> int:
        self.sizes.append(size)
        return len(self.sizes) - 1

    def input(self, shape: Sequence[int]) -> Array:
        """Add an input block."""
        block = self._block(math.prod(shape))
        self.inputs.append(block)
        return Array(block, tuple(shape), contiguous(shape))

    def constant(self, values: np.ndarray) -> Array:
        """Add a block of constants."""
        values = np.array(values, self.dtype, order="C")  # a copy: they may change where they come from
        key = values.tobytes()
        if key not in self._known:
            self._known[key] = self._block(values.size)
            self.constants[self._known[key]] = values.reshape(-1)
        return Array(self._known[key], values.shape, contiguous(values.shape))

    def _made(self, key: object, size: int, step: Callable[[int], Step]) -> int:
        if key not in self._known:
            block = self._known[key] = self._block(size)
            self.steps[block] = step(block)
        return self._known[key]

    def elementwise(self, function: str, shape: Sequence[int], *operands: Operand) -> Array:
        """Apply an elementwise function to operands that are broadcast to the shape.

        Identities that change no bit are used: one times x, x over one, x less zero, a difference for a sum with a
        negative. A constant of equal elements is one number.
        """
        shape = tuple(shape)
        numbers = [self.number(each) if isinstance(each, Array) else each for each in operands]
        if all(isinstance(each, float) for each in numbers):
            with np.errstate(all="ignore"):
                made = FUNCTIONS[function](*map(np.dtype(self.dtype).type, numbers))
            return self.constant(np.asarray(made)).expanded(shape)
        wide = [each if isinstance(each, float) else each.expanded(shape) for each in numbers]
        neutral = function == "multiply" and 1.0 in wide
        if neutral:
            wide.remove(1.0)
        neutral |= function == "divide" and wide[1] == 1.0
        neutral |= function == "subtract" and isinstance(wide[1], float) and repr(wide[1]) == "0.0"
        if neutral and isinstance(wide[0], Array):
            return wide[0]
        if function == "add" and (positive := self._negated(wide[1])) is not None:
            function, wide = "subtract", [wide[0], positive]
        block = self._made(
            (function, shape, *map(_key, wide)), math.prod(shape), lambda out: Elementwise(out, function, tuple(wide))
        )
        return Array(block, shape, contiguous(shape))

    def number(self, array: Array) -> Operand:
        """The common value of all elements of a constant, or else the array."""
        values = self.constants.get(array.block)
        if values is None or not array.size:
            return array
        bits = values[array.places].view(f"i{values.itemsize}")
        return float(values[array.places[0]]) if (bits == bits[0]).all() else array

    def _negated(self, operand: Operand) -> Array | None:
        """The array x if the operand is known to be -x, else None."""
        if not isinstance(operand, Array) or operand.size != self.sizes[operand.block] or not operand.is_contiguous:
            return None
        step = self.steps.get(operand.block)
        if not isinstance(step, Elementwise) or step.function != "multiply" or step.operands[1] != -1.0:
            return None
        found = step.operands[0]
        assert isinstance(found, Array)
        if found.shape == operand.shape:
            return found
        return replace(found, shape=operand.shape, strides=contiguous(operand.shape)) if found.is_contiguous else None

    def product(self, left: Array, right: Array) -> Array:
        """[batch, rows, inner] times [batch, inner, columns]."""
        shape = (left.shape[0], left.shape[1], right.shape[2])
        if not left.shape[2]:
            return self.constant(np.zeros(shape))
        block = self._made(("product", left, right), math.prod(shape), lambda out: Product(out, left, right))
        return Array(block, shape, contiguous(shape))

    def total(self, array: Array, axes: Sequence[int]) -> Array:
        """The sum over axes, without keeping them."""
        axes = sorted(axis % max(1, len(array.shape)) for axis in axes)
        remaining = [axis for axis in range(len(array.shape)) if axis not in axes]
        if not axes:
            return array
        shape = tuple(array.shape[axis] for axis in remaining)
        if not array.size:
            return self.constant(np.zeros(shape))
        before = [axis for axis in remaining if axis < axes[0]]
        if axes != list(range(axes[0], axes[0] + len(axes))):  # the summed axes come last, so that they are neighbours
            array, before = array.permuted([*remaining, *axes]), remaining
            axes = list(range(len(remaining), len(array.shape)))
        array = self.packed(array)
        outer = math.prod(array.shape[: len(before)])
        count = math.prod(array.shape[axis] for axis in axes)
        cube = (outer, count, array.size // max(1, outer * count))
        array = replace(array, shape=cube, strides=contiguous(cube))
        block = self._made(("total", array), cube[0] * cube[2], lambda out: Total(out, array))
        return Array(block, shape, contiguous(shape))

    def packed(self, array: Array) -> Array:
        """The array if it is contiguous, else a contiguous copy."""
        if array.is_contiguous:
            return replace(array, strides=contiguous(array.shape))
        return self.gather([array], np.arange(1, array.size + 1), array.shape)

    def gather(self, sources: Sequence[Array], table: np.ndarray, shape: Sequence[int]) -> Array:
        """Elements of the sources in another order; see `Gather`."""
        shape, table = tuple(shape), np.ascontiguousarray(table, np.int64).reshape(-1)
        block = self._made(
            ("gather", *sources, table.tobytes()), table.size, lambda out: Gather(out, tuple(sources), table)
        )
        return Array(block, shape, contiguous(shape))
