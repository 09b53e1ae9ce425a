"""Check a run against a statement of the paper: the premises, the bounds, and the verdict."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from rankward.mode_tree import ModeTree
from rankward.theory.bounds import EntryBounds

Trace = Mapping[str, np.ndarray]

NO_FIELDS: Mapping[str, Any] = {}
HOLDS, VIOLATED, SAYS_NOTHING, NOT_APPLICABLE = "holds", "violated", "says nothing here", "not applicable"
VERDICTS = HOLDS, VIOLATED, SAYS_NOTHING, NOT_APPLICABLE
SQUARED_LOSS = "the squared loss (Equation 1)"  # a premise
SLACK = 1e-9  # relative to the bound's size (at least 1): a value may violate the bound by this much
BALANCED = 1e-12  # relative to the largest squared factor: a start is balanced up to the rounding of its factors


@dataclass(frozen=True)
class RunContext:
    """Facts about the runs of an ensemble before training, for statements.

    Args:
        depth: number of factors.
        dynamics: `flow`, `decaying_flow`, `descent`, `adaptive` or `optimizer`.
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
        half_sums: [runs] or a number for all: Equation 1's half sum over the run's loss, 1 unless that is a mean; NaN
            where it is not the squared loss.
        smooth: whether the derivative of the loss is continuous.
        step_size: [runs] of gradient descent with a constant step, NaN for other dynamics; None: not known.
        tree: the mode tree of a hierarchical factorization.
        components: whether the factors are those of a CP factorization.
        decay: [runs] weight decay of a flow; None without it.
        spectral: whether the product of a chain is kept as singular values and vectors, and the determinant's sign with
            them.
        factors: W_1, ..., W_L at the start, [runs, d_l, d_(l-1)] each; None where they are not a chain of matrices, or
            their number is not an integer.
    """

    depth: float
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
    half_sums: Float[np.ndarray, " runs"] | float = 1.0
    smooth: bool = True
    step_size: Float[np.ndarray, " runs"] | None = None
    tree: ModeTree | None = None
    components: bool = False
    decay: Float[np.ndarray, " runs"] | None = None
    spectral: bool = False
    factors: Sequence[np.ndarray] | None = None

    @property
    def runs(self) -> int:
        return len(self.product)

    @property
    def dims(self) -> tuple[int, ...]:
        return self.product.shape[1:]

    @property
    def is_flow(self) -> bool:
        """Whether the runs follow gradient flow, with or without weight decay."""
        return self.dynamics in ("flow", "decaying_flow")

    @property
    def balanced(self) -> Bool[np.ndarray, " runs"]:
        """Whether each run's start meets Equation 5 up to rounding."""
        return np.asarray(self.unbalancedness <= BALANCED)

    def of(self, run: int) -> RunContext:
        """The context of one run."""
        one = slice(run, run + 1)
        arrays = {
            name: getattr(self, name)[one]
            for name in ("values", "determinant", "unbalancedness", "product", "tolerance")
        }
        optional = {name: getattr(self, name) for name in ("mask", "step_size", "decay")}
        arrays |= {name: each[one] for name, each in optional.items() if each is not None}
        arrays["factors"] = None if self.factors is None else [factor[one] for factor in self.factors]
        return replace(self, half_sums=np.broadcast_to(self.half_sums, (self.runs,))[one], **arrays)

    @property
    def squared(self) -> Bool[np.ndarray, " runs"]:
        """Whether each run's loss is Equation 1's, up to a constant factor."""
        return np.broadcast_to(np.isfinite(self.half_sums), (self.runs,))

    def with_half_sums(self, trace: Trace) -> Trace:
        """A trace with Equation 1's half sum as `loss`, as the statements have it."""
        return {**trace, "loss": trace["loss"] * np.broadcast_to(self.half_sums, (self.runs,))[trace["run"]]}

    @cached_property
    def entry_bounds(self) -> EntryBounds:
        """The bounds on each run's only unobserved entry (Theorem 2)."""
        return EntryBounds(self.mask, self.values, self.dims)


