"""Laws of motion of components as certificates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float

from rankward.metrics.functional.motion import speed_bounds
from rankward.metrics.hierarchical import node_names
from rankward.theory.certificates import (
    HOLDS,
    SLACK,
    VIOLATED,
    Bound,
    Certificate,
    RunContext,
    Trace,
    not_applicable,
    says_nothing,
)

SPEED = "speed/"
SINGULAR_VALUES, COMPONENTS, LOCAL = "singular_value", "cp_weight", "local_component/"
SMOOTH = "a loss with a continuous derivative"
RESOLVED = 1e-2  # of a norm: a pair of rows whose tolerance is larger is not judged
ACCIDENT = 1e-3  # of the range of rates over the time between two rows: an error estimate is not below it
SMALLEST = 1e-6  # of the largest norm of its row: a smaller one is not judged
NEAREST = 1e-2  # of a step between two rows: a neighbouring row that is nearer is not used for interpolation
TOO_FAR = f"no two rows are so close that they resolve {RESOLVED:.0%} of a norm"
FLOW_OR_DESCENT = "gradient flow, or descent with a constant rate: the trace has no time of this run's steps"
FLOW = "gradient flow (lr=flow): the error of a descent step is not known for singular values"
BALANCED_START = "balanced factors at the start (Equation 5)"


def families(trace: Trace) -> dict[str, list[str]]:
    """The columns of norms whose speed is in a trace, by the name that they share: all of CP, or of one node.

    Example:
        >>> families({name: np.zeros(1) for name in ("loss", "cp_weight/0", "speed/cp_weight/0")})
        {'cp_weight': ['cp_weight/0']}
    """
    found: dict[str, list[str]] = {}
    for name in trace:
        column = name.removeprefix(SPEED)
        if name.startswith(SPEED) and column in trace:
            found.setdefault(column.rpartition("/")[0], []).append(column)
    return found


class LawOfMotion(Certificate):
    """Components move as the laws of gradient flow say, between any two recorded rows that are close enough.

    The laws (see `metrics.functional.motion`) give d sigma / dt in each row. Between two rows, the change of ln sigma
    is compared with the integral of (d sigma / dt) / sigma: of the cubic through these rows and their two neighbours.
    The tolerance is the sum of

    - twice the largest difference between this integral and those of lower order: of the line through the two rows, and
      of the two parabolas through them and one neighbour; and a thousandth of the time between the rows times the
      range of (d sigma / dt) / sigma in the four rows, since these differences may be small by accident;
    - 16 machine epsilons times the largest norm of the row over this one;
    - for each step ten times its tolerance (of flow, rtol + atol over the largest factor; of descent, machine epsilon);
    - for descent with a constant rate eta, whose time is eta times the iteration, twice the leading error of its steps:
      eta times the integral of |q|, `step_error`, plus eta / 2 times the change of (d sigma / dt) / sigma.

    A pair of rows is judged if the tolerance is at most 1 % of the norm, if each of the four rows has a norm of at
    least 1e-6 of the largest, and if the component is the same in all of them. A singular value is the same if its
    distance from each neighbour, in each row, is more than d/dt of that distance times the time between the first and
    the last of the rows. A verdict is for all components of a node.

    With weight decay lambda of the flow, d ln sigma / dt is less by K lambda, where K is the number of a component's
    vectors, or of factors.

    With singular values of chains whose start is balanced, `balanced` compares with the law L gamma sigma^(2 - 2/L) in
    the same way. Its tolerance also has L times the imbalance of the row (relative to the largest squared factor) times
    (sigma_1 / sigma)^(2/L) times the integral of |d sigma / dt| / sigma.

    Source: Razin, Maman and Cohen (ICML 2021, ICML 2022); Arora, Cohen, Hu and Luo (NeurIPS 2019).
    """

    name = "law_of_motion"

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing_premises(self, context: RunContext) -> list[str | None]:
        premise = None
        if not (context.is_flow or context.dynamics == "descent"):
            premise = FLOW_OR_DESCENT
        elif not context.smooth:  # speeds jump between two rows, so that no integral is accurate
            premise = SMOOTH
        elif context.chain and not context.is_flow:
            premise = FLOW
        return [premise] * context.runs

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise = self.failing_premises(context)[0]
        found = families(trace)
        if premise is not None or not found:
            return {self.name: not_applicable(premise or "none of its columns (speed/...) is measured")}
        eta = 0.0
        if context.is_flow:
            time = trace["time"]
        else:
            assert context.step_size is not None
            eta = float(context.step_size[0])
            time = eta * trace["iteration"]
        verdicts = {}
        for family, columns in found.items():
            shrinkage = 0.0 if context.decay is None else _vectors(context, family) * float(context.decay[0])
            rows = _Rows.of(trace, columns, time, context, eta, shrinkage)
            verdicts[f"{self.name}/{family}"] = _judged(rows, rows.rate, 0.0, trace, columns)
            if family == SINGULAR_VALUES and context.chain and context.depth > 1:
                verdicts[f"{self.name}/balanced"] = self._balanced(context, trace, columns, rows, shrinkage)
        return verdicts

    def _balanced(
        self, context: RunContext, trace: Trace, columns: list[str], rows: _Rows, shrinkage: float
    ) -> dict[str, Any]:
        if not context.balanced[0]:
            return not_applicable(BALANCED_START)
        depth = context.depth
        norms, alignment = _stacked(trace, columns), _stacked(trace, [f"alignment/{name}" for name in columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = depth * alignment * norms ** (1 - 2 / depth) - shrinkage
            share = (norms[:1] / norms) ** (2 / depth)
        imbalance = context.unbalancedness[0] + np.maximum.accumulate(trace.get("balance/drift", np.zeros(1)))
        return _judged(rows, rate, depth * imbalance * share * np.abs(rate), trace, columns)


class SpeedBounds(Certificate):
    """The speed of a component lies between the bounds that its imbalance gives, in every row.

    With K vectors whose squared norms differ by at most epsilon (`imbalance`), and gamma >= 0, it lies between
    K gamma sigma^2 / (sigma^(2/K) + epsilon) and K gamma (sigma^(2/K) + epsilon)^(K - 1); the bounds are exchanged for
    gamma < 0. It may violate them by 1e-9 of the larger one. The bounds hold for any factors, whatever the dynamics, so
    they test the numbers of a run. `ratio` is the largest ratio of the two bounds in a row.

    Source: Razin, Maman and Cohen, "Implicit Regularization in Tensor Factorization" (ICML 2021), Theorem 1.
    """

    name = "speed_bounds"

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing_premises(self, context: RunContext) -> list[str | None]:
        premise = None if context.components or context.tree else "a CP or a hierarchical factorization"
        return [premise] * context.runs

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise, verdicts = self.failing_premises(context)[0], {}
        for family, columns in families(trace).items() if premise is None else ():
            norm, alignment, imbalance, speed = (
                _stacked(trace, [f"{kind}{c}" for c in columns]) for kind in ("", "alignment/", "imbalance/", SPEED)
            )
            sigma, gamma, epsilon = (torch.from_numpy(each) for each in (norm, alignment, imbalance))
            low, high = (bound.numpy() for bound in speed_bounds(sigma, gamma, epsilon, _vectors(context, family)))
            size = np.maximum(np.abs(low), np.abs(high))
            with np.errstate(divide="ignore", invalid="ignore"):
                margin = np.minimum(speed - low, high - speed) / np.where(size > 0, size, 1.0)
                ratio = size / np.minimum(np.abs(low), np.abs(high))
            judged = ~(np.isnan(alignment) & np.isnan(speed)) & (norm > 0)
            found = _verdict(margin, ~(margin >= -SLACK), judged, trace["iteration"], columns, "all norms are 0")
            if judged.any():
                found["ratio"] = float(ratio[judged].max())
            verdicts[f"{self.name}/{family}"] = found
        return verdicts or {self.name: not_applicable(premise or "none of its columns (speed/...) is measured")}


def _vectors(context: RunContext, family: str) -> float:
    """The number of vectors of a component, or of the factors that a singular value passes through."""
    if context.chain:
        return context.depth
    if context.tree is None:
        return len(context.dims)
    inner = [node for node in context.tree.nodes if node.children]
    named = dict(zip(node_names(context.tree), inner, strict=True))
    return len(named[family.removeprefix(LOCAL)].children) + 1


@dataclass(frozen=True)
class _Rows:
    """The norms of a family, [components, rows], and whether the law can be tested between a row and the next."""

    time: Float[np.ndarray, " rows"]
    log_norm: Float[np.ndarray, "components rows"]
    rate: Float[np.ndarray, "components rows"]  # (d sigma / dt) / sigma
    usable: Bool[np.ndarray, "components pairs"]  # pairs of rows that have a row on both sides
    weights: Float[np.ndarray, "rules pairs 4"]  # of the rates of four rows, over the time between the middle two
    error: Float[np.ndarray, "components pairs"]  # of norms and steps

    @classmethod
    def of(
        cls, trace: Trace, columns: list[str], time: np.ndarray, context: RunContext, eta: float, shrinkage: float
    ) -> _Rows:
        norms, speeds = _stacked(trace, columns), _stacked(trace, [SPEED + name for name in columns])
        with np.errstate(divide="ignore", invalid="ignore"):
            log_norm, rate, share = np.log(norms), speeds / norms - shrinkage, norms[:1] / norms
        weights, spaced = _weights(time)
        valid = np.isfinite(rate) & (norms > 0) & (norms >= SMALLEST * norms[:1])
        usable = spaced & _four(valid).all(-1)
        if f"index/{columns[0]}" in trace:
            index = _four(_stacked(trace, [f"index/{name}" for name in columns]))
            usable &= (index == index[..., :1]).all(-1)
        elif context.chain:
            usable &= _apart(norms, speeds, time, all_recorded=len(columns) == min(context.dims))
        error = 16 * context.rounding * np.maximum(share[:, 1:-2], share[:, 2:-1])
        error = error + 10 * context.tolerance[0] * np.diff(trace["iteration"])[1:-1]
        if eta:
            second = np.abs(_stacked(trace, [f"step_error/{name}" for name in columns]))
            length = np.diff(time)[1:-1]
            error = error + 2 * eta * (
                length * (second[:, 1:-2] + second[:, 2:-1]) / 2 + np.abs(np.diff(rate)[:, 1:-1]) / 2
            )
        return cls(time, log_norm, rate, usable, weights, error)


def _apart(norms: np.ndarray, speeds: np.ndarray, time: np.ndarray, all_recorded: bool) -> np.ndarray:
    """Whether no two singular values meet near a pair of rows, [values, pairs], since they may exchange their vectors.

    The distance from each neighbour, in each of four rows, must be more than its speed changes it in the time from the
    first row to the last.
    """
    gaps, closing = _four(-np.diff(norms, axis=0)), _four(np.abs(np.diff(speeds, axis=0)))
    span = _four(time[None])[..., -1:] - _four(time[None])[..., :1]
    clear = (gaps > closing * span).all(-1)  # False where a speed is NaN
    ends = np.ones((1, clear.shape[1]), dtype=bool)
    return np.concatenate([ends, clear]) & np.concatenate([clear, ends & all_recorded])


def _four(values: np.ndarray) -> np.ndarray:
    """[components, pairs, 4] windows of four rows."""
    if values.shape[-1] < 4:
        return np.empty((*values.shape[:-1], 0, 4), dtype=values.dtype)
    return np.lib.stride_tricks.sliding_window_view(values, 4, axis=-1)


RULES = (0, 1, 2, 3), (1, 2), (0, 1, 2), (1, 2, 3)  # of four rows, those that a polynomial goes through


def _weights(time: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights of four values in the integrals of polynomials from the second to the third; and usable pairs of rows.

    Args:
        time: [rows].

    Returns:
        [4, rows - 3, 4], relative to the time between the second and the third, for each of `RULES`; and [rows - 3].

    Example:
        >>> (24 * _weights(np.arange(4.0))[0][:, 0]).round(9).tolist()
        [[-1.0, 13.0, 13.0, -1.0], [0.0, 12.0, 12.0, 0.0], [-2.0, 16.0, 10.0, 0.0], [0.0, 10.0, 16.0, -2.0]]
    """
    windows = _four(time[None])[0]
    length = windows[:, 2:3] - windows[:, 1:2]
    with np.errstate(divide="ignore", invalid="ignore"):
        nodes = (windows - windows[:, 1:2]) / length
    spaced = (length[:, 0] > 0) & (nodes[:, 0] < -NEAREST) & (nodes[:, 3] > 1 + NEAREST)
    nodes = np.where(spaced[:, None], nodes, np.array([-1.0, 0.0, 1.0, 2.0]))
    weights = np.zeros((len(RULES), len(nodes), 4))
    for rule, rows in zip(weights, RULES, strict=True):
        powers = nodes[:, None, rows] ** np.arange(len(rows))[:, None]
        moments = np.broadcast_to(1 / np.arange(1, len(rows) + 1)[:, None], (len(nodes), len(rows), 1))
        rule[:, rows] = np.linalg.solve(powers, moments)[..., 0]
    return weights, spaced


