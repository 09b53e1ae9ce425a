"""A graph as instructions over arrays, for an interpreter loop that is compiled once for all graphs.

A number is a vector of runs, or of neighbouring elements where runs are trained one at a time. Neighbouring elementwise
steps become one instruction, which takes a span of elements through all of them: what lies between stays in cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from rankward.dynamics.graph import FUNCTIONS, Array, Elementwise, Gather, Graph, Product, Step, Total, arrays_of

ELEMENTS, PRODUCT, TOTAL = range(3)  # instructions
CODES = tuple(FUNCTIONS)
GATHER = len(CODES)
SCALAR, MOVING, LOCAL = range(3)  # an operand: one number; elements of an array; elements of the span's own buffer
PAD = 16  # blocks begin at multiples of it, so that a vector of elements may end beyond a block
SPAN_BYTES = 2048


def padded(size: int) -> int:
    """The size rounded up to the start of the next block.

    Example:
        >>> padded(1), padded(16), padded(17)
        (16, 16, 32)
    """
    return -(-size // PAD) * PAD


@dataclass
class Room:
    """A first-fit allocator of offsets.

    Args:
        end: first offset beyond all allocations.
    """

    end: int
    free: list[tuple[int, int]] = field(default_factory=list)  # begin, size

    def take(self, size: int) -> int:
        size = padded(size)
        for number, (begin, room) in enumerate(self.free):
            if room >= size:
                self.free[number : number + 1] = [(begin + size, room - size)] if room > size else []
                return begin
        self.end += size
        return self.end - size

    def give(self, begin: int, size: int) -> None:
        size = padded(size)
        merged: list[tuple[int, int]] = []
        for at, room in sorted([*self.free, (begin, size)]):
            if merged and merged[-1][0] + merged[-1][1] == at:
                merged[-1] = (merged[-1][0], merged[-1][1] + room)
            else:
                merged.append((at, room))
        self.free = merged


@dataclass
class Group:
    """Elementwise and gathering steps over the same number of elements, executed together."""

    count: int
    steps: list[Elementwise | Gather]


def units(steps: Sequence[Step]) -> list[Group | Product | Total]:
    """Steps as instructions: neighbouring ones over the same elements together, where each needs its own one only."""
    made: list[Group | Product | Total] = []
    for step in steps:
        if isinstance(step, Product | Total):
            made.append(step)
            continue
        count = _count(step)
        last = made[-1] if made else None
        if isinstance(last, Group) and last.count == count:
            group_blocks = {each.out for each in last.steps}
            inputs = [array for array in arrays_of(step) if array.block in group_blocks]
            if not inputs or (isinstance(step, Elementwise) and all(_is_moving(array, count) for array in inputs)):
                last.steps.append(step)
                continue
        made.append(Group(count, [step]))
    return made


def _count(step: Elementwise | Gather) -> int:
    if isinstance(step, Gather):
        return len(step.table)
    return max(operand.size for operand in step.operands if isinstance(operand, Array))


def _is_moving(array: Array, count: int) -> bool:
    """Whether element i of an instruction is element i of the array, counted from its offset."""
    return array.is_contiguous and array.size == count


def _is_scalar(array: Array) -> bool:
    return all(size == 1 or stride == 0 for size, stride in zip(array.shape, array.strides, strict=True))


class _Encoder:
    """Instructions of one graph.

    Args:
        graph: what is computed; its outputs are whole blocks that steps make.
        places: where inputs, constants and single numbers (by their text) lie.
        room: for everything else.
        span: elements that are taken through an instruction's steps together.
        program, tables: what is appended to; an instruction names a table by where it begins.
    """

    def __init__(
        self,
        graph: Graph,
        places: dict[int | str, int],
        room: Room,
        span: int,
        program: list[int],
        tables: list[int],
    ) -> None:
        self.graph, self.places, self.room, self.span = graph, dict(places), room, span
        self.program, self.tables = program, tables

    def encode(self) -> list[int]:
        """Append the instructions and return the offset of each output."""
        output_blocks = {array.block for array in self.graph.outputs}
        instructions = units(self.graph.steps)
        last = {block: number for number, unit in enumerate(instructions) for block in _read(unit)}
        for number, unit in enumerate(instructions):
            if isinstance(unit, Group):
                self._group(unit, {block for block, at in last.items() if at <= number} - output_blocks)
            else:
                self.places[unit.out] = self.room.take(self.graph.sizes[unit.out])
                self._single(unit)
            for block in set(_read(unit)) - output_blocks:
                if last[block] == number and block in self.places and self._is_made(block):
                    self.room.give(self.places[block], self.graph.sizes[block])
        return [self.places[array.block] for array in self.graph.outputs]

    def _is_made(self, block: int) -> bool:
        return block not in self.graph.inputs and block not in self.graph.constants

    def _at(self, array: Array) -> int:
        return self.places[array.block] + array.offset

    def _single(self, step: Product | Total) -> None:
        if isinstance(step, Product):
            (batch, rows, inner), columns = step.left.shape, step.right.shape[2]
            left, right = [self._at(step.left), *step.left.strides], [self._at(step.right), *step.right.strides]
            self.program += [PRODUCT, batch, rows, columns, inner, self.places[step.out], *left, *right]
        else:
            self.program += [TOTAL, *step.array.shape, self.places[step.out], self._at(step.array)]

    def _table(self, addresses: np.ndarray) -> int:
        self.tables += addresses.tolist()
        return len(self.tables) - len(addresses)

    def _group(self, group: Group, ended: set[int]) -> None:
        """One instruction; its blocks that have `ended` with it share buffers of a span.

        A line is a function, where it writes and how, and where and how it reads each of up to four operands.
        """
        made = [step.out for step in group.steps]
        for block in made:
            if block not in ended:
                self.places[block] = self.room.take(self.graph.sizes[block])
        read_last = {array.block: at for at, step in enumerate(group.steps) for array in arrays_of(step)}
        buffers: dict[int, int] = {}
        lines: list[list[int]] = []

        def gathered(to: Sequence[int], addresses: np.ndarray) -> None:
            lines.append([GATHER, *to, self._table(addresses), *[0] * 7])

        for at, step in enumerate(group.steps):
            passing: list[int] = []  # buffers that this step alone needs
            if step.out in ended:
                buffers[step.out] = self.room.take(self.span)
                target = [buffers[step.out], LOCAL]
            else:
                target = [self.places[step.out], MOVING]
            if isinstance(step, Gather):
                sources = [self.places[source.block] + source.places for source in step.sources]
                gathered(target, np.concatenate([[self.places["0.0"]], *sources])[step.table])
            else:
                operands: list[int] = []
                for given in step.operands:
                    if isinstance(given, float):
                        operands += [self.places[repr(given)], SCALAR]
                    elif given.block in buffers:
                        operands += [buffers[given.block], LOCAL]
                    elif _is_moving(given, group.count):
                        operands += [self._at(given), MOVING]
                    elif _is_scalar(given):
                        operands += [self._at(given), SCALAR]
                    else:
                        passing.append(self.room.take(self.span))
                        gathered([passing[-1], LOCAL], self.places[given.block] + given.places)
                        operands += [passing[-1], LOCAL]
                lines.append([CODES.index(step.function), *target, *operands, *[0] * (8 - len(operands))])
            over = [block for block in buffers if read_last.get(block, -1) <= at]
            for buffer in [*passing, *map(buffers.pop, over)]:
                self.room.give(buffer, self.span)
        self.program += [ELEMENTS, group.count, self.span, len(lines), *(each for line in lines for each in line)]


def _read(unit: Group | Product | Total) -> Iterator[int]:
    """Blocks that an instruction reads."""
    for step in unit.steps if isinstance(unit, Group) else [unit]:
        yield from (array.block for array in arrays_of(step))


# The first of the kernel's numbers: `scratch` numbers a run, `weights` of the factors, `fields` with operator and
# values behind them; `own` where factors are copied to, of a flow; `half` where the half sum (or a product) lies,
# `half_of_all` after the instructions of all outputs; how many factors there are; where the rest begins and ends; and
# `spare`, where matrices are put in order. The last four are of the random parts of a step: where they lie, and
# `Graph.noise_sizes`.
HEAD = (
    "scratch", "weights", "fields", "own", "half", "half_of_all", "factors", "slopes_begin", "slopes_end", "loss_begin",
    "loss_end", "all_begin", "all_end", "constants_begin", "constants_end", "tables_begin", "spare", "noise_begin",
    "noise_entries", "noise_parameters", "noise_kinds",
)  # fmt: skip
OF_FACTOR = 4  # numbers of each behind the head: its size, where it lies, its gradient, and this after all outputs


class _Encoding:
    """Instructions of several graphs over the same inputs, with their constants and tables.

    Args:
        graph: that has all of them.
        places: of the inputs.
        start: where scratch begins.
        single: whether the kernel trains one run at a time.
        factors: how many the instructions come behind.
    """

    def __init__(self, graph: Graph, places: Mapping[int, int], start: int, single: bool, factors: int = 0) -> None:
        self.first = len(HEAD) + OF_FACTOR * factors  # where instructions begin
        self.room, self.single = Room(start), single
        self.places: dict[int | str, int] = {block: at for block, at in places.items()}  # noqa: C416 - other keys follow
        self.program: list[int] = []
        self.constants: list[int] = []
        self.tables: list[int] = []
        self.spare = self.room.take(_copied(graph)) if single else 0
        self.end = self.room.end
        self._constant("0.0", [0.0])
        for operand in (each for step in graph.steps if isinstance(step, Elementwise) for each in step.operands):
            if isinstance(operand, float) and repr(operand) not in self.places:
                self._constant(repr(operand), [operand])
        for block, values in graph.constants.items():
            self._constant(block, values.tolist())

    def _constant(self, key: int | str, values: Sequence[float]) -> None:
        self.places[key] = self.room.take(len(values))
        bits = np.array(values, np.float64).view(np.int64).tolist()
        self.constants += [self.places[key], len(values), *bits]

    def add(self, graph: Graph) -> tuple[list[int], int, int]:
        """Add a graph; return the offsets of its outputs and of the first and last instruction."""
        room, begin = Room(self.room.end), self.first + len(self.program)
        span = SPAN_BYTES // (8 if self.single else 64)
        outputs = _Encoder(graph, self.places, room, span, self.program, self.tables).encode()
        self.end = max(self.end, room.end)
        return outputs, begin, self.first + len(self.program)

    def numbers(self, head: Mapping[str, int], factors: Sequence[int] = ()) -> np.ndarray:
        """The complete array; `head` lacks the fields that this encoding knows."""
        begin = self.first + len(self.program)
        end = begin + len(self.constants)
        fields = {**head, "spare": self.spare, "constants_begin": begin, "constants_end": end, "tables_begin": end}
        return np.array([*(fields.get(key, 0) for key in HEAD), *factors, *self.program, *self.constants, *self.tables])


def _copied(graph: Graph) -> int:
    """The largest number of elements in the two matrices of a product."""
    steps = [step for step in graph.steps if isinstance(step, Product)]
    return max(((s.left.size + s.right.size) // max(1, s.left.shape[0]) for s in steps), default=0)


def encoded(graph: Graph, rates: int, single: bool, flow: bool) -> np.ndarray:
    """A graph of half sum and gradients as the kernel has it: `HEAD`, factors, instructions, constants, tables.

    If the graph has an optimizer's step, every input that is replaced counts as a factor, and its gradient is the new
    value.

    Args:
        graph: from factors, operator and values to the half sum and its gradients, or with an optimizer's inputs more.
        rates: numbers that the state holds behind the inputs.
        single: whether the kernel trains one run at a time.
        flow: whether factors come from elsewhere than the state.
    """
    graph = _with_whole_outputs(graph)
    sizes = [graph.sizes[block] for block in graph.inputs]
    starts = _starts(sizes)
    changed = graph.replaced or range(len(sizes) - 2)
    weights, fields = starts[-3], starts[-1]
    start = padded(fields + rates)
    copy_offset = start if flow else 0
    places = dict(zip(graph.inputs, starts, strict=False))
    for number in changed:
        places[graph.inputs[number]] += copy_offset
    encoding = _Encoding(graph, places, start + (padded(weights) if flow else 0), single, len(changed))
    every = range(len(graph.outputs))
    gradients, slopes_begin, slopes_end = encoding.add(graph.only(*every[1:]))
    (half,), loss_begin, loss_end = encoding.add(graph.only(0))
    (half_of_all, *gradients_of_all), all_begin, all_end = encoding.add(graph)
    head = {
        "scratch": encoding.end + PAD - start, "weights": weights, "fields": fields, "own": copy_offset, "half": half,
        "half_of_all": half_of_all, "factors": len(gradients), "slopes_begin": slopes_begin, "slopes_end": slopes_end,
        "loss_begin": loss_begin, "loss_end": loss_end, "all_begin": all_begin, "all_end": all_end,
    }  # fmt: skip
    made = zip(changed, gradients, gradients_of_all, strict=True)
    factors = [each for number, *both in made for each in (sizes[number], starts[number], *both)]
    if graph.noise:
        names = ("noise_begin", "noise_entries", "noise_parameters", "noise_kinds")
        head |= dict(zip(names, (starts[-1 - len(graph.noise)], *graph.noise_sizes), strict=True))
    return encoding.numbers(head, factors)


def encoded_product(graph: Graph, single: bool) -> np.ndarray:
    """A graph from factors to their product as the kernel has it."""
    graph = _with_whole_outputs(graph)
    starts = _starts([graph.sizes[block] for block in graph.inputs])
    encoding = _Encoding(graph, dict(zip(graph.inputs, starts, strict=False)), padded(starts[-1]), single)
    (made,), begin, end = encoding.add(graph)
    head = {"scratch": encoding.end + PAD, "weights": starts[-1], "half": made, "all_begin": begin, "all_end": end}
    return encoding.numbers(head)


def _starts(sizes: Sequence[int]) -> list[int]:
    """The offset of each input, and the end of the last."""
    return [int(at) for at in np.cumsum([0, *sizes])]


def _with_whole_outputs(graph: Graph) -> Graph:
    """The graph where each output is the whole of a block that a step makes: what is not is copied."""
    made = {step.out for step in graph.steps}
    sizes, steps, outputs = list(graph.sizes), list(graph.steps), []
    for array in graph.outputs:
        if array.block not in made or not array.is_contiguous or array.size != graph.sizes[array.block]:
            sizes.append(array.size)
            steps.append(Gather(len(sizes) - 1, (array,), np.arange(1, array.size + 1)))
            array = Array(len(sizes) - 1, (array.size,), (1,))
        outputs.append(array)
    return replace(graph, sizes=tuple(sizes), steps=tuple(steps), outputs=tuple(outputs))


def header() -> str:
    """Names of the first numbers, of instructions and of functions, as text."""
    names = [*HEAD, *CODES, "gather"]
    values = [*range(len(HEAD)), *range(len(CODES) + 1)]
    lines = [f"{name.upper()} = {value}" for name, value in zip(names, values, strict=True)]
    lines += [f"ELEMENTS, PRODUCT, TOTAL = {ELEMENTS}, {PRODUCT}, {TOTAL}"]
    lines += [f"SCALAR, MOVING, LOCAL = {SCALAR}, {MOVING}, {LOCAL}"]
    return "\n".join([*lines, f"OF_FACTOR, FIRST_FACTOR = {OF_FACTOR}, {len(HEAD)}"]) + "\n"
