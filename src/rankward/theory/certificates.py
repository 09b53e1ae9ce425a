"""A run checked against a statement: the premises, the bounds, and the verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rankward.theory.bounds import EntryBounds

Trace = Mapping[str, np.ndarray]

NOTHING: Mapping[str, Any] = {}
HOLDS, VIOLATED, SAYS_NOTHING, NOT_APPLICABLE = "holds", "violated", "says nothing here", "not applicable"
VERDICTS = HOLDS, VIOLATED, SAYS_NOTHING, NOT_APPLICABLE
SLACK = 1e-9  # of a bound's size (at least 1): a value may lie on the wrong side by so much
BALANCED = 1e-12  # of the largest squared factor: a start is balanced up to the rounding of its factors


@dataclass(frozen=True)
class RunContext:
    """The facts about the runs of an ensemble that statements ask for, before training.

    Args:
        depth: number of factors.
        dynamics: `flow`, `descent` or `adaptive`.
        mask, values: [runs, *dims] observed entries; or no mask, and values [runs, n] of other measurements.
        determinant: [runs] sign of the initial product's determinant; NaN where it has none.
        unbalancedness: [runs] of the initial factors, relative to the largest squared factor; NaN where the factors are
            not a chain of matrices. See `BALANCED`.
        product: [runs, *dims] at the start.
        tolerance: [runs] error that a step may make, relative to the largest factor of the start: a flow's rtol +
            atol / its norm, or the rounding of descent.
        chain: whether the product is W_L ... W_1, the product matrix of the factors (Equation 3).
        square: whether all factors of a chain are square.
        rounding: machine epsilon of the runs' dtype.
    """

    depth: int
    dynamics: str
    mask: Bool[np.ndarray, "runs *dims"] | None
    values: Float[np.ndarray, "runs *observed"]
    determinant: Float[np.ndarray, " runs"]
    unbalancedness: Float[np.ndarray, " runs"]
    product: Float[np.ndarray, "runs *dims"]
    tolerance: Float[np.ndarray, " runs"]
    chain: bool = True
    square: bool = True
    rounding: float = float(np.finfo(np.float64).eps)

    @property
    def runs(self) -> int:
        return len(self.product)

    @property
    def dims(self) -> tuple[int, ...]:
        return self.product.shape[1:]

    @property
    def balanced(self) -> Bool[np.ndarray, " runs"]:
        """Whether each run's start meets Equation 5 up to rounding."""
        return np.asarray(self.unbalancedness <= BALANCED)

    def of(self, run: int) -> RunContext:
        """The facts about one run."""
        one = slice(run, run + 1)
        arrays = {
            name: getattr(self, name)[one]
            for name in ("values", "determinant", "unbalancedness", "product", "tolerance")
        }
        return replace(self, mask=None if self.mask is None else self.mask[one], **arrays)

    @cached_property
    def entry_bounds(self) -> EntryBounds:
        """The bounds on each run's only unobserved entry (Theorem 2)."""
        return EntryBounds(self.mask, self.values, self.dims)


@dataclass(frozen=True)
class Bound:
    """A column of the trace and its bound.

    Args:
        column: the measured one.
        values: [rows], NaN where the statement gives no bound.
        lower: a lower bound, else an upper one.
        trivial: [rows] or a number: a value that some array of the same loss has, whatever the theorem says of others.
            Where a lower bound is at most that (an upper one at least), the row could not have failed. None: every row
            with a bound could have failed.
        slack: [rows] or a number, relative to the bound's size (at least 1): a value may lie on the wrong side by so
            much.
    """

    column: str
    values: Float[np.ndarray, " rows"]
    lower: bool
    trivial: np.ndarray | float | None = None
    slack: np.ndarray | float = SLACK


