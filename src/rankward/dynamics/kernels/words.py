"""Words of 32 bits for numba, one a lane, and Threefry on them: random numbers by key and counter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

from rankward.dynamics.kernels.lanes import Lanes, address, everywhere

# Threefry-2x32 (Salmon et al. 2011): rotations of groups of four rounds in turn, and the third word's share of the key.
ROTATIONS, ROUND_GROUPS, PARITY = ((13, 15, 26, 6), (17, 29, 16, 24)), 5, 0x1BD11BDA
# The upper four bits of the second counter; the others are an index. The first counter is an iteration or an epoch.
PURPOSES = {"labels": 0, "gradients": 1 << 28, "batch": 2 << 28}
# Fields of a run behind the arrays of its random parts; those of NOISE_WORDS take two, and ranks of all entries follow.
NOISE_WORDS = ("KEY", "OTHER_KEY", "STEP", "EPOCH")
NOISE_FIELDS = (*NOISE_WORDS, "POSITION", "STALE", "SIZE", "OBSERVED", "STEPS", "BEGIN", "LAST", "WEIGHT")
ROOT_HALF = 0x3FE6A09E667F3BCD  # the bits of sqrt(1/2)
WIDTH = 8  # lanes
WORD = ir.VectorType(ir.IntType(32), WIDTH)


class Words(types.Type):
    """Words of 32 bits, one a lane."""

    def __init__(self, width: int) -> None:
        self.width = width
        super().__init__(name=f"words({width})")


@register_default(Words)
class WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    """LLVM's own vector type."""

    def __init__(self, dmm: Any, fe_type: Words) -> None:
        super().__init__(dmm, fe_type, ir.VectorType(ir.IntType(32), fe_type.width))


WORDS, TWICE = Words(WIDTH), Words(2 * WIDTH)


def _doubles(words: Any) -> Any:
    return Lanes(types.float64, words.width)


def _long(kind: Any) -> Any:
    return ir.VectorType(ir.IntType(64), kind.count)


def _same(value: int, kind: Any = WORD) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _shuffled(builder: Any, left: Any, right: Any, places: Sequence[int]) -> Any:
    index = ir.VectorType(ir.IntType(32), len(places))
    return builder.shuffle_vector(left, right, ir.Constant(index, list(places)))


@intrinsic
def word(typingctx: Any, low: Any, high: Any) -> Any:
    """Words from their lower and upper 16 bits, which are whole numbers in lanes of floats."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        low, high = (builder.fptoui(each, WORD) for each in args)
        return builder.or_(low, builder.shl(high, _same(16)))

    return WORDS(low, high), codegen


@intrinsic
def same_word(typingctx: Any, value: Any) -> Any:
    """An integer as a word in every lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return everywhere(builder, WORD, builder.trunc(args[0], ir.IntType(32)))

    return WORDS(types.int64), codegen


@intrinsic
def rising_words(typingctx: Any, value: Any) -> Any:
    """An integer in the first lane, and one more in every further lane."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        first = everywhere(builder, WORD, builder.trunc(args[0], ir.IntType(32)))
        return builder.add(first, ir.Constant(WORD, list(range(WIDTH))))

    return WORDS(types.int64), codegen


@intrinsic
def beside(typingctx: Any, left: Any, right: Any) -> Any:
    """Sixteen words: of the left value, then of the right one."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _shuffled(builder, args[0], args[1], range(2 * WIDTH))

    return TWICE(left, right), codegen


