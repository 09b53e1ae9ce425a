"""Rows in which the determinant's sign is reliable, and rows in which balance protects it.

Gradient flow conserves the differences W_{l+1}^T W_{l+1} - W_l W_l^T. With d the largest spectral norm among them, the
k-th singular values of two neighbouring layers differ in their squares by at most d (Weyl's inequality). A determinant
changes its sign only where the smallest singular value of some layer is zero, and there the square of every other
layer's smallest one is at most (L - 1) d. So balance protects the sign for as long as the squares are above d, relative
to the largest: in a run d is the imbalance of the start, or what the integration has added to it, or rounding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rankward.theory.certificates import RunContext, Trace

RESOLUTION = "determinant/resolution"
PROTECTED_RATIO = 10.0  # times the threshold: imbalance cannot change the sign between two rows above this
SIGN_ROUNDINGS = 100.0  # rounding errors, relative to the largest singular value, that may change a computed sign
EPSILON = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Sign:
    """How long balance protects the determinant's sign in one run.

    Args:
        rows: number of rows, from the first, whose sign balance protects.
        violated: the row at which the sign changes although balance protects it, or None.
        note: fields of the verdict if later rows are not judged: the iteration `until` which rows are judged, and why
            (`beyond`).
    """

    rows: int
    violated: int | None
    note: dict[str, Any]


def protected(context: RunContext, trace: Trace, initial_sign: float) -> Sign:
    """Find the rows of one run in which exact balance would keep the determinant's sign.

    Factors that are not a chain have no balance: all rows count. So they do where singular coordinates keep the sign.

    Args:
        context: context of the run.
        trace: its rows, with `determinant/sign` and `determinant/resolution`.
        initial_sign: sign at the start.
    """
    if context.spectral or not context.chain:
        return Sign(len(trace["loss"]), None, {})
    ratio = resolution(context, trace)
    below = np.flatnonzero(~(ratio > threshold(context, trace)))
    end = int(below[0]) if len(below) else len(ratio)
    sign = trace.get("determinant/sign")
    lost = np.flatnonzero(sign != initial_sign) if sign is not None else np.zeros(0, int)
    first = int(lost[0]) if len(lost) else len(ratio)
    if first < end:
        smallest = ratio[max(0, first - 1) : first + 1].min()
        if smallest > PROTECTED_RATIO * threshold(context, trace)[first]:
            return Sign(first, first, {})
        end = first
    if end == len(ratio):
        return Sign(end, None, {})
    why = "the determinant is so near zero that the layers' imbalance may turn its sign"
    if np.isnan(ratio[end]):
        why = f"it is not measured how near zero the determinant is ({RESOLUTION})"
    return Sign(end, None, {"until": int(trace["iteration"][end]), "beyond": why})


def threshold(context: RunContext, trace: Trace) -> Float[np.ndarray, " rows"]:
    """The ratio of a layer's smallest to its largest singular value below which imbalance may turn the sign.

    The square root of the largest of: the imbalance of the start, a step's relative tolerance, the drift of what flow
    conserves where it is measured, and machine epsilon. Where layers are not square, the sign is computed from the
    product, whose ratio is about the L-th power: rounding must not reach that either.
    """
    drift = np.asarray(trace.get("balance/drift", np.zeros(len(trace["loss"]))), dtype=np.float64)
    largest = max(float(np.nan_to_num(context.unbalancedness[0])), float(context.tolerance[0]), EPSILON)
    least = np.sqrt(np.fmax(drift, largest))
    return np.asarray(least if context.square else np.fmax(least, (SIGN_ROUNDINGS * EPSILON) ** (1 / context.depth)))


def resolution(context: RunContext, trace: Trace) -> Float[np.ndarray, " rows"]:
    """The column `determinant/resolution`, or for 2x2 products its value from the entries; NaN without either."""
    if RESOLUTION in trace:
        return np.asarray(trace[RESOLUTION], dtype=np.float64)
    entries = [f"entry/{i}_{j}" for i in (0, 1) for j in (0, 1)]
    if context.dims != (2, 2) or not set(entries) <= set(trace):
        return np.full(len(trace["loss"]), np.nan)
    a, b, c, d = (trace[name] for name in entries)
    with np.errstate(all="ignore"):
        share = np.abs(a * d - b * c) / (a * a + b * b + c * c + d * d)
    return np.asarray(share ** (1 / context.depth if context.chain else 1.0))


def reliable(context: RunContext, trace: Trace) -> Bool[np.ndarray, " rows"]:
    """The rows, of any runs, in which rounding cannot have changed the computed sign of the determinant.

    The sign of a product of square 2x2 factors is exact. Other signs come from LU decompositions of larger factors or
    from the product's entries: the ratio of the smallest to the largest singular value must exceed rounding.
    """
    rows = len(trace["loss"])
    if context.spectral or (context.chain and context.square and context.dims == (2, 2)):
        return np.ones(rows, bool)
    ratio = resolution(context, trace)
    product = ratio**context.depth if context.chain and not context.square else ratio
    with np.errstate(invalid="ignore"):
        return np.asarray(product > SIGN_ROUNDINGS * context.dims[0] * EPSILON)
