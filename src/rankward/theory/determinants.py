"""The rows in which the determinant's sign can be relied on, and those in which the theory of exact balance speaks.

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
FAR = 10.0  # times the threshold: a sign that is lost between two rows so far above it was not lost by imbalance
ERRORS = 100.0  # rounding errors, relative to the largest singular value, that may turn a computed sign
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True)
class Sign:
    """The fate of the determinant's sign in one run.

    Args:
        rows: how many rows, from the first on, have the sign that balance protects.
        violated: the row at which the sign changes although balance protects it; None where there is none.
        note: `until` and `beyond` for the verdicts of a run whose later rows are not judged.
    """

    rows: int
    violated: int | None
    note: dict[str, Any]


def protected(facts: RunContext, trace: Trace, wanted: float) -> Sign:
    """How long the sign of one run's determinant is the one that exact balance keeps.

    Factors that are no chain have no balance: all rows are kept.

    Args:
        facts: of the run.
        trace: its rows; `determinant/sign` and `determinant/resolution` are used.
        wanted: the sign at the start.
    """
    if not facts.chain:
        return Sign(len(trace["loss"]), None, {})
    ratio = resolution(facts, trace)
    below = np.flatnonzero(~(ratio > threshold(facts, trace)))
    end = int(below[0]) if len(below) else len(ratio)
    sign = trace.get("determinant/sign")
    lost = np.flatnonzero(sign != wanted) if sign is not None else np.zeros(0, int)
    first = int(lost[0]) if len(lost) else len(ratio)
    if first < end:
        near = ratio[max(0, first - 1) : first + 1].min()
        if near > FAR * threshold(facts, trace)[first]:
            return Sign(first, first, {})
        end = first
    if end == len(ratio):
        return Sign(end, None, {})
    why = "the determinant is so near zero that the layers' imbalance may turn its sign"
    if np.isnan(ratio[end]):
        why = f"it is not measured how near zero the determinant is ({RESOLUTION})"
    return Sign(end, None, {"until": int(trace["iteration"][end]), "beyond": why})


def threshold(facts: RunContext, trace: Trace) -> Float[np.ndarray, " rows"]:
    """The ratio of a layer's smallest to its largest singular value below which imbalance may turn the sign.

    The square root of the largest of: the imbalance of the start, a step's relative tolerance, the drift of what flow
    conserves where it is measured, and machine epsilon. Where layers are not square, the sign is computed from the
    product, whose ratio is about the L-th power: rounding must not reach that either.
    """
    drift = np.asarray(trace.get("balance/drift", np.zeros(len(trace["loss"]))), dtype=np.float64)
    largest = max(float(np.nan_to_num(facts.unbalancedness[0])), float(facts.tolerance[0]), EPS)
    least = np.sqrt(np.fmax(drift, largest))
    return np.asarray(least if facts.square else np.fmax(least, (ERRORS * EPS) ** (1 / facts.depth)))


def resolution(facts: RunContext, trace: Trace) -> Float[np.ndarray, " rows"]:
    """The measured ratio; for a 2x2 product without that column, from its entries; NaN where neither is measured."""
    if RESOLUTION in trace:
        return np.asarray(trace[RESOLUTION], dtype=np.float64)
    entries = [f"entry/{i}_{j}" for i in (0, 1) for j in (0, 1)]
    if facts.dims != (2, 2) or not set(entries) <= set(trace):
        return np.full(len(trace["loss"]), np.nan)
    a, b, c, d = (trace[name] for name in entries)
    with np.errstate(all="ignore"):
        share = np.abs(a * d - b * c) / (a * a + b * b + c * c + d * d)
    return np.asarray(share ** (1 / facts.depth if facts.chain else 1.0))


def reliable(facts: RunContext, trace: Trace) -> Bool[np.ndarray, " rows"]:
    """The rows, of any of the runs, in which rounding cannot have turned the computed sign of the determinant.

    A product of square 2x2 factors has an exact sign. Larger factors have theirs by LU decomposition, other products by
    their own entries: there the ratio of the smallest singular value to the largest must be beyond rounding.
    """
    rows = len(trace["loss"])
    if facts.chain and facts.square and facts.dims == (2, 2):
        return np.ones(rows, bool)
    ratio = resolution(facts, trace)
    product = ratio**facts.depth if facts.chain and not facts.square else ratio
    with np.errstate(invalid="ignore"):
        return np.asarray(product > ERRORS * facts.dims[0] * EPS)
