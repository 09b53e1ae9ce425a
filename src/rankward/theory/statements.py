"""The paper's statements about runs, as certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rankward.observations import dimensions
from rankward.theory import bounds
from rankward.theory.certificates import (
    BALANCED,
    HOLDS,
    ROUNDING,
    VIOLATED,
    Bound,
    Certificate,
    Facts,
    Trace,
    first_failing,
    not_applicable,
    until,
    verdict,
)

NORMS: Mapping[str, float] = {"norm/nuclear": 1, "norm/frobenius": 2, "norm/spectral": np.inf}
SCHATTEN = "norm/schatten_"
DISCRETE = "gradient flow (lr=flow): this run takes discrete steps"


def schatten_columns(trace: Trace) -> dict[str, float]:
    """The trace's Schatten (quasi-)norms and their p."""
    asked = {name: float(name.removeprefix(SCHATTEN)) for name in trace if name.startswith(SCHATTEN)}
    return {name: p for name, p in {**NORMS, **asked}.items() if name in trace}


def solves_equation_6(facts: Facts) -> np.ndarray:
    """[runs] whether the observations are Equation 6's."""
    return solves_appendix_e(facts) & (facts.dims == (2, 2))


def solves_appendix_e(facts: Facts) -> np.ndarray:
    """[runs] whether the observations are Appendix E's, of which Equation 6 is the smallest case."""
    return np.zeros(facts.runs, bool) if facts.mask is None else is_appendix_e(facts.mask, facts.values)


