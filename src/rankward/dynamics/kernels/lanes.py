"""A numba value type for several runs side by side in one vector register.

`load8(array, offset)` reads eight neighbouring elements as one value of type `lanes`, on which +, - and * work as they
do on a float: each lane sees the plain IEEE operation, never fused or reordered, so a run's bits do not depend on the
lane it sits in. `load1` is the scalar twin, so that one source serves a single run and a full register.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models, register_default
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic


class Lanes(types.Type):
    """`width` floats of type `scalar`, one a run."""

    def __init__(self, scalar: types.Float, width: int) -> None:
        self.scalar = scalar
        self.width = width
        super().__init__(name=f"lanes({scalar}, {width})")


@register_default(Lanes)
class LanesModel(models.PrimitiveModel):  # type: ignore[misc]
    """LLVM's own vector type."""

    def __init__(self, dmm: Any, fe_type: Lanes) -> None:
        element = ir.DoubleType() if fe_type.scalar.bitwidth == 64 else ir.FloatType()
        super().__init__(dmm, fe_type, ir.VectorType(element, fe_type.width))


def _arithmetic(symbol: Callable[..., Any], instruction: str) -> None:
    @infer_global(symbol)
    class Typing(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: tuple[Any, ...], kws: dict[str, Any]) -> Any:
            if len(args) == 2 and isinstance(args[0], Lanes) and args[0] == args[1]:
                return signature(args[0], args[0], args[0])
            return None

    @lower_builtin(symbol, Lanes, Lanes)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, instruction)(*args)


_arithmetic(operator.add, "fadd")
_arithmetic(operator.sub, "fsub")
_arithmetic(operator.mul, "fmul")
_arithmetic(operator.truediv, "fdiv")


@intrinsic
def root(typingctx: Any, value: Any) -> Any:
    """The IEEE square root of a float or of each lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = args[0].type
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        suffix = f"v{kind.count}{element.intrinsic_name}" if element is not kind else element.intrinsic_name
        function = ir.FunctionType(kind, [kind])
        return builder.call(cgutils.get_or_insert_function(builder.module, function, f"llvm.sqrt.{suffix}"), args)

    return value(value), codegen


@intrinsic
def quotient(typingctx: Any, value: Any, by: Any) -> Any:
    """IEEE division of floats or lane by lane; by zero gives an infinity or NaN, where Python would raise."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.fdiv(*args)

    return value(value, value), codegen


def address(context: Any, builder: Any, array_type: Any, array: Any, offset: Any, pointee: Any) -> Any:
    """The address of an array's element `offset`, as a pointer to another type."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [offset]), ir.PointerType(pointee))


def _make_load(width: int) -> Any:
    @intrinsic
    def load(typingctx: Any, array: Any, offset: Any) -> Any:
        result = array.dtype if width == 1 else Lanes(array.dtype, width)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = context.get_value_type(result)
            value = builder.load(address(context, builder, sig.args[0], args[0], args[1], kind))
            value.align = array.dtype.bitwidth // 8  # scratch arrays promise no more
            return value

        return result(array, types.intp), codegen

    return load


def store_in(
    context: Any, builder: Any, array_type: Any, array: Any, offset: Any, value: Any, count: Any = None
) -> None:
    """Write a number or a vector; of a vector only the first `count` numbers where it has more."""
    kind, align = value.type, array_type.dtype.bitwidth // 8
    pointer = address(context, builder, array_type, array, offset, kind)
    if count is None:
        builder.store(value, pointer).align = align
        return
    integer_type = ir.VectorType(count.type, kind.count)
    mask = builder.icmp_signed(
        "<", ir.Constant(integer_type, list(range(kind.count))), everywhere(builder, integer_type, count)
    )
    function = ir.FunctionType(ir.VoidType(), [kind, pointer.type, ir.IntType(32), mask.type])
    name = f"llvm.masked.store.v{kind.count}{kind.element.intrinsic_name}.p0"
    masked = cgutils.get_or_insert_function(builder.module, function, name)
    builder.call(masked, [value, pointer, ir.Constant(ir.IntType(32), align), mask])


def _make_store(width: int) -> Any:
    @intrinsic
    def store(typingctx: Any, array: Any, offset: Any, value: Any) -> Any:
        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            store_in(context, builder, sig.args[0], *args)
            return context.get_dummy_value()

        return types.void(array, types.intp, value), codegen

    return store


@intrinsic
def draw(typingctx: Any, counter: Any) -> Any:
    """The next ticket of a queue shared by threads: `counter[0]` before it is raised by one, atomically."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data = context.make_array(sig.args[0])(context, builder, args[0]).data
        return builder.atomic_rmw("add", data, cgutils.intp_t(1), "monotonic")

    return types.intp(counter), codegen


load1, load4, load8, load16 = (_make_load(width) for width in (1, 4, 8, 16))
store1, store4, store8, store16 = (_make_store(width) for width in (1, 4, 8, 16))


