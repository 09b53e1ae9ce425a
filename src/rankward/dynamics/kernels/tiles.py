"""Written-out inner loops of the CP kernel, for chunks of one to four vectors: registers have names."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

FOUR = range(4)


def chunk_vectors(components: int, width: int) -> int:
    """Vectors of `width` components in a chunk: as many as are needed, at most four.

    Example:
        >>> chunk_vectors(3, 16), chunk_vectors(40, 16), chunk_vectors(512, 16)
        (1, 3, 4)
    """
    return min(4, -(-components // width))


def source(vectors: int, width: int) -> str:
    """The functions `dots`, `back_rows`, `back_cols`, `back_product`, `few_dots` and `few_back`."""
    lines = [f"VECTORS = {vectors}"]
    for function in (_dots, _back_rows, _back_cols, _back_product, _few_dots, _few_back):
        head, *body = function(range(vectors), width)
        lines += ["", "", '@numba.njit(cache=True, nogil=True, inline="never")', f"def {head}:", *_in(1, body)]
    return "\n".join(lines) + "\n"


def _in(depth: int, lines: Iterable[str]) -> list[str]:
    return [4 * depth * " " + line for line in lines]


def _load(name: str, at: str, v: int) -> str:
    return f"{name}{v} = load_wide(scratch, {at} + {v} * WIDE)"


def _dots(vectors: Sequence[int], width: int) -> list[str]:
    """Entries of K L', tile by tile: tile (p, q) holds rows 4p to 4p+3 and columns 4q to 4q+3."""
    accumulators = [f"c{i}{j}" for i in FOUR for j in FOUR]
    inner: list[str] = []
    for v in vectors:
        inner += [f"a{i} = load_wide(scratch, row + {i} * CHUNK + {v} * WIDE)" for i in FOUR]
        inner += [f"b{j} = load_wide(scratch, col + {j} * CHUNK + {v} * WIDE)" for j in FOUR]
        inner += [f"c{i}{j} = " + (f"c{i}{j} + " if v else "") + f"a{i} * b{j}" for i in FOUR for j in FOUR]
    folds: list[str] = []
    for part in range(0, 16, width):
        folds.append(f"total = sums{width}(({', '.join(accumulators[part : part + width])}))")
        folds += ["if not first:", f"    total = load_wide(scratch, at + {part}) + total"]
        folds.append(f"store_wide(scratch, at + {part}, total)")
    return [
        "dots(scratch, left, right, at, tiles_p, tiles_q, first)",
        "for p in range(tiles_p):",
        *_in(1, ["row = left + 4 * p * CHUNK", "for q in range(tiles_q):"]),
        *_in(2, ["col = right + 4 * q * CHUNK", *inner, *folds, "at += 16"]),
    ]


def _back(vectors: Sequence[int], tile: str, mine: str, other: str) -> list[str]:
    """Four rows of E L (or of E' K): sums over the columns (or rows), which come in fours as well."""

    def step(k: int, first: bool) -> list[str]:
        lines = [_load("b", f"far + {k} * CHUNK", v) for v in vectors]
        for i in FOUR:
            offset = f"{4 * i + k}" if mine == "p" else f"{4 * k + i}"
            lines.append(f"e = spread(scratch, tile + {offset})")
            lines += [f"c{i}{v} = " + ("" if first else f"c{i}{v} + ") + f"e * b{v}" for v in vectors]
        return lines

    return [
        f"for {mine} in range(tiles_{mine}):",
        *_in(1, ["far = other", f"tile = {tile.format(other='0')}"]),
        *_in(1, [line for k in FOUR for line in step(k, k == 0)]),
        *_in(1, [f"for {other} in range(1, tiles_{other}):"]),
        *_in(2, ["far += 4 * CHUNK", f"tile = {tile.format(other=other)}"]),
        *_in(2, [line for k in FOUR for line in step(k, False)]),
        *_in(1, [f"store_wide(scratch, out + {i} * CHUNK + {v} * WIDE, c{i}{v})" for i in FOUR for v in vectors]),
        *_in(1, ["out += 4 * CHUNK"]),
    ]