@dataclass(frozen=True)
class Bound:
    """A column of the trace and its bound.

    Args:
        column: the measured one.
        values: [rows], NaN where there is no bound.
        lower: a lower bound, else an upper one.
        trivial: [rows] or a number: a value that some array of the same loss has, whatever the theorem's premises. A
            row whose lower bound is at most that (whose upper bound is at least that) cannot violate the bound. None:
            every row with a bound can violate it.
        slack: [rows] or a number, relative to the bound's size (at least 1): a value may violate the bound by this
            much.
    """

    column: str
    values: Float[np.ndarray, " rows"]
    lower: bool
    trivial: np.ndarray | float | None = None
    slack: np.ndarray | float = SLACK


class Certificate(ABC):
    """A statement about runs. A new one is a subclass and a line under `certificates` in a metrics YAML.

    Its bounds fill columns `bound/<column>`. Each bound has a verdict, named `<name>/<column>`.
    """

    name: str

    @abstractmethod
    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        """Bounds for rows of any runs; `trace` has the run of each row (`run`), `loss` and the measured columns.

        `loss` is Equation 1's half sum, also where the runs' loss is the mean; NaN for a loss that is not squared.
        """

    @abstractmethod
    def failing_premises(self, context: RunContext) -> list[str | None]:
        """The first premise that fails for each run, as a phrase; None if the statement applies."""

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        """The verdict on each part of the statement in one run, from its rows; `context` is the context of that run."""
        premise = self.failing_premises(context)[0]
        found = {f"{self.name}/{bound.column}": verdict(bound, trace, premise) for bound in self.bounds(context, trace)}
        return found or {self.name: not_applicable(premise or "none of its columns is measured")}


def not_applicable(premise: str, found: Mapping[str, Any] = NO_FIELDS) -> dict[str, Any]:
    """The verdict `not applicable` with the failing premise; a verdict found without the premise becomes `seen`."""
    observed = {"seen" if key == "verdict" else key: value for key, value in found.items()}
    return {"verdict": NOT_APPLICABLE, "premise": premise, **observed}


def says_nothing(reason: str, found: Mapping[str, Any] = NO_FIELDS) -> dict[str, Any]:
    """The verdict on a statement that applies but that no row could have violated."""
    return {**found, "verdict": SAYS_NOTHING, "reason": reason}


def verdict(bound: Bound, trace: Trace, failing_premise: str | None = None) -> dict[str, Any]:
    """Whether a bound holds in all rows: the smallest margin and its iteration, or the first violation.

    `holds` needs rows that can violate the bound (see `Bound.trivial`); `rows` counts them and `margin` is their
    smallest distance from it. A measured NaN where there is a bound is a violation. If a premise fails, the
    verdict is `not applicable`, and `seen` is the verdict without that premise.

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
        violated = ~(margins >= -slack * np.maximum(1, np.abs(limits)))
        informative = ~(limits <= trivial if bound.lower else limits >= trivial)
    if violated.any():
        at = int(violated.argmax())
        found: dict[str, Any] = {"verdict": VIOLATED}
    elif informative.any():
        at = int(np.where(informative, margins, np.inf).argmin())
        found = {"verdict": HOLDS}
    else:
        nothing = says_nothing(_no_information(trace, len(bounded) > 0))
        return nothing if failing_premise is None else not_applicable(failing_premise)
    found |= {
        "margin": float(margins[at]),
        "iteration": int(trace["iteration"][bounded[at]]),
        "rows": int(informative.sum()),
    }
    return found if failing_premise is None else not_applicable(failing_premise, found)


def _no_information(trace: Trace, bounded: bool) -> str:
    if not bounded:
        return "no row has a bound"
    lowest = f" (the lowest is {np.nanmin(trace['loss']):.3g})" if "loss" in trace else ""
    return f"at the losses of these rows the bound excludes nothing{lowest}"


def first_failing(runs: int, premises: Sequence[tuple[np.ndarray | bool, str]]) -> list[str | None]:
    """The first premise that each run does not meet.

    Args:
        runs: number of runs.
        premises: pairs of [runs] booleans (or one for all runs) and the premise as a phrase.

    Example:
        >>> first_failing(2, [(True, "a"), (np.array([True, False]), "b")])
        [None, 'b']
    """
    found: list[str | None] = [None] * runs
    for met, premise in reversed(premises):
        for run in np.flatnonzero(~np.broadcast_to(np.asarray(met), (runs,))):
            found[int(run)] = premise
    return found