def everywhere(builder: Any, kind: Any, scalar: Any) -> Any:
    """A vector of that kind with the number in every lane."""
    empty, index = ir.Constant(kind, ir.Undefined), ir.IntType(32)
    first = builder.insert_element(empty, scalar, ir.Constant(index, 0))
    return builder.shuffle_vector(first, empty, ir.Constant(ir.VectorType(index, kind.count), [0] * kind.count))


def _make_spread(width: int) -> Any:
    @intrinsic
    def spread(typingctx: Any, array: Any, offset: Any) -> Any:
        result = Lanes(array.dtype, width)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            kind = context.get_value_type(result)
            value = builder.load(address(context, builder, sig.args[0], args[0], args[1], kind.element))
            value.align = array.dtype.bitwidth // 8
            return everywhere(builder, kind, value)

        return result(array, types.intp), codegen

    return spread


spread8, spread16 = _make_spread(8), _make_spread(16)


def _make_fill(width: int) -> Any:
    @intrinsic
    def fill(typingctx: Any, like: Any, value: Any) -> Any:
        result = like.dtype if width == 1 else Lanes(like.dtype, width)

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            scalar = context.cast(builder, args[1], sig.args[1], like.dtype)
            if width == 1:
                return scalar
            return everywhere(builder, context.get_value_type(result), scalar)

        return result(like, value), codegen

    return fill


# One number in every lane, in the precision of the array `like`.
fill1, fill4, fill8, fill16 = (_make_fill(width) for width in (1, 4, 8, 16))


@intrinsic
def choose(typingctx: Any, a: Any, b: Any, then: Any, otherwise: Any) -> Any:
    """`then` where a <= b, else (and where either is NaN) `otherwise`; lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<=", args[0], args[1]), args[2], args[3])

    return then(a, b, then, otherwise), codegen


def _bits(kind: Any) -> tuple[Any, int, int, int]:
    """Integer type, fraction digits, bias and exponent bits of a float type or a vector of one."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    double = isinstance(element, ir.DoubleType)
    integer_type = ir.IntType(64 if double else 32)
    bits_type = ir.VectorType(integer_type, kind.count) if isinstance(kind, ir.VectorType) else integer_type
    return bits_type, 52 if double else 23, 1023 if double else 127, 0x7FF if double else 0xFF


def _same(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)


@intrinsic
def power_of_two(typingctx: Any, power: Any) -> Any:
    """2 to a whole number that an exponent can hold; lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integer_type, digits, bias, _ = _bits(args[0].type)
        number = builder.add(builder.fptosi(args[0], integer_type), _same(integer_type, bias))
        return builder.bitcast(builder.shl(number, _same(integer_type, digits)), args[0].type)

    return power(power), codegen


@intrinsic
def exponent(typingctx: Any, value: Any) -> Any:
    """The power of two in a positive number that is neither infinite nor below the normal ones; lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integer_type, digits, bias, mask = _bits(args[0].type)
        number = builder.lshr(builder.bitcast(args[0], integer_type), _same(integer_type, digits))
        number = builder.sub(builder.and_(number, _same(integer_type, mask)), _same(integer_type, bias))
        return builder.sitofp(number, args[0].type)

    return value(value), codegen


@intrinsic
def mantissa(typingctx: Any, value: Any) -> Any:
    """Such a number over its power of two: from 1 to 2; lane by lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        integer_type, digits, bias, _ = _bits(args[0].type)
        fraction = builder.and_(builder.bitcast(args[0], integer_type), _same(integer_type, (1 << digits) - 1))
        return builder.bitcast(builder.or_(fraction, _same(integer_type, bias << digits)), args[0].type)

    return value(value), codegen


def _make_sums(width: int) -> Any:
    @intrinsic
    def sums(typingctx: Any, vectors: Any) -> Any:
        if not isinstance(vectors, types.UniTuple) or vectors.count != width:
            return None

        def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            level = cgutils.unpack_tuple(builder, args[0], width)
            step = 1
            while step < width:
                level = [_fold(builder, level[i], level[i + 1], step, width) for i in range(0, len(level), 2)]
                step *= 2
            return level[0]

        return vectors.dtype(vectors), codegen

    return sums


def _fold(builder: Any, even: Any, odd: Any, step: int, width: int) -> Any:
    """Lanes l and l ^ step added: of `even` where that bit of l is 0, of `odd` where it is 1."""
    index = ir.VectorType(ir.IntType(32), width)
    first = [lane + (width if lane & step else 0) for lane in range(width)]
    second = [(lane ^ step) + (width if lane & step else 0) for lane in range(width)]
    return builder.fadd(*(builder.shuffle_vector(even, odd, ir.Constant(index, mask)) for mask in (first, second)))


# Of `width` values, the vector of their sums over lanes, each by the same tree: lane l sums value l.
sums8, sums16 = _make_sums(8), _make_sums(16)