def _back_rows(vectors: Sequence[int], width: int) -> list[str]:
    tile = "at + (p * tiles_q + {other}) * 16"
    return ["back_rows(scratch, at, other, out, tiles_p, tiles_q)", *_back(vectors, tile, "p", "q")]


def _back_cols(vectors: Sequence[int], width: int) -> list[str]:
    tile = "at + ({other} * tiles_q + q) * 16"
    return ["back_cols(scratch, at, other, out, tiles_p, tiles_q)", *_back(vectors, tile, "q", "p")]


def _back_product(vectors: Sequence[int], width: int) -> list[str]:
    """The gradients of the two sides from that of their Khatri-Rao product [rows_a * rows_b]."""
    each = [_load("g", "slopes", v) for v in vectors]
    each += [f"a{v} = " + "{}" + f"g{v} * load_wide(scratch, right + j * CHUNK + {v} * WIDE)" for v in vectors]
    inner = [line.format(f"a{line[1]} + ") if line.startswith("a") else line for line in each]
    first = [line.format("") if line.startswith("a") else line for line in each]
    target = "to_b + j * CHUNK + {v} * WIDE"

    def to_b(adds: bool) -> list[str]:
        at = [target.format(v=v) for v in vectors]
        return [
            f"store_wide(scratch, {at[v]}, " + (f"load_wide(scratch, {at[v]}) + " if adds else "") + f"g{v} * l{v})"
            for v in vectors
        ]

    return [
        "back_product(scratch, slopes, left, right, to_a, to_b, rows_a, rows_b)",
        "for i in range(rows_a):",
        *_in(1, [_load("l", "left + i * CHUNK", v) for v in vectors]),
        *_in(1, ["j = 0", *first, "if i == 0:"]),
        *_in(2, to_b(False)),
        *_in(1, ["else:"]),
        *_in(2, to_b(True)),
        *_in(1, ["slopes += CHUNK", "for j in range(1, rows_b):"]),
        *_in(2, [*inner, "if i == 0:"]),
        *_in(3, to_b(False)),
        *_in(2, ["else:"]),
        *_in(3, to_b(True)),
        *_in(2, ["slopes += CHUNK"]),
        *_in(1, [f"store_wide(scratch, to_a + i * CHUNK + {v} * WIDE, a{v})" for v in vectors]),
    ]


def _few_dots(vectors: Sequence[int], width: int) -> list[str]:
    """Entries of K L' at listed places, a vector of them at a time."""
    lines = []
    for lane in range(width):
        lines += [f"row, col = left + places[e + {lane}, 0] * CHUNK, right + places[e + {lane}, 1] * CHUNK"]
        product = "load_wide(scratch, row + {v} * WIDE) * load_wide(scratch, col + {v} * WIDE)"
        lines.append(f"c{lane} = " + " + ".join(product.format(v=v) for v in vectors))
    return [
        "few_dots(scratch, left, right, at, places, first)",
        f"for e in range(0, len(places), {width}):",
        *_in(1, lines),
        *_in(1, [f"total = sums{width}(({', '.join(f'c{lane}' for lane in range(width))}))"]),
        *_in(
            1, ["if not first:", "    total = load_wide(scratch, at + e) + total", "store_wide(scratch, at + e, total)"]
        ),
    ]


def _few_back(vectors: Sequence[int], width: int) -> list[str]:
    """Gradients of K and L from the listed entries; both are cleared first."""
    lines = ["e = spread(scratch, at + i)"]
    lines += ["row, col = places[i, 0] * CHUNK, places[i, 1] * CHUNK"]
    for v in vectors:
        for out, mine, other, far in (("to_left", "row", "right", "col"), ("to_right", "col", "left", "row")):
            offset = f"{out} + {mine} + {v} * WIDE"
            far_vector = f"load_wide(scratch, {other} + {far} + {v} * WIDE)"
            lines.append(f"store_wide(scratch, {offset}, load_wide(scratch, {offset}) + e * {far_vector})")
    return [
        "few_back(scratch, at, left, right, to_left, to_right, places, count, tiles_p, tiles_q)",
        "scratch[to_left : to_left + 4 * tiles_p * CHUNK] = 0",
        "scratch[to_right : to_right + 4 * tiles_q * CHUNK] = 0",
        "for i in range(count):",
        *_in(1, lines),
    ]