def _judged(
    rows: _Rows, rate: np.ndarray, more: np.ndarray | float, trace: Trace, columns: list[str]
) -> dict[str, Any]:
    """The verdict on a law that gives `rate`; `more` [components, rows] is a further error of it."""
    length = np.diff(rows.time)[1:-1]
    with np.errstate(invalid="ignore", over="ignore"):
        cubic, *lower = length * (rows.weights[:, None] * _four(rate)).sum(-1)
        tolerance = 2 * np.abs(np.stack(lower) - cubic).max(0) + ACCIDENT * length * np.ptp(_four(rate), axis=-1)
        tolerance = tolerance + rows.error
        if isinstance(more, np.ndarray):
            tolerance = tolerance + length * (more[:, 1:-2] + more[:, 2:-1]) / 2
        difference = np.abs(np.diff(rows.log_norm)[:, 1:-1] - cubic)
        judged = rows.usable & (tolerance <= RESOLVED)
        margin = tolerance - difference
    found = _verdict(margin, ~(difference <= tolerance), judged, trace["iteration"][2:-1], columns, TOO_FAR)
    if judged.any():
        found["tolerance"] = float(np.median(tolerance[judged]))
    return found


def _verdict(
    margin: np.ndarray,
    violated: np.ndarray,
    judged: np.ndarray,
    iteration: np.ndarray,
    columns: list[str],
    nothing: str,
) -> dict[str, Any]:
    """The first violation, or else the smallest margin, among judged places [components, rows]."""
    if not judged.any():
        return says_nothing(nothing)
    wrong = violated & judged
    if wrong.any():
        row = int(wrong.any(0).argmax())
        component = int(wrong[:, row].argmax())
    else:
        component, row = divmod(int(np.where(judged, margin, np.inf).argmin()), margin.shape[1])
    return {
        "verdict": VIOLATED if wrong.any() else HOLDS,
        "margin": float(margin[component, row]),
        "iteration": int(iteration[row]),
        "column": columns[component],
        "rows": int(judged.sum()),
    }


def _stacked(trace: Mapping[str, np.ndarray], names: list[str]) -> Float[np.ndarray, "columns rows"]:
    return np.stack([np.asarray(trace[name], dtype=np.float64) for name in names])
