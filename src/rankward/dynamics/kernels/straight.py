"""Straight-line source for one (depth, sizes): every product written out in scalars, factors held in registers.

The same text serves eight runs of a vector register on a processor and, with other loads, one thread of a GPU.
"""

from __future__ import annotations

from collections.abc import Sequence

Names = list[list[str]]


def multiplications(sizes: Sequence[int]) -> int:
    """Multiplications of one iteration: what the length of the text, and so its compile time, grows with.

    Example:
        >>> multiplications([2, 2, 2, 2])
        64
    """
    forward = sum(sizes[0] * sizes[i] * sizes[i + 1] for i in range(1, len(sizes) - 1))
    gradients = sum(sizes[-1] * sizes[i] * sizes[i + 1] for i in range(1, len(sizes) - 1))
    backward = sum(sizes[-1] * sizes[i] * sizes[i - 1] for i in range(1, len(sizes) - 1))
    updates = sum(sizes[i] * sizes[i + 1] for i in range(len(sizes) - 1))
    return forward + gradients + backward + updates + sizes[0] * sizes[-1]


def _transposed(matrix: Names) -> Names:
    return [list(column) for column in zip(*matrix, strict=True)]


def _product(name: str, left: Names, right: Names) -> tuple[list[str], Names]:
    """Lines that multiply two matrices of names; sums run over ascending k, as everywhere in the engine."""
    result = [[f"{name}_{i}_{j}" for j in range(len(right[0]))] for i in range(len(left))]
    lines = [
        f"{result[i][j]} = " + " + ".join(f"{left[i][k]} * {right[k][j]}" for k in range(len(right)))
        for i in range(len(left))
        for j in range(len(right[0]))
    ]
    return lines, result


def _factors(sizes: Sequence[int]) -> list[Names]:
    return [
        [[f"w{layer}_{i}_{j}" for j in range(sizes[layer])] for i in range(sizes[layer + 1])]
        for layer in range(len(sizes) - 1)
    ]


def _flat(matrix: Names) -> list[str]:
    return [name for row in matrix for name in row]


def _residual(sizes: Sequence[int], factors: list[Names]) -> tuple[list[str], list[Names], Names]:
    """Lines up to the masked residual; also every partial product W_l ... W_1."""
    lines: list[str] = []
    partial = [factors[0]]
    for layer in range(1, len(factors)):
        new, result = _product(f"x{layer}", factors[layer], partial[-1])
        lines += new
        partial.append(result)
    residual = [[f"e_{i}_{j}" for j in range(sizes[0])] for i in range(sizes[-1])]
    for index, (error, entry) in enumerate(zip(_flat(residual), _flat(partial[-1]), strict=True)):
        lines.append(f"{error} = m{index} * ({entry} - y{index})")
    return lines, partial, residual


def _gradients(sizes: Sequence[int], factors: list[Names]) -> tuple[list[str], list[list[str]]]:
    """Lines of the half sum's gradient, by back-propagation of the residual; its entries' names, a list a layer."""
    lines, partial, signal = _residual(sizes, factors)
    slopes: list[list[str]] = []
    for layer in reversed(range(len(factors))):
        gradient = signal
        if layer > 0:
            new, gradient = _product(f"g{layer}", signal, _transposed(partial[layer - 1]))
            lines += new
            new, signal = _product(f"b{layer}", _transposed(factors[layer]), signal)
            lines += new
        slopes.append(_flat(gradient))
    return lines, slopes[::-1]


def _step(sizes: Sequence[int], factors: list[Names], adaptive: bool) -> list[str]:
    """Lines of one gradient step on Equation 2."""
    lines, slopes = _gradients(sizes, factors)
    pairs = zip(factors, slopes, strict=True)
    updates = [f"{w} = {w} - step * {g}" for weights, each in pairs for w, g in zip(_flat(weights), each, strict=True)]
    last_first = [g for each in reversed(slopes) for g in each]
    square = " + ".join(f"{g} * {g}" for g in last_first) if adaptive else last_first[0]
    return [*lines, f"step = step_size(state, rates, {square})", *updates]


def source(sizes: Sequence[int], adaptive: bool) -> str:
    """The functions that the text of descent calls, and those that the text of the flow does.

    Args:
        sizes: d_0, d_1, ..., d_L, where layer l is [d_l, d_(l-1)].
        adaptive: whether steps need the gradient's norm.
    """
    factors = _factors(sizes)
    weights = [name for matrix in factors for name in _flat(matrix)]
    entries = range(sizes[0] * sizes[-1])
    fields = [*weights, *(f"m{i}" for i in entries), *(f"y{i}" for i in entries)]
    loads = [f"{name} = load(state, {index} * LANES)" for index, name in enumerate(fields)]
    stores = [f"store(state, {index} * LANES, {name})" for index, name in enumerate(weights)]
    residual_lines, _, residual = _residual(sizes, factors)
    squares = " + ".join(f"{name} * {name}" for name in _flat(residual))

    def function(head: str, *blocks: list[str]) -> list[str]:
        return ["", "", "@numba.njit(cache=True, nogil=True)", f"def {head}:", *(line for b in blocks for line in b)]

    def indented(lines: list[str], by: int = 4) -> list[str]:
        return [" " * by + line for line in lines]

    text = function("scratch_size(sizes)", ["    return 0"])
    text += function(
        "advance(state, scratch, sizes, steps)",
        indented([*loads, f"rates = {len(fields)}"]),
        ["    for _ in range(steps):"],
        indented(_step(sizes, factors, adaptive), 8),
        indented(stores),
    )
    text += function(
        "losses(state, scratch, sizes, loss)",
        indented(loads + residual_lines),
        indented([f"store(loss, 0, fill(loss, 0.5) * ({squares}))"]),
    )
    loads = [
        *(f"{name} = load(factors, (origin + {index}) * LANES)" for index, name in enumerate(weights)),
        *(f"{name} = load(state, {index} * LANES)" for index, name in enumerate(fields) if index >= len(weights)),
    ]
    back_lines, slopes = _gradients(sizes, factors)
    entries_of = [name for each in slopes for name in each]
    slope_stores = [f"store(scratch, (out + {index}) * LANES, {name})" for index, name in enumerate(entries_of)]
    half = f"store(scratch, (out + {len(weights)}) * LANES, fill(scratch, 0.5) * ({squares}))"
    text += function("weights_of(sizes)", [f"    return {len(weights)}"])
    text += function("rates_of(sizes)", [f"    return {len(fields)}"])
    text += function("slopes(factors, origin, state, scratch, sizes, out)",
                     indented([*loads, *back_lines, *slope_stores, half]))  # fmt: skip
    return "\n".join(text) + "\n"
