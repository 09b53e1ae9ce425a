"""A run checked against a statement: what the statement needs, what it bounds, and what became of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

Trace = Mapping[str, np.ndarray]

NOTHING: Mapping[str, Any] = {}
HOLDS, VIOLATED, NOT_APPLICABLE = "holds", "violated", "not applicable"
ROUNDING = 1e-9  # of a bound's size (at least 1): by so much may a value lie on its wrong side
RESOLVED = 100.0  # times the error of a step: a determinant nearer to zero may have either sign
BALANCED = 1e-6  # of the largest squared factor: by so much may a start miss Equation 5


@dataclass(frozen=True)
class Facts:
    """What statements ask of the runs of an ensemble, before training.

    Args:
        depth: number of factors.
        dynamics: `flow`, `descent` or `adaptive`.
        mask, values: [runs, *dims] observed entries; or no mask, and values [runs, n] of other measurements.
        determinant: [runs] sign of the initial product's determinant; NaN where it has none.
        unbalancedness: [runs] of the initial factors, relative to the largest squared factor; see `BALANCED`.
        product: [runs, *dims] at the start.
        tolerance: [runs] relative error of a step in a factor: a flow's rtol, or the rounding of descent.
    """

    depth: int
    dynamics: str
    mask: Bool[np.ndarray, "runs *dims"] | None
    values: Float[np.ndarray, "runs *observed"]
    determinant: Float[np.ndarray, " runs"]
    unbalancedness: Float[np.ndarray, " runs"]
    product: Float[np.ndarray, "runs *dims"]
    tolerance: Float[np.ndarray, " runs"]

    @property
    def runs(self) -> int:
        return len(self.product)

    @property
    def dims(self) -> tuple[int, ...]:
        return self.product.shape[1:]

    def of(self, run: int) -> Facts:
        """Those of one run."""
        here = slice(run, run + 1)
        arrays = {
            name: getattr(self, name)[here]
            for name in ("values", "determinant", "unbalancedness", "product", "tolerance")
        }
        return replace(self, mask=None if self.mask is None else self.mask[here], **arrays)

    def unobserved(self) -> Int[np.ndarray, "runs 2"]:
        """Row and column of each run's only unobserved entry of a matrix; -1 where there is not just one."""
        places = np.full((self.runs, 2), -1)
        if self.mask is not None and len(self.dims) == 2:
            missing = ~self.mask.reshape(self.runs, -1)
            one = missing.sum(1) == 1
            places[one] = np.stack(np.divmod(missing.argmax(1), self.dims[1]), axis=1)[one]
        return places


@dataclass(frozen=True)
class Bound:
    """A column of the trace and what bounds it.

    Args:
        column: the measured one.
        values: [rows], NaN where nothing is said.
        lower: a lower bound, else an upper one.
    """

    column: str
    values: Float[np.ndarray, " rows"]
    lower: bool


class Certificate(ABC):
    """A statement about runs. A new one is a class like this and a line under `certificates` in a metrics YAML.

    Its bounds fill columns `bound/<column>`; each is a statement by itself, named `<name>/<column>`.
    """

    name: str

    @abstractmethod
    def bounds(self, facts: Facts, trace: Trace) -> list[Bound]:
        """Bounds for rows of any of the runs: `trace["run"]` says whose, beside `loss` and the measured columns."""

    @abstractmethod
    def failing(self, facts: Facts) -> list[str | None]:
        """The first premise that fails for each run, in words; None where the statement applies."""

    def verdicts(self, facts: Facts, trace: Trace) -> dict[str, dict[str, Any]]:
        """What became of each of the statement's parts in one run, from its rows; `facts` are that run's own."""
        failing = self.failing(facts)[0]
        found = {f"{self.name}/{bound.column}": verdict(bound, trace, failing) for bound in self.bounds(facts, trace)}
        return found or {self.name: not_applicable(failing or "none of its columns is measured")}


def not_applicable(premise: str, found: Mapping[str, Any] = NOTHING) -> dict[str, Any]:
    """The verdict on a statement whose premise fails; of what was `found` all the same, the verdict becomes `seen`."""
    seen = {"seen" if key == "verdict" else key: value for key, value in found.items()}
    return {"verdict": NOT_APPLICABLE, "premise": premise, **seen}


def beyond_arithmetic(facts: Facts, trace: Trace) -> int | None:
    """The first row, of one run, at which the determinant's sign is no longer the theory's but the arithmetic's.

    There a factor's smallest singular value lies beneath `RESOLVED` times the error of a step. At depth 2 this must
    come: the theory's determinant falls like exp(-W_11^2 / 2). None where it does not, or is not measured.
    """
    if "determinant/resolution" not in trace:
        return None
    lost = np.flatnonzero(trace["determinant/resolution"] < RESOLVED * facts.tolerance[0])
    return int(lost[0]) if len(lost) else None


def until(facts: Facts, trace: Trace) -> tuple[Trace, dict[str, Any]]:
    """A run's rows up to where its arithmetic carries, and a note on that for its verdicts."""
    end = beyond_arithmetic(facts, trace)
    if end is None:
        return trace, {}
    iteration = int(trace["iteration"][end])
    why = f"from iteration {iteration} on the determinant is so near zero that rounding may turn its sign"
    return {name: column[:end] for name, column in trace.items()}, {"until": iteration, "beyond": why}


def verdict(bound: Bound, trace: Trace, failing: str | None = None) -> dict[str, Any]:
    """Whether a bound holds in all rows: the smallest margin and its iteration, or the first violation.

    The margin is of rows where a lower bound is positive, if there are any: all that is bounded so is at least 0. A NaN
    that is measured where something is bounded counts as a violation. Where a premise fails, `seen` says what
    the rows show all the same.

    Example:
        >>> trace = {"x": np.array([2.0, 5.0]), "iteration": np.array([0, 50])}
        >>> verdict(Bound("x", np.array([1.0, 2.0]), lower=True), trace)
        {'verdict': 'holds', 'margin': 1.0, 'iteration': 0}
    """
    said = np.flatnonzero(~np.isnan(bound.values))
    if not len(said):
        return not_applicable(failing or "nothing is said at the losses of this run")
    limits, measured = bound.values[said], trace[bound.column][said]
    with np.errstate(invalid="ignore"):
        margins = np.where(measured == limits, 0.0, measured - limits if bound.lower else limits - measured)
        broken = ~(margins >= -ROUNDING * np.maximum(1, np.abs(limits)))
    # What is bounded from below is no less than 0 anyway: the margin is of rows where the bound says more than that.
    empty = bound.lower & (limits <= 0)
    telling = margins if empty.all() else np.where(empty, np.inf, margins)
    at = int(broken.argmax()) if broken.any() else int(telling.argmin())
    found = {
        "verdict": VIOLATED if broken.any() else HOLDS,
        "margin": float(margins[at]),
        "iteration": int(trace["iteration"][said[at]]),
    }
    return found if failing is None else not_applicable(failing, found)


def first_failing(runs: int, premises: Sequence[tuple[np.ndarray | bool, str]]) -> list[str | None]:
    """Of each run, the words of the first premise that is not met.

    Example:
        >>> first_failing(2, [(True, "a"), (np.array([True, False]), "b")])
        [None, 'b']
    """
    found: list[str | None] = [None] * runs
    for met, words in reversed(premises):
        for run in np.flatnonzero(~np.broadcast_to(np.asarray(met), (runs,))):
            found[int(run)] = words
    return found