@intrinsic
def halves(typingctx: Any, value: Any) -> Any:
    """The two values of eight words or numbers in one of sixteen."""
    result = types.UniTuple(WORDS if isinstance(value, Words) else Lanes(value.scalar, WIDTH), 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        parts = [_shuffled(builder, args[0], args[0], range(at, at + WIDTH)) for at in (0, WIDTH)]
        return context.make_tuple(builder, result, parts)

    return result(value), codegen


@intrinsic
def threefry(typingctx: Any, key: Any, other_key: Any, first: Any, second: Any) -> Any:
    """Two words for two counters under a key of two words, lane by lane; 20 rounds."""
    result = types.UniTuple(key, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        def same(value: int) -> Any:
            return _same(value, args[0].type)

        keys = [args[0], args[1], builder.xor(builder.xor(args[0], args[1]), same(PARITY))]
        x, y = builder.add(args[2], keys[0]), builder.add(args[3], keys[1])
        for group in range(ROUND_GROUPS):
            for turn in ROTATIONS[group % 2]:
                x = builder.add(x, y)
                turned = builder.or_(builder.shl(y, same(turn)), builder.lshr(y, same(32 - turn)))
                y = builder.xor(turned, x)
            x = builder.add(x, keys[(group + 1) % 3])
            y = builder.add(builder.add(y, keys[(group + 2) % 3]), same(group + 1))
        return context.make_tuple(builder, result, (x, y))

    return result(key, key, key, key), codegen


@intrinsic
def signed(typingctx: Any, words: Any) -> Any:
    """Words as signed integers in lanes of float64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.sitofp(args[0], ir.VectorType(ir.DoubleType(), words.width))

    return _doubles(words)(words), codegen


@intrinsic
def raised(typingctx: Any, words: Any, by: Any) -> Any:
    """Words plus an integer."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.add(args[0], everywhere(builder, WORD, builder.trunc(args[1], ir.IntType(32))))

    return WORDS(words, types.int64), codegen


@intrinsic
def store_words(typingctx: Any, array: Any, offset: Any, words: Any) -> Any:
    """Write words over numbers of an array, from one number on: 32 bytes."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], address(context, builder, sig.args[0], args[0], args[1], WORD)).align = 4
        return context.get_dummy_value()

    return types.void(array, types.intp, words), codegen


@intrinsic
def load_words(typingctx: Any, array: Any, offset: Any) -> Any:
    """Words that `store_words` has written."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        value = builder.load(address(context, builder, sig.args[0], args[0], args[1], WORD))
        value.align = 4
        return value

    return WORDS(array, types.intp), codegen


@intrinsic
def turned_up(typingctx: Any, words: Any) -> Any:
    """Words without their upper two bits, shifted to the top."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.shl(args[0], _same(2, args[0].type))

    return words(words), codegen


@intrinsic
def with_signs(typingctx: Any, value: Any, other: Any, words: Any) -> Any:
    """Two lanes of float64: negated where a word's upper bit is set, and where the bit below it is."""
    result = types.UniTuple(value, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        long, made = _long(args[0].type), []
        for number, by in ((args[0], 32), (args[1], 33)):
            sign = builder.and_(builder.shl(builder.zext(args[2], long), _same(by, long)), _same(1 << 63, long))
            made.append(builder.bitcast(builder.xor(builder.bitcast(number, long), sign), number.type))
        return context.make_tuple(builder, result, made)

    return result(value, other, words), codegen


@intrinsic
def split_power(typingctx: Any, value: Any) -> Any:
    """A number from sqrt(1/2) to sqrt(2) and the power of two that give a positive number; lanes of float64."""
    result = types.UniTuple(value, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind, long = args[0].type, _long(args[0].type)
        bits, digits, magic, bias = builder.bitcast(args[0], long), _same(52, long), 0x433 << 52, 1023
        # The power, with the bias, in the upper bits; then in the lower bits of a float64 above 2^52.
        power = builder.lshr(builder.sub(bits, _same(ROOT_HALF - (bias << 52), long)), digits)
        whole = builder.bitcast(builder.or_(power, _same(magic, long)), kind)
        power_of_two = builder.shl(builder.sub(power, _same(bias, long)), digits)
        near_one = builder.bitcast(builder.sub(bits, power_of_two), kind)
        offset = ir.Constant(kind, [2.0**52 + bias] * kind.count)
        return context.make_tuple(builder, result, (near_one, builder.fsub(whole, offset)))

    return result(value), codegen


@intrinsic
def fill_double(typingctx: Any, like: Any, value: Any) -> Any:
    """One float64 in every lane of a value as wide as the first argument."""
    result = _doubles(like)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = context.cast(builder, args[1], sig.args[1], types.float64)
        return everywhere(builder, context.get_value_type(result), scalar)

    return result(like, value), codegen


@intrinsic
def rounded(typingctx: Any, array: Any, value: Any) -> Any:
    """Lanes of float64 in the precision of an array."""
    result = Lanes(array.dtype, value.width)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(result)
        return args[1] if kind == args[1].type else builder.fptrunc(args[1], kind)

    return result(array, value), codegen


@intrinsic
def interleaved(typingctx: Any, even: Any, odd: Any) -> Any:
    """Sixteen numbers, those of two values in turn, as two values."""
    result = types.UniTuple(even, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places = [place + side * WIDTH for place in range(WIDTH) for side in (0, 1)]
        parts = [_shuffled(builder, args[0], args[1], places[at : at + WIDTH]) for at in (0, WIDTH)]
        return context.make_tuple(builder, result, parts)

    return result(even, odd), codegen


INTRINSICS = (
    "beside", "fill_double", "halves", "interleaved", "load_words", "raised", "rising_words", "rounded", "same_word",
    "signed", "split_power", "store_words", "threefry", "turned_up", "with_signs", "word",
)  # fmt: skip


def header() -> str:
    """Places of the fields, constants of Threefry and purposes, as text."""
    lines, at = [], 0
    for name in (*NOISE_FIELDS, "RANKS"):
        lines.append(f"{name} = {at}")
        at += 2 if name in NOISE_WORDS else 1
    lines += [f"{name.upper()}_PURPOSE = {value}" for name, value in PURPOSES.items()]
    lines += [f"ROTATIONS = {(*ROTATIONS[0], *ROTATIONS[1])}", f"ROUND_GROUPS, PARITY = {ROUND_GROUPS}, {PARITY}"]
    return "\n".join([*lines, f"WORD = {0xFFFFFFFF}"]) + "\n"