def is_appendix_e(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    """[runs] the same of observed entries, [runs, *dims] both."""
    dims = mask.shape[1:]
    if len(dims) != 2 or min(dims) < 2:
        return np.zeros(len(mask), bool)
    wanted = dimensions(dims)
    return np.asarray((mask == wanted.mask).all((1, 2)) & (values == wanted.values).all((1, 2)))


def _balanced(facts: Facts) -> tuple[np.ndarray, str]:
    return facts.unbalancedness <= BALANCED, f"a balanced start (Equation 5 to {BALANCED:g} of the largest factor)"


class Theorem1(Certificate):
    """All norms grow, the rank falls: Equations 8 (every Schatten norm measured), 9 and 10."""

    name = "theorem_1"

    def bounds(self, facts: Facts, trace: Trace) -> list[Bound]:
        if facts.dims != (2, 2):
            return []
        loss = np.where(solves_equation_6(facts)[trace["run"]], trace["loss"], np.nan)
        found = [Bound(name, bounds.norm_bound(loss, p), lower=True) for name, p in schatten_columns(trace).items()]
        upper = {
            "rank/effective": bounds.effective_rank_bound,
            "rank/distance_to_infimal": bounds.distance_bound,
        }
        return found + [Bound(name, made(loss), lower=False) for name, made in upper.items() if name in trace]

    def failing(self, facts: Facts) -> list[str | None]:
        return first_failing(facts.runs, _premises_of_theorem_1(facts))

    def verdicts(self, facts: Facts, trace: Trace) -> dict[str, dict[str, Any]]:
        carried, note = until(facts, trace)
        return {name: found | note for name, found in super().verdicts(facts, carried).items()}


def _premises_of_theorem_1(facts: Facts) -> list[tuple[np.ndarray | bool, str]]:
    return [
        (solves_equation_6(facts), "the observations of Equation 6"),
        (facts.depth >= 2, f"a depth of at least 2, not {facts.depth}"),
        (facts.determinant > 0, "a positive determinant at the start"),
        _balanced(facts),
        (facts.dynamics == "flow", DISCRETE),
    ]


class Corollary1(Certificate):
    """Norms go to infinity as the loss goes to zero: fitted slopes on log axes, with standard errors.

    Equation 8 makes |W_11| and every norm grow at least like loss^(-1/2). A least-squares line is fit to the rows of
    the loss's last decade; `holds` where its slope is at most -1/2, within three standard errors or 0.05.
    """

    name = "corollary_1"
    slack = 0.05
    rows = 5  # at least, for a fit

    def bounds(self, facts: Facts, trace: Trace) -> list[Bound]:
        return []

    def failing(self, facts: Facts) -> list[str | None]:
        return first_failing(facts.runs, _premises_of_theorem_1(facts))

    def verdicts(self, facts: Facts, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        if not solves_equation_6(facts)[0]:
            return {self.name: not_applicable(failing or "")}
        trace, note = until(facts, trace)
        names = [name for name in ("entry/0_0", *schatten_columns(trace)) if name in trace]
        return {
            f"{self.name}/{name}": self._slope(trace["loss"], np.abs(trace[name]), failing) | note for name in names
        }

    def _slope(self, loss: np.ndarray, value: np.ndarray, failing: str | None) -> dict[str, Any]:
        usable = np.isfinite(loss) & np.isfinite(value) & (loss > 0) & (value > 0)
        loss, value = loss[usable], value[usable]
        lowest = loss.min() if len(loss) else np.inf
        last = loss <= 10 * lowest
        if lowest > 1e-2 or last.sum() < self.rows:
            return not_applicable(failing or "five rows within a decade of a loss below 0.01")
        slope, error = fitted_slope(np.log(loss[last]), np.log(value[last]))
        steep = slope <= -0.5 + max(3 * error, self.slack)
        found = {"verdict": HOLDS if steep else VIOLATED, "slope": slope, "standard_error": error}
        return found if failing is None else not_applicable(failing, found)


def fitted_slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """A least-squares line's slope and its standard error.

    Example:
        >>> fitted_slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
        (2.0, 0.0)
    """
    x, y = x - x.mean(), y - y.mean()
    spread = float((x * x).sum())
    slope = float((x * y).sum()) / spread
    rest = y - slope * x
    return slope, float(np.sqrt((rest * rest).sum() / (len(x) - 2) / spread))


class Theorem2(Certificate):
    """The unobserved entry's lower bound where the determinant has the sign that forces it: any b, any position.

    It is arithmetic, so it holds row by row, of descent as well; what flow adds from a balanced start is that the
    sign stays. Of larger square matrices, Appendix E's problem. `limit` is what it allows at loss 0: infinity where
    b_22 = 0.
    """

    name = "theorem_2"

    def bounds(self, facts: Facts, trace: Trace) -> list[Bound]:
        if len(facts.dims) != 2 or facts.dims[0] != facts.dims[1] or "determinant/sign" not in trace:
            return []
        places, run = facts.unobserved(), trace["run"]
        known = self._bound(facts, trace["loss"], run)
        forced = trace["determinant/sign"] == self.forced_sign(facts)[run]
        found = []
        for row, col in np.unique(places[places[:, 0] >= 0], axis=0):
            name = f"entry/{row}_{col}"
            here = (places[run] == (row, col)).all(1)
            if name in trace:
                found.append(Bound(name, np.where(forced & here, known, np.nan), lower=True))
        return found

    def _bound(self, facts: Facts, loss: np.ndarray, run: np.ndarray) -> np.ndarray:
        if facts.dims == (2, 2):
            b_12, b_21, b_22 = self.values(facts)[run].T
            return bounds.robustness_bound(loss, b_12, b_21, b_22)
        return np.where(solves_appendix_e(facts)[run], bounds.dimensions_bound(loss), np.nan)

    def values(self, facts: Facts) -> np.ndarray:
        """[runs, 3] b_12, b_21, b_22 of a 2x2 problem, rows and columns permuted so that W_11 is unobserved."""
        if facts.mask is None:  # measurements of another kind: no entry has a value of its own
            return np.zeros((facts.runs, 3))
        return bounds.around(facts.values, np.maximum(facts.unobserved(), 0))

    def forced_sign(self, facts: Facts) -> np.ndarray:
        """[runs] the determinant's sign from which the bound follows: sign(b_12 b_21), turned by each swap."""
        if facts.dims != (2, 2):
            return np.ones(facts.runs)
        return bounds.forcing_sign(self.values(facts), facts.unobserved())

    def failing(self, facts: Facts) -> list[str | None]:
        square = len(facts.dims) == 2 and facts.dims[0] == facts.dims[1]
        size = "x".join(map(str, facts.dims))
        one = facts.unobserved()[:, 0] >= 0
        premises: list[tuple[np.ndarray | bool, str]] = [
            (square, f"a square matrix: a {size} one has no determinant"),
            (one, "observations that leave just one entry unobserved"),
        ]
        if square and facts.dims == (2, 2):
            premises.append((np.asarray(self.values(facts)[:, :2].all(1)), "values other than 0 for b_12 and b_21"))
        elif square:
            premises.append((solves_appendix_e(facts), "the observations of Appendix E"))
        if square:
            premises.append(
                (
                    np.asarray(facts.determinant == self.forced_sign(facts)),
                    "a determinant that starts with sign(b_12 b_21)",
                )
            )
        return first_failing(facts.runs, premises)

    def verdicts(self, facts: Facts, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        trace, note = until(facts, trace)
        if failing is None and "determinant/sign" in trace:
            lost = np.flatnonzero(trace["determinant/sign"] != self.forced_sign(facts)[0])
            theory = facts.dynamics == "flow" and facts.unbalancedness[0] <= BALANCED
            if len(lost) and theory:
                at = int(trace["iteration"][lost[0]])
                return {self.name: {"verdict": VIOLATED, "iteration": at, "margin": float("nan")}}
            if len(lost):
                failing = f"a determinant that keeps its sign: lost at iteration {int(trace['iteration'][lost[0]])}"
        parts = {}
        for bound in self.bounds(facts, trace):
            magnitude = {**trace, bound.column: np.abs(trace[bound.column])}
            parts[f"{self.name}/{bound.column}"] = verdict(bound, magnitude, failing) | self._limit(facts) | note
        return parts or {self.name: not_applicable(failing or "its columns (entry, determinant/sign) are not measured")}

    def _limit(self, facts: Facts) -> dict[str, float]:
        values = self.values(facts)[0] if facts.dims == (2, 2) else np.array([1.0, 1.0, 0.0])
        return {"limit": float(bounds.robustness_bound(0.0, *values))}


class Proposition4(Certificate):
    """Depth 2 from a multiple of the identity: the loss goes to zero, and the product stays positive definite.

    `holds` where every row's product is symmetric and positive definite. How far the loss has come stands beside it:
    the loss falls like time^(-2/3), and the determinant like exp(-W_11^2 / 2), which leaves the arithmetic's reach at
    |W_11| about 10. `rankward propositions` follows the determinant's logarithm instead, to a loss of 1e-10.
    """

    name = "proposition_4"
    columns = ("entry/0_0", "entry/0_1", "entry/1_0", "entry/1_1", "determinant/sign")

    def bounds(self, facts: Facts, trace: Trace) -> list[Bound]:
        return []

    def failing(self, facts: Facts) -> list[str | None]:
        scale = facts.product[:, 0, 0] if len(facts.dims) == 2 else np.zeros(facts.runs)
        eye = len(facts.dims) == 2 and np.isclose(
            facts.product, scale[:, None, None] * np.eye(*facts.dims), rtol=1e-12, atol=0
        ).all((1, 2))
        return first_failing(
            facts.runs,
            [
                (solves_equation_6(facts), "the observations of Equation 6"),
                (facts.depth == 2, f"depth 2, not {facts.depth}"),
                (eye & (scale > 0) & (scale <= 1 + 1e-12), "a start at a multiple, in (0, 1], of the identity"),
                _balanced(facts),
                (facts.dynamics == "flow", DISCRETE),
            ],
        )

    def verdicts(self, facts: Facts, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        if failing is None and not set(self.columns) <= set(trace):
            failing = "columns entry/... and determinant/sign"
        if failing is not None:
            return {self.name: not_applicable(failing)}
        trace, note = until(facts, trace)
        w_11, w_12, w_21, w_22, sign = (trace[name] for name in self.columns)
        symmetric = np.abs(w_12 - w_21) <= ROUNDING * np.maximum(1, np.abs(w_12))
        definite = symmetric & (sign > 0) & (w_11 + w_22 > 0)
        found: dict[str, Any] = {"verdict": HOLDS if definite.all() else VIOLATED, "loss": float(trace["loss"][-1])}
        if not definite.all():
            found["iteration"] = int(trace["iteration"][definite.argmin()])
        return {self.name: found | note}


class Conservation(Certificate):
    """Flow conserves W_{l+1}^T W_{l+1} - W_l W_l^T: their drift stays below `tolerance`, as the integration must."""

    name = "conservation"

    def __init__(self, tolerance: float = 1e-9) -> None:
        if not tolerance > 0:
            raise ValueError(f"tolerance: {tolerance} is not allowed; expected a number above 0")
        self.tolerance = tolerance

    def bounds(self, facts: Facts, trace: Trace) -> list[Bound]:
        return []

    def failing(self, facts: Facts) -> list[str | None]:
        return first_failing(
            facts.runs,
            [(facts.depth >= 2, f"a depth of at least 2, not {facts.depth}"), (facts.dynamics == "flow", DISCRETE)],
        )

    def verdicts(self, facts: Facts, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        if "balance/drift" not in trace:
            return {self.name: not_applicable(failing or "its column (balance/drift) is not measured")}
        bound = Bound("balance/drift", np.full(len(trace["loss"]), self.tolerance), lower=False)
        return {self.name: verdict(bound, trace, failing)}
