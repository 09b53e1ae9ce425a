"""Words of 32 bits for numba, one a lane, and Threefry on them: random numbers by key and counter."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core.datamodel import models, register_default
from numba.extending import intrinsic

from rankward.dynamics.kernels.lanes import Lanes, everywhere

# Threefry-2x32 (Salmon et al. 2011): rotations of groups of four rounds in turn, and the third word's share of the key.
ROTATIONS, ROUND_GROUPS, PARITY = ((13, 15, 26, 6), (17, 29, 16, 24)), 5, 0x1BD11BDA
# The upper four bits of the second counter; the others are an index. The first counter is an iteration or an epoch.
PURPOSES = {"labels": 0, "gradients": 1 << 28, "batch": 2 << 28}
# Fields of a run behind the arrays of its random parts; those of NOISE_WORDS take two, and ranks of all entries follow.
NOISE_WORDS = ("KEY", "OTHER_KEY", "STEP", "EPOCH")
NOISE_FIELDS = (*NOISE_WORDS, "POSITION", "STALE", "SIZE", "OBSERVED", "STEPS", "BEGIN", "LAST", "WEIGHT")
WIDTH = 8  # lanes
WORD = ir.VectorType(ir.IntType(32), WIDTH)
DOUBLE = ir.VectorType(ir.DoubleType(), WIDTH)


class Words(types.Type):
    """Eight words of 32 bits."""

    def __init__(self) -> None:
        super().__init__(name="words")


@register_default(Words)
class WordsModel(models.PrimitiveModel):  # type: ignore[misc]
    """LLVM's own vector type."""

    def __init__(self, dmm: Any, fe_type: Words) -> None:
        super().__init__(dmm, fe_type, WORD)


WORDS = Words()
DOUBLES = Lanes(types.float64, WIDTH)


def _same(value: int) -> Any:
    return ir.Constant(WORD, [value] * WIDTH)


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
def threefry(typingctx: Any, key: Any, other_key: Any, first: Any, second: Any) -> Any:
    """Two words for two counters under a key of two words, lane by lane; 20 rounds."""
    result = types.UniTuple(WORDS, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        keys = [args[0], args[1], builder.xor(builder.xor(args[0], args[1]), _same(PARITY))]
        x, y = builder.add(args[2], keys[0]), builder.add(args[3], keys[1])
        for group in range(ROUND_GROUPS):
            for turn in ROTATIONS[group % 2]:
                x = builder.add(x, y)
                turned = builder.or_(builder.shl(y, _same(turn)), builder.lshr(y, _same(32 - turn)))
                y = builder.xor(turned, x)
            x = builder.add(x, keys[(group + 1) % 3])
            y = builder.add(builder.add(y, keys[(group + 2) % 3]), _same(group + 1))
        return context.make_tuple(builder, result, (x, y))

    return result(WORDS, WORDS, WORDS, WORDS), codegen


@intrinsic
def signed(typingctx: Any, words: Any) -> Any:
    """Words as signed integers in lanes of float64."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.sitofp(args[0], DOUBLE)

    return DOUBLES(WORDS), codegen


@intrinsic
def fill_double(typingctx: Any, like: Any, value: Any) -> Any:
    """One float64 in every lane; the first argument is ignored."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return everywhere(builder, DOUBLE, context.cast(builder, args[1], sig.args[1], types.float64))

    return DOUBLES(like, value), codegen


@intrinsic
def rounded(typingctx: Any, array: Any, value: Any) -> Any:
    """Lanes of float64 in the precision of an array."""
    result = Lanes(array.dtype, WIDTH)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        kind = context.get_value_type(result)
        return args[1] if kind == DOUBLE else builder.fptrunc(args[1], kind)

    return result(array, value), codegen


@intrinsic
def interleaved(typingctx: Any, even: Any, odd: Any) -> Any:
    """Sixteen numbers, those of two values in turn, as two values."""
    result = types.UniTuple(even, 2)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        index = ir.VectorType(ir.IntType(32), WIDTH)
        parts = []
        for begin in (0, WIDTH // 2):
            mask = [place + side * WIDTH for place in range(begin, begin + WIDTH // 2) for side in (0, 1)]
            parts.append(builder.shuffle_vector(*args, ir.Constant(index, mask)))
        return context.make_tuple(builder, result, parts)

    return result(even, odd), codegen


def header() -> str:
    """Places of the fields, constants of Threefry and purposes, as text."""
    lines, at = [], 0
    for name in (*NOISE_FIELDS, "RANKS"):
        lines.append(f"{name} = {at}")
        at += 2 if name in NOISE_WORDS else 1
    lines += [f"{name.upper()}_PURPOSE = {value}" for name, value in PURPOSES.items()]
    lines += [f"ROTATIONS = {(*ROTATIONS[0], *ROTATIONS[1])}", f"ROUND_GROUPS, PARITY = {ROUND_GROUPS}, {PARITY}"]
    return "\n".join([*lines, f"WORD = {0xFFFFFFFF}"]) + "\n"
