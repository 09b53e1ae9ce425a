"""A graph as straight-line text: every number has a name, and factors are held in registers.

The same text serves eight runs of a vector register on a processor and, with other loads, one thread of a GPU.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

from rankward.dynamics.graph import TRANSCENDENTAL, Elementwise, Gather, Graph, Operand, Product, Step, Total

SYMBOLS = {"add": "+", "subtract": "-", "multiply": "*"}
CALLS = {"divide": "quotient", "root": "root", "choose": "choose"}
NUMBERS_AHEAD = (
    200  # random numbers of a run that are drawn at once, for several steps: those of one wait for each other
)
NAME = re.compile(r"\b[twmycrn]\d+\b")


class _Writer:
    """Lines that compute a graph's outputs, and the names of these.

    Args:
        graph: what is computed.
        inputs: names of the numbers of each input.
        like: the array whose precision constants take.
    """

    def __init__(self, graph: Graph, inputs: Sequence[Sequence[str]], like: str) -> None:
        self.like = like
        self.constants: dict[str, str] = {}  # names by number
        self.lines: dict[str, str] = {}  # names by expression
        self.names: dict[int, list[str]] = dict(zip(graph.inputs, map(list, inputs), strict=True))
        for block, values in graph.constants.items():
            self.names[block] = [self._number(float(value)) for value in values]
        for step in graph.steps:
            self.names[step.out] = self._written(step, graph.sizes[step.out])
        self.outputs = [[self.names[array.block][index] for index in array.places] for array in graph.outputs]

    def _number(self, value: float) -> str:
        return self.constants.setdefault(repr(value), f"c{len(self.constants)}")

    def _line(self, expression: str) -> str:
        return self.lines.setdefault(expression, f"t{len(self.lines)}")

    def _of(self, operand: Operand, size: int) -> list[str]:
        if isinstance(operand, float):
            return [self._number(operand)] * size
        names = self.names[operand.block]
        return [names[index] for index in operand.places]

    def _written(self, step: Step, size: int) -> list[str]:
        if isinstance(step, Elementwise):
            each = zip(*(self._of(operand, size) for operand in step.operands), strict=True)
            return [self._line(_call(step.function, operands, self.like)) for operands in each]
        if isinstance(step, Product):
            batch, rows, inner = step.left.shape
            columns = step.right.shape[2]
            left, right = self._of(step.left, 0), self._of(step.right, 0)
            return [
                self._line(
                    " + ".join(
                        f"{left[(b * rows + i) * inner + k]} * {right[(b * inner + k) * columns + j]}"
                        for k in range(inner)
                    )
                )
                for b in range(batch)
                for i in range(rows)
                for j in range(columns)
            ]
        if isinstance(step, Total):
            outer, count, inner = step.array.shape
            names = self._of(step.array, 0)
            return [
                self._sum([names[(o * count + k) * inner + i] for k in range(count)])
                for o in range(outer)
                for i in range(inner)
            ]
        assert isinstance(step, Gather)
        all_names = [""]
        for source in step.sources:
            all_names += self._of(source, 0)
        return [all_names[index] if index else self._number(0.0) for index in step.table]

    def _sum(self, names: Sequence[str]) -> str:
        return names[0] if len(names) == 1 else self._line(" + ".join(names))

    def needed(self, names: Sequence[str]) -> list[str]:
        """The lines that these names need, in order."""
        needed = set(names)
        lines: list[str] = []
        for expression, name in reversed(self.lines.items()):
            if name in needed:
                lines.append(f"{name} = {expression}")
                needed.update(NAME.findall(expression))
        return lines[::-1]

    def fills(self, lines: Sequence[str]) -> list[str]:
        """Lines of the constants that these lines use."""
        used = {name for line in lines for name in NAME.findall(line)}
        return [
            f"{name} = fill({self.like}, {value.replace('inf', 'INFINITY').replace('nan', 'UNDEFINED')})"
            for value, name in self.constants.items()
            if name in used
        ]


def _call(function: str, operands: Sequence[str], like: str) -> str:
    if function in SYMBOLS:
        first, second = operands if function == "subtract" else sorted(operands)
        return f"{first} {SYMBOLS[function]} {second}"
    given = [like, *operands] if function in TRANSCENDENTAL else operands
    return f"{CALLS.get(function, function)}({', '.join(given)})"


def _function(head: str, *blocks: Sequence[str]) -> list[str]:
    return ["", "", "@numba.njit(cache=True, nogil=True)", f"def {head}:", *(line for b in blocks for line in b)]


def _indented(lines: Sequence[str], by: int = 4) -> list[str]:
    return [" " * by + line for line in lines]


def _advance_and_losses(
    writer: _Writer,
    fields: Sequence[str],
    changed: Sequence[str],
    step: Sequence[str],
    half: str,
    *fixed: str,
    noise: Sequence[int] = (),
) -> list[str]:
    """The functions `scratch_size`, `advance` and `losses`.

    Args:
        fields: names of the state's numbers.
        changed: those that a step changes.
        step: its lines.
        half: name of the half sum.
        fixed: lines before the first step.
        noise: `Graph.noise_sizes` where every step has its own fields `n`, the last ones; else empty.
    """
    loads = _loads("state", fields)
    kept = [load for load in _used(loads, step, changed) if not load.startswith("n")]
    room, loop = 0, ["    for _ in range(steps):", *_indented(step, 8)]
    if noise:
        random = [name for name in fields if name.startswith("n")]
        drawn = _used(_loads("scratch", random, "at + "), step)
        ahead = max(1, NUMBERS_AHEAD // len(drawn))
        room = ahead * len(random)
        places = ", ".join(map(str, (len(fields), *noise)))
        loop = [
            f"    for made in range(0, steps, {ahead}):",
            f"        count = min(steps - made, {ahead})",
            f"        disturb(state.ctypes, state.size, state.size // LANES - {room}, {places}, count)",
            f"        for at in range(0, count * {len(random)}, {len(random)}):",
            *_indented(drawn, 12),
            *_indented(step, 12),
        ]
    text = _function("scratch_size(sizes)", [f"    return {room}"])
    text += _function(
        "advance(state, scratch, sizes, steps)",
        _indented([*kept, *writer.fills(step), *fixed]),
        loop,
        _indented([f"store(state, {fields.index(name)} * LANES, {name})" for name in changed]),
    )
    lines = [*writer.needed([half]), f"store(loss, 0, {half})"]
    return text + _function(
        "losses(state, scratch, sizes, loss)", _indented([*_used(loads, lines), *writer.fills(lines), *lines])
    )


def _loads(array: str, names: Sequence[str], start: str = "") -> list[str]:
    place = f"({start}{{}})" if start else "{}"
    return [f"{name} = load({array}, {place.format(index)} * LANES)" for index, name in enumerate(names)]


def step_source(graph: Graph) -> str:
    """The functions that the text of descent calls, for a graph of the half sum and an optimizer's step.

    Args:
        graph: with inputs that are replaced.
    """
    sizes = [graph.sizes[block] for block in graph.inputs]
    factors = next(place for place, number in enumerate((*graph.replaced, -1)) if place != number)
    drawn = len(graph.noise)
    letters = ["w"] * factors + ["m", "y"] + ["r"] * (len(sizes) - factors - 2 - drawn) + ["n"] * drawn
    fields = [f"{letter}{number}" for number, letter in enumerate(np.repeat(letters, sizes))]
    inputs = _split(fields, sizes)
    writer = _Writer(graph, inputs, "state")
    (half,), *outputs = writer.outputs
    changed = [name for number in graph.replaced for name in inputs[number]]
    made = [name for output in outputs for name in output]
    # An output that is an input, such as a factor that the state keeps, is copied before that input changes.
    copies = [f"g{number} = {name}" for number, name in enumerate(made) if name in fields]
    kept = [f"g{number}" if name in fields else name for number, name in enumerate(made)]
    step = [*writer.needed(made), *copies, *(f"{name} = {new}" for name, new in zip(changed, kept, strict=True))]
    noise = graph.noise_sizes if drawn else ()
    return "\n".join(_advance_and_losses(writer, fields, changed, step, half, noise=noise)) + "\n"


def rate_source(graph: Graph) -> str:
    """The function `step_size`: what gradients of the half sum are multiplied by; it changes the run's state.

    Args:
        graph: of `tracing.trace_rate`.
    """
    fields = [f"r{number}" for number in range(len(graph.inputs) - 1)]
    writer = _Writer(graph, [*([name] for name in fields), ["square"]], "state")
    (step,), *after = writer.outputs
    lines = writer.needed([step, *(name for (name,) in after)])
    changed = zip(graph.replaced, after, strict=True)
    stores = [f"store(state, at + {place} * LANES, {name})" for place, (name,) in changed]
    loads = [f"{name} = load(state, at + {place} * LANES)" for place, name in enumerate(fields)]
    body = ["at = rates * LANES", *_used(loads, lines), *writer.fills(lines), *lines, *stores, f"return {step}"]
    return "\n".join(_function("step_size(state, rates, square)", _indented(body))) + "\n"


def source(graph: Graph, adaptive: bool) -> str:
    """The functions that the text of descent calls, and those that the text of the flow does.

    Args:
        graph: from factors, operator and values to the half sum and its gradients.
        adaptive: whether the step size depends on the squared norm of the gradients.
    """
    sizes = [graph.sizes[block] for block in graph.inputs]
    factors, (operators, values) = sizes[:-2], sizes[-2:]
    count = sum(factors)
    weights = [f"w{i}" for i in range(count)]
    split = _split(weights, factors)
    fields = [*weights, *(f"m{i}" for i in range(operators)), *(f"y{i}" for i in range(values))]
    inputs = [*split, fields[count : count + operators], fields[count + operators :]]

    writer = _Writer(graph, inputs, "state")
    (half,), *gradients = writer.outputs
    entries = [name for each in gradients for name in each]
    copies = [f"g{number} = {name}" for number, name in enumerate(entries) if name.startswith("w")]
    entries = [f"g{number}" if name.startswith("w") else name for number, name in enumerate(entries)]
    last_first = [name for each in reversed(_split(entries, factors)) for name in each]
    square = " + ".join(f"{name} * {name}" for name in last_first) if adaptive else last_first[0]
    step = [*writer.needed([name for each in gradients for name in each]), *copies]
    step += [f"step = step_size(state, rates, {square})"]
    step += [f"{weight} = {weight} - step * {gradient}" for weight, gradient in zip(weights, entries, strict=True)]

    text = _advance_and_losses(writer, fields, weights, step, half, f"rates = {len(fields)}")
    text += _function("weights_of(sizes)", [f"    return {count}"])
    text += _function("rates_of(sizes)", [f"    return {len(fields)}"])

    writer = _Writer(graph, inputs, "scratch")
    results = [name for each in (*writer.outputs[1:], writer.outputs[0]) for name in each]
    lines = writer.needed(results)
    lines += [f"store(scratch, (out + {index}) * LANES, {name})" for index, name in enumerate(results)]
    loads = _loads("state", fields)
    loads[:count] = [f"{name} = load(factors, (origin + {index}) * LANES)" for index, name in enumerate(weights)]
    text += _function(
        "slopes(factors, origin, state, scratch, sizes, out)",
        _indented([*_used(loads, lines), *writer.fills(lines), *lines]),
    )
    return "\n".join(text) + "\n"


def _split(names: Sequence[str], sizes: Sequence[int]) -> list[list[str]]:
    parts, at = [], 0
    for size in sizes:
        parts.append(list(names[at : at + size]))
        at += size
    return parts


def _used(loads: Sequence[str], lines: Sequence[str], always: Sequence[str] = ()) -> list[str]:
    """Those loads whose names the lines use."""
    used = {name for line in lines for name in NAME.findall(line)}.union(always)
    return [load for load in loads if load.split(" = ", 1)[0] in used]