class Certificate(ABC):
    """A statement about runs. A new one is a class like this and a line under `certificates` in a metrics YAML.

    Its bounds fill columns `bound/<column>`; each is a statement by itself, named `<name>/<column>`.
    """

    name: str

    @abstractmethod
    def bounds(self, facts: RunContext, trace: Trace) -> list[Bound]:
        """Bounds for rows of any of the runs: `trace["run"]` says whose, beside `loss` and the measured columns."""

    @abstractmethod
    def failing(self, facts: RunContext) -> list[str | None]:
        """The first premise that fails for each run, in words; None where the statement applies."""

    def verdicts(self, facts: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        """The verdict on each of the statement's parts in one run, from its rows; `facts` are that run's own."""
        failing = self.failing(facts)[0]
        found = {f"{self.name}/{bound.column}": verdict(bound, trace, failing) for bound in self.bounds(facts, trace)}
        return found or {self.name: not_applicable(failing or "none of its columns is measured")}


def not_applicable(premise: str, found: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """The verdict on a statement whose premise fails; the verdict that the rows would have had becomes `seen`."""
    seen = {"seen" if key == "verdict" else key: value for key, value in found.items()}
    return {"verdict": NOT_APPLICABLE, "premise": premise, **seen}


def says_nothing(reason: str, found: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """The verdict on a statement that applies, but could not have failed in any row."""
    return {**found, "verdict": SAYS_NOTHING, "reason": reason}


def verdict(bound: Bound, trace: Trace, failing: str | None = None) -> dict[str, Any]:
    """Whether a bound holds in all rows: the smallest margin and its iteration, or the first violation.

    `holds` needs rows that could have failed (see `Bound.trivial`), and `margin` is the smallest distance among them;
    `rows` counts them. A NaN that is measured where there is a bound counts as a violation. Where a premise fails,
    `seen` is the verdict that the rows would have had.

    Example:
        >>> trace = {"x": np.array([2.0, 5.0]), "iteration": np.array([0, 50])}
        >>> verdict(Bound("x", np.array([1.0, 2.0]), lower=True), trace)
        {'verdict': 'holds', 'margin': 1.0, 'iteration': 0, 'rows': 2}
        >>> verdict(Bound("x", np.array([1.0, 2.0]), lower=True, trivial=2.0), trace)["verdict"]
        'says nothing here'
    """
    bounded = np.flatnonzero(~np.isnan(bound.values))
    limits, measured = bound.values[bounded], trace[bound.column][bounded]
    slack, trivial = (
        np.broadcast_to(np.asarray(each, dtype=np.float64), bound.values.shape)[bounded]
        for each in (bound.slack, np.nan if bound.trivial is None else bound.trivial)
    )
    with np.errstate(invalid="ignore"):
        margins = np.where(measured == limits, 0.0, measured - limits if bound.lower else limits - measured)
        broken = ~(margins >= -slack * np.maximum(1, np.abs(limits)))
        telling = ~(limits <= trivial if bound.lower else limits >= trivial)
    if broken.any():
        at = int(broken.argmax())
        found: dict[str, Any] = {"verdict": VIOLATED}
    elif telling.any():
        at = int(np.where(telling, margins, np.inf).argmin())
        found = {"verdict": HOLDS}
    else:
        nothing = says_nothing(_silence(trace, len(bounded) > 0))
        return nothing if failing is None else not_applicable(failing)
    found |= {
        "margin": float(margins[at]),
        "iteration": int(trace["iteration"][bounded[at]]),
        "rows": int(telling.sum()),
    }
    return found if failing is None else not_applicable(failing, found)


def _silence(trace: Trace, bounded: bool) -> str:
    if not bounded:
        return "no row has a bound"
    lowest = f" (the lowest is {np.nanmin(trace['loss']):.3g})" if "loss" in trace else ""
    return f"at the losses of these rows the bound excludes nothing{lowest}"


def first_failing(runs: int, premises: Sequence[tuple[np.ndarray | bool, str]]) -> list[str | None]:
    """The words of the first premise that is not met, for each run.

    Example:
        >>> first_failing(2, [(True, "a"), (np.array([True, False]), "b")])
        [None, 'b']
    """
    found: list[str | None] = [None] * runs
    for met, words in reversed(premises):
        for run in np.flatnonzero(~np.broadcast_to(np.asarray(met), (runs,))):
            found[int(run)] = words
    return found
