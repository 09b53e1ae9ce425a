"""Products of matrices of odd sizes against sums that Python makes one by one."""

import numpy as np
import pytest

from rankward.dynamics.graph import Builder
from rankward.dynamics.kernels import blocked, cache, registers

# Rows, inner and columns: every block of a product, alone and beside others, and columns that do not fill a vector.
SHAPES = [(1, 1, 1), (1, 3, 2), (2, 2, 3), (3, 1, 5), (4, 7, 4), (5, 4, 6), (6, 5, 8), (7, 2, 9), (9, 3, 16), (11, 6, 17),
          (13, 2, 26), (2, 9, 35)]  # fmt: skip
LAYOUTS = [(False, False), (True, False), (False, True), (True, True)]


def ordered(left: np.ndarray, right: np.ndarray) -> list[float]:
    """Every entry as one sum over ascending inner indices, row by row."""
    entries = []
    for row in left.tolist():
        for column in right.T.tolist():
            total = row[0] * column[0]
            for a, b in zip(row[1:], column[1:], strict=True):
                total += a * b
            entries.append(total)
    return entries


def made(kind: str, lefts: list[np.ndarray], rights: list[np.ndarray], transposed: tuple[bool, bool]) -> np.ndarray:
    """The products of [runs, rows, inner] and [runs, inner, columns], one behind the other: [runs, entries]."""
    builder, products = Builder("float64"), []
    flat = []
    for pair in zip(lefts, rights, strict=True):
        arrays = []
        for each, turned in zip(pair, transposed, strict=True):
            stored = each.transpose(0, 2, 1) if turned else each
            flat.append(stored.reshape(len(stored), -1))
            array = builder.input((1, *stored.shape[1:]))
            arrays.append(array.permuted((0, 2, 1)) if turned else array)
        products.append(builder.product(*arrays))
    count = sum(product.size for product in products)
    graph = builder.graph([builder.gather(products, np.arange(1, count + 1), (count,))])
    packed = np.concatenate(flat, axis=1)
    out = np.full((len(packed), count), np.nan)
    evaluate = cache.blocked_kernels(kind, "float64", "descent").evaluate
    evaluate(np.zeros(1, np.int64), blocked.encoded_product(graph, kind != "lanes"), packed, out)
    return out


@pytest.mark.parametrize("kind", ["lanes", "single"])
@pytest.mark.parametrize("transposed", LAYOUTS)
def test_every_entry_is_one_sum_in_order(kind, transposed):
    random = np.random.default_rng(5)
    lefts = [random.standard_normal((3, rows, inner)) for rows, inner, _ in SHAPES]
    rights = [random.standard_normal((3, inner, cols)) for _, inner, cols in SHAPES]
    out = made(kind, lefts, rights, transposed)
    for run in range(3):
        expected = [entry for a, b in zip(lefts, rights, strict=True) for entry in ordered(a[run], b[run])]
        assert out[run].tolist() == expected


def test_zeros_keep_their_sign():
    """A sum that began at zero would make 0 of a product that is -0."""
    left, right = np.full((1, 5, 1), -1.0), np.zeros((1, 1, 9))
    for kind in ("lanes", "single"):
        assert np.signbit(made(kind, [left], [right], (False, False))).all()


def test_blocks_for_small_registers_change_no_bit():
    text = cache.lanes_text(8) + registers.source(wide=False, width=8, large=False)
    small = {}
    exec(compile(text.replace("cache=True, ", ""), "small", "exec"), small)
    rows, inner, cols = 7, 5, 9
    random = np.random.default_rng(6)
    left, right = random.standard_normal((8, rows, inner)), random.standard_normal((8, inner, cols))
    a, b = (np.ascontiguousarray(each.reshape(8, -1).T).reshape(-1) for each in (left, right))
    out = np.full(rows * cols * 8 + 8, np.nan)
    small["in_registers"](out, 0, a, 0, inner, 1, b, 0, cols, 1, rows, cols, inner)
    entries = out[:-8].reshape(-1, 8)
    assert all(entries[:, run].tolist() == ordered(left[run], right[run]) for run in range(8))
    assert np.isnan(out[-8:]).all()


@pytest.mark.parametrize("large", [True, False])
def test_blocks_cover_every_size_once(large):
    """The conditions of the written text, carried out in Python: every row and column belongs to one block."""
    for wide, step in ((False, 1), (True, 8)):
        text = registers.source(wide, 8, large)
        body = "def in_registers" + text.split("def in_registers", 1)[1]
        for rows, cols in [(1, 1), (2, 3), (6, 5), (11, 8), (16, 9), (23, 40)]:
            seen = np.zeros((rows, -(-cols // step)), int)

            def mark(r, c, seen=seen, cols=cols, step=step):
                def block(out, at, *rest):
                    seen[at // cols : at // cols + r, at % cols // step : at % cols // step + c] += 1

                return block

            names = {f"block_{r}x{c}": mark(r, c) for r in range(1, 6) for c in range(1, 5)} | {"LANES": 1}
            exec(body, names)
            names["in_registers"](None, 0, None, 0, 1, 1, None, 0, 1, 1, rows, cols, 1)
            assert (seen == 1).all()
