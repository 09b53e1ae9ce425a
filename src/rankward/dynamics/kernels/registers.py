"""Matrix products in blocks of results that are held in registers, each an ordered sum over the inner index.

Blocks are written in LLVM's own language: as text they would take numba seconds to read.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from rankward.dynamics.kernels.lanes import address, everywhere, store_in

# Rows and columns of a block, the largest first; columns are vectors. A block's results, a row and a column of operands
# fit into the 32 registers of 512 bits, or into the 16 of 256 bits, of which a vector takes two.
LARGE, SMALL = ((5, 4, 3, 2, 1), (4, 2, 1)), ((3, 2, 1), (2, 1))


def has_large_registers() -> bool:
    """Whether this processor has 32 registers of 512 bits."""
    return bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))


def source(wide: bool, width: int, large: bool) -> str:
    """The function `in_registers`; the blocks' sizes change no bit.

    Args:
        wide: a vector holds neighbouring columns of one run; else it holds one number of each of LANES runs.
        width: numbers of a vector.
        large: whether blocks are for large registers.
    """
    rows, columns = LARGE if large else SMALL
    step = width if wide else 1
    lines = ["def in_registers(out, o, a, ao, ar, ac, b, bo, br, bc, rows, cols, inner):"]
    lines += ['    """out[i, j] = sum over ascending k of a[i, k] * b[k, j]; places count numbers of a run."""']
    lines += [f"    vectors = (cols + {step - 1}) // {step}", "    i = 0"]
    for r in rows:
        lines += [f"    while {_fits('rows - i', r)}:", "        j = 0"]
        for c in columns:
            lines += [
                f"        while {_fits('vectors - j', c)}:",
                f"            block_{r}x{c}(",
                f"                out, (o + i * cols + j * {step}) * LANES, cols * LANES,",
                "                a, (ao + i * ar) * LANES, ar * LANES, ac * LANES,",
                f"                b, (bo + j * {step} * bc) * LANES, br * LANES, {step} * bc * LANES,",
                f"                inner, cols - j * {step},",
                "            )",
                f"            j += {c}",
            ]
        lines += [f"        i += {r}"]
    names = "".join(f"block_{r}x{c} = registers.block({r}, {c}, {width}, {wide})\n" for r in rows for c in columns)
    head = f"\n\nfrom rankward.dynamics.kernels import registers\n\n{names}\n\n@numba.njit(cache=True, nogil=True)\n"
    return head + "\n".join(lines) + "\n"


def _fits(left: str, size: int) -> str:
    """Whether the next block is of that size; a single row or column is not left over where smaller blocks avoid it."""
    return f"{left} >= {size}" + (f" and {left} != {size + 1}" if size > 2 else "")


def block(rows: int, columns: int, width: int, wide: bool) -> Any:
    """A function that numba can call: `rows` by `columns` vectors of a product; places and strides count numbers.

    Args:
        wide: a number of the left matrix serves all of a vector, and of the last vectors as many columns are written as
            there are `left`; else every number is a vector.
    """

    @intrinsic
    def made(
        typingctx: Any, out: Any, o: Any, across: Any, a: Any, ao: Any, ar: Any, ac: Any,
        b: Any, bo: Any, br: Any, bc: Any, inner: Any, left: Any,
    ) -> Any:  # fmt: skip
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            out, o, across, a, ao, ar, ac, b, bo, br, bc, inner, left = args
            array, index_type = sig.args[0], o.type
            element = ir.DoubleType() if array.dtype.bitwidth == 64 else ir.FloatType()
            kind = ir.VectorType(element, width)

            def times(number: Any, by: Any) -> Any:
                return builder.mul(number, by if isinstance(by, ir.Value) else ir.Constant(index_type, by))

            def at(*parts: Any) -> Any:
                total = parts[0]
                for part in parts[1:]:
                    total = builder.add(total, part)
                return total

            def load(values: Any, where: Any, pointee: Any) -> Any:
                loaded = builder.load(address(context, builder, array, values, where, pointee))
                loaded.align = array.dtype.bitwidth // 8
                return loaded if pointee is kind else everywhere(builder, kind, loaded)

            rows_at = [at(ao, times(ar, i)) for i in range(rows)]
            columns_at = [at(bo, times(bc, j)) for j in range(columns)]
            results = {(i, j): cgutils.alloca_once(builder, kind) for i in range(rows) for j in range(columns)}

            def add(k: Any) -> None:
                p, q = times(ac, k), times(br, k)
                x = [load(a, at(row, p), element if wide else kind) for row in rows_at]
                y = [load(b, at(column, q), kind) for column in columns_at]
                for (i, j), result in results.items():
                    term = builder.fmul(x[i], y[j])
                    builder.store(builder.fadd(builder.load(result), term) if k is not first else term, result)

            first = ir.Constant(index_type, 0)
            add(first)
            with cgutils.for_range(builder, inner, start=ir.Constant(index_type, 1)) as loop:
                add(loop.index)
            for (i, j), result in results.items():
                where = at(o, times(across, i), ir.Constant(index_type, j * width))
                count = builder.sub(left, ir.Constant(index_type, j * width)) if wide else None
                store_in(context, builder, array, out, where, builder.load(result), count)
            return context.get_dummy_value()

        index = types.intp
        numbers = [out, index, index, a, index, index, index, b, index, index, index, index, index]
        return types.void(*numbers), codegen

    return made
