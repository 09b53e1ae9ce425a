"""The stages of a Runge-Kutta method as straight-line source, its coefficients written out."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from rankward.dynamics.kernels.tableau import Tableau

FLOWS = ("flow", "decaying_flow")  # dynamics with this text: without and with weight decay


def source(tableau: Tableau) -> str:
    """The functions `stages` and `difference` that the flow's text calls.

    `stages` fills the directions of all stages but the first, and the trial point z; `difference` is the error in a
    parameter. Slopes are gradients of the half sum: the flow goes against them, `step` includes the loss's scale.
    """
    lines = [*_function("stages(state, scratch, sizes, k, stride, z, step)"), "    weights = stride - 1"]
    for stage, row in enumerate(tableau.stages, start=1):
        at = f"k + {stage} * stride"
        lines += [
            "    for i in range(weights):",
            f"        total = {_combination(row)}",
            "        store(scratch, (z + i) * LANES, load(state, i * LANES) - step * total)",
            f"    directions(scratch, z, state, scratch, sizes, {at})",
        ]
    lines += _function("difference(scratch, k, stride, i, step)")
    lines += [f"    return step * ({_combination(tableau.error)})"]
    return "\n".join(lines) + "\n"


def _function(head: str) -> list[str]:
    return ["", "", "@numba.njit(cache=True, nogil=True)", f"def {head}:"]


def _combination(row: Sequence[Fraction]) -> str:
    return " + ".join(
        f"fill(scratch, {float(weight)!r}) * load(scratch, (k + {number} * stride + i) * LANES)"
        for number, weight in enumerate(row)
        if weight
    )
