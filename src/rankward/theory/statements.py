"""The paper's statements about runs, as certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from rankward.theory import bounds
from rankward.theory.certificates import (
    BALANCED,
    HOLDS,
    SLACK,
    VIOLATED,
    Bound,
    Certificate,
    RunContext,
    Trace,
    first_failing,
    not_applicable,
    says_nothing,
    verdict,
)
from rankward.theory.determinants import protected, reliable
from rankward.theory.regression import fitted_slope

NORMS: Mapping[str, float] = {"norm/nuclear": 1, "norm/frobenius": 2, "norm/spectral": np.inf}
SCHATTEN = "norm/schatten_"
ROUNDINGS = 16.0  # rounding errors of an entry that the margin of the sharp bound may take
DISCRETE = "gradient flow (lr=flow): this run takes discrete steps"
CHAIN = "a matrix factorization: the product of its factors"
BALANCED_START = f"a balanced start (Equation 5 to {BALANCED:g} of the largest squared factor)"


def schatten_columns(trace: Trace) -> dict[str, float]:
    """The trace's Schatten (quasi-)norms and their p."""
    asked = {name: float(name.removeprefix(SCHATTEN)) for name in trace if name.startswith(SCHATTEN)}
    return {name: p for name, p in {**NORMS, **asked}.items() if name in trace}


def solves_equation_6(facts: RunContext) -> np.ndarray:
    """[runs] whether the observations are those of Equation 6."""
    return facts.entry_bounds.is_appendix_e & (facts.dims == (2, 2))


def _premises_of_theorem_1(facts: RunContext) -> list[tuple[np.ndarray | bool, str]]:
    return [
        (solves_equation_6(facts), "the observations of Equation 6"),
        (facts.chain, CHAIN),
        (facts.depth >= 2, f"a depth of at least 2, not {facts.depth}"),
        (facts.determinant > 0, "a positive determinant at the start"),
        (facts.balanced, BALANCED_START),
        (facts.dynamics == "flow", DISCRETE),
    ]


def _slack(facts: RunContext, limit: np.ndarray | float) -> np.ndarray:
    """The relative error that rounding leaves in |W_11| compared with its sharp bound.

    An entry of size |W_11| has a rounding error of about `rounding` |W_11|, which is a share of `rounding` |W_11|^2 of
    the residual W_22 ~ 1 / |W_11|.
    """
    return np.asarray(np.fmax(SLACK, ROUNDINGS * facts.rounding * np.square(limit)))


class _UnderTheorem1(Certificate):
    """A statement under Theorem 1's premises, judged in the rows in which balance protects the determinant's sign."""

    def failing(self, facts: RunContext) -> list[str | None]:
        return first_failing(facts.runs, _premises_of_theorem_1(facts))

    def verdicts(self, facts: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        sign = protected(facts, trace, 1.0)
        if failing is None and sign.violated is not None:
            return {self.name: _sign_changed(trace, sign.violated)}
        kept = {name: column[: sign.rows] for name, column in trace.items()}
        return {name: found | sign.note for name, found in self.judged(facts, kept, failing).items()}

    def judged(self, facts: RunContext, trace: Trace, failing: str | None) -> dict[str, dict[str, Any]]:
        """The verdicts from the rows that are kept."""
        return super().verdicts(facts, trace)


def _sign_changed(trace: Trace, row: int) -> dict[str, Any]:
    reason = "the determinant's sign has changed where balance protects it"
    return {"verdict": VIOLATED, "iteration": int(trace["iteration"][row]), "margin": float("nan"), "reason": reason}


class Theorem1(_UnderTheorem1):
    """All norms grow, the rank falls: Equations 8 (every Schatten norm measured), 9 and 10.

    A row counts where the bound excludes something: a norm bound above the norm of (1 - sqrt(loss)) [[0, 1], [1, 0]],
    which has the same loss, a bound below 2 on the effective rank, a distance bound below 1 + sqrt(loss). Nuclear,
    Frobenius and spectral norm bounds exclude something below losses of 5.1e-3, 5.7e-3 and 6.2e-3, that of the
    Schatten-1/2 quasi-norm (positive below 1.2e-4) below 9.6e-5, the rank bounds below 1e-2 and 9.5e-2.
    """

    name = "theorem_1"

    def bounds(self, facts: RunContext, trace: Trace) -> list[Bound]:
        if facts.dims != (2, 2):
            return []
        loss = np.where(solves_equation_6(facts)[trace["run"]], trace["loss"], np.nan)
        found = [
            Bound(name, bounds.norm_bound(loss, p), lower=True, trivial=bounds.least_norm(loss, p))
            for name, p in schatten_columns(trace).items()
        ]
        if "rank/effective" in trace:
            found.append(Bound("rank/effective", bounds.effective_rank_bound(loss), lower=False, trivial=2.0))
        if "rank/distance_to_infimal" in trace:
            trivial = 1 + np.sqrt(loss)
            found.append(Bound("rank/distance_to_infimal", bounds.distance_bound(loss), lower=False, trivial=trivial))
        return found


class Corollary1(_UnderTheorem1):
    """Norms go to infinity and the rank to its infimum as the loss goes to zero: growth that the run had to show.

    A limit says nothing of a finite run by itself: a norm that is large from the start may stay there for long. The
    run had to show growth where a norm (or |W_11|) was somewhere below what its last loss forces: Equation 8, or the
    sharp bound on |W_11|, which no norm is below. In the same way the rank had to fall where it was above Equation 9 or
    10 of the last loss. `violated` where it did not. `holds` where it did, and a line fit to the logarithms over the
    last decade of the loss goes the right way by three standard errors: `slope` against ln loss, `standard_error`.
    """

    name = "corollary_1"
    rows = 5  # at least, for a fit
    lowest = 1e-2  # the last loss must be below

    def bounds(self, facts: RunContext, trace: Trace) -> list[Bound]:
        return []

    def judged(self, facts: RunContext, trace: Trace, failing: str | None) -> dict[str, dict[str, Any]]:
        if not solves_equation_6(facts)[0]:
            return {self.name: not_applicable(failing or "")}
        loss, found = trace["loss"], {}
        entry = bounds.robustness_bound(loss)
        limits = {"entry/0_0": entry} | {
            name: np.fmax(bounds.norm_bound(loss, p), entry) for name, p in schatten_columns(trace).items()
        }
        for name, limit in limits.items():
            if name in trace:
                found[name] = self._trend(facts, loss, np.abs(trace[name]), limit, -1)
        if "rank/effective" in trace:
            excess = bounds.effective_rank_bound(loss) - 1
            found["rank/effective"] = self._trend(facts, loss, trace["rank/effective"] - 1, excess, 1)
        if "rank/distance_to_infimal" in trace:
            distance = bounds.distance_bound(loss)
            found["rank/distance_to_infimal"] = self._trend(facts, loss, trace["rank/distance_to_infimal"], distance, 1)
        return {
            f"{self.name}/{name}": each if failing is None else not_applicable(failing, each)
            for name, each in found.items()
        }

    def _trend(
        self, facts: RunContext, loss: np.ndarray, value: np.ndarray, limit: np.ndarray, sense: int
    ) -> dict[str, Any]:
        """The verdict on values that must grow (`sense` -1) or fall (1) with the loss, bounded by `limit`."""
        usable = np.isfinite(loss) & np.isfinite(value) & (loss > 0) & (value > 0)
        if not usable.any() or not loss[usable][-1] <= self.lowest:
            return says_nothing(f"the loss has not come below {self.lowest:g}")
        loss, value, forced = loss[usable], value[usable], float(limit[usable][-1])
        last = loss <= 10 * loss[-1]
        if last.sum() < self.rows:
            return says_nothing(f"fewer than {self.rows} rows in the last decade of the loss")
        slope, error = fitted_slope(np.log(loss[last]), np.log(value[last]))
        fit = {"slope": slope, "standard_error": error}
        wrong = sense * value > sense * forced * (1 + sense * _slack(facts, forced))
        if not wrong.any():
            word = "below" if sense < 0 else "above"
            return says_nothing(f"no value was {word} what the last loss forces", fit)
        if wrong[-1]:
            return {"verdict": VIOLATED, **fit}
        if not sense * slope > 3 * error:
            return says_nothing("the fitted slope is within three standard errors of zero, or on its wrong side", fit)
        return {"verdict": HOLDS, **fit}


class Theorem2(Certificate):
    """The unobserved entry's lower bound where the determinant has the sign that forces it: any b, any position.

    It is arithmetic, so it holds row by row, of descent as well: rows with that sign are judged. Flow from a balanced
    start keeps the sign; `until` is the iteration up to which the run's balance protects it. The bound is sharp for 2x2
    problems; of larger square matrices it covers Appendix E's problem, where it is not. `limit` is the bound at loss 0:
    infinity where b_22 = 0.
    """

    name = "theorem_2"

    def bounds(self, facts: RunContext, trace: Trace) -> list[Bound]:
        entry = facts.entry_bounds
        if not entry.is_square or "determinant/sign" not in trace:
            return []
        run = trace["run"]
        limit = entry.at(trace["loss"], run)
        forced = (trace["determinant/sign"] == entry.sign[run]) & reliable(facts, trace)
        slack = _slack(facts, limit)
        found = []
        for row, col in np.unique(entry.unobserved[entry.unobserved[:, 0] >= 0], axis=0):
            name = f"entry/{row}_{col}"
            if name in trace:
                bounded = forced & (entry.unobserved[run] == (row, col)).all(1)
                found.append(Bound(name, np.where(bounded, limit, np.nan), lower=True, trivial=0.0, slack=slack))
        return found

    def failing(self, facts: RunContext) -> list[str | None]:
        entry = facts.entry_bounds
        size = "x".join(map(str, facts.dims))
        premises: list[tuple[Any, str]] = [
            (entry.is_square, f"a square matrix: a {size} one has no determinant"),
            (entry.unobserved[:, 0] >= 0, "observations that leave just one entry unobserved"),
        ]
        if facts.dims == (2, 2):
            premises.append((entry.values[:, :2].all(1), "values other than 0 for b_12 and b_21"))
        elif entry.is_square:
            premises.append((entry.is_appendix_e, "the observations of Appendix E"))
        if entry.is_square:
            premises.append(
                (np.asarray(facts.determinant == entry.sign), "a determinant that starts with sign(b_12 b_21)")
            )
        return first_failing(facts.runs, premises)

    def verdicts(self, facts: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        failing, note = self.failing(facts)[0], {}
        if failing is None and "determinant/sign" in trace:
            wanted = facts.entry_bounds.sign[0]
            if facts.dynamics == "flow" and facts.chain and facts.balanced[0]:
                sign = protected(facts, trace, wanted)
                if sign.violated is not None:
                    return {self.name: _sign_changed(trace, sign.violated)}
                note = sign.note
            else:
                lost = np.flatnonzero(trace["determinant/sign"] != wanted)
                if len(lost):
                    failing = f"a determinant that keeps its sign: lost at iteration {int(trace['iteration'][lost[0]])}"
        parts = {}
        for bound in self.bounds(facts, trace):
            magnitude = {**trace, bound.column: np.abs(trace[bound.column])}
            parts[f"{self.name}/{bound.column}"] = verdict(bound, magnitude, failing) | self._limit(facts) | note
        return parts or {self.name: not_applicable(failing or "its columns (entry, determinant/sign) are not measured")}

    def _limit(self, facts: RunContext) -> dict[str, float]:
        values = facts.entry_bounds.values[0] if facts.dims == (2, 2) else np.array([1.0, 1.0, 0.0])
        return {"limit": float(bounds.robustness_bound(0.0, *values))}


class Proposition4(Certificate):
    """Depth 2 from a multiple of the identity: the loss goes to zero, and the product stays positive definite.

    `holds` where the loss never rises and comes below 0.1, and every row's product is symmetric and positive definite.
    `loss` is the last one that is judged: the determinant falls like exp(-W_11^2 / 2), and the layers' rounding may
    turn its sign at |W_11| about 10. `rankward propositions` follows the determinant's logarithm to a loss of 1e-10.
    """

    name = "proposition_4"
    columns = ("entry/0_0", "entry/0_1", "entry/1_0", "entry/1_1", "determinant/sign")
    lowest = 0.1

    def bounds(self, facts: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing(self, facts: RunContext) -> list[str | None]:
        scale = facts.product[:, 0, 0] if len(facts.dims) == 2 else np.zeros(facts.runs)
        eye = len(facts.dims) == 2 and np.isclose(
            facts.product, scale[:, None, None] * np.eye(*facts.dims), rtol=1e-12, atol=0
        ).all((1, 2))
        return first_failing(
            facts.runs,
            [
                (solves_equation_6(facts), "the observations of Equation 6"),
                (facts.chain, CHAIN),
                (facts.depth == 2, f"depth 2, not {facts.depth}"),
                (eye & (scale > 0) & (scale <= 1 + 1e-12), "a start at a multiple, in (0, 1], of the identity"),
                (facts.balanced, BALANCED_START),
                (facts.dynamics == "flow", DISCRETE),
            ],
        )

    def verdicts(self, facts: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        if failing is None and not set(self.columns) <= set(trace):
            failing = "columns entry/... and determinant/sign"
        if failing is not None:
            return {self.name: not_applicable(failing)}
        sign = protected(facts, trace, 1.0)
        if sign.violated is not None:
            return {self.name: _sign_changed(trace, sign.violated)}
        kept = {name: column[: sign.rows] for name, column in trace.items()}
        if not sign.rows:
            return {self.name: says_nothing("no row is judged", sign.note)}
        w_11, w_12, w_21, w_22, positive = (kept[name] for name in self.columns)
        symmetric = np.abs(w_12 - w_21) <= SLACK * np.maximum(1, np.abs(w_12))
        definite = symmetric & (positive > 0) & (w_11 + w_22 > 0)
        loss = kept["loss"]
        falling = np.append(True, loss[1:] <= loss[:-1] * (1 + SLACK))
        right = definite & falling
        found: dict[str, Any] = {"loss": float(loss[-1]), **sign.note}
        if not right.all():
            at = int(right.argmin())
            reason = "the product is not symmetric and positive definite" if falling[at] else "the loss rises"
            return {
                self.name: {"verdict": VIOLATED, "iteration": int(kept["iteration"][at]), "reason": reason, **found}
            }
        if not loss[-1] <= self.lowest:
            return {self.name: says_nothing(f"the loss has not come below {self.lowest:g} in the rows judged", found)}
        return {self.name: {"verdict": HOLDS, **found}}


class Conservation(Certificate):
    """Flow conserves W_{l+1}^T W_{l+1} - W_l W_l^T: their drift stays below a tolerance, as the integration must.

    Args:
        tolerance: of `balance/drift`; None for one that follows the run's own: ten times a step's relative tolerance,
            and the rounding of all steps so far (machine epsilon times 100 + 10 sqrt(steps)). A tolerance of 1 or
            more asks nothing.

    Raises:
        ValueError: a tolerance that is not above 0.
    """

    name = "conservation"

    def __init__(self, tolerance: float | None = None) -> None:
        if tolerance is not None and not tolerance > 0:
            raise ValueError(f"tolerance: {tolerance} is not allowed; expected a number above 0, or null")
        self.tolerance = tolerance

    def bounds(self, facts: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing(self, facts: RunContext) -> list[str | None]:
        return first_failing(
            facts.runs,
            [(facts.depth >= 2, f"a depth of at least 2, not {facts.depth}"), (facts.dynamics == "flow", DISCRETE)],
        )

    def verdicts(self, facts: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        failing = self.failing(facts)[0]
        if "balance/drift" not in trace:
            return {self.name: not_applicable(failing or "its column (balance/drift) is not measured")}
        steps = trace["iteration"].astype(np.float64)
        limit = 10 * facts.tolerance[0] + np.finfo(np.float64).eps * (100 + 10 * np.sqrt(steps))
        if self.tolerance is not None:
            limit = np.full(len(steps), self.tolerance)
        limit = np.where(limit < 1, limit, np.nan)  # a drift of the size of the factors themselves: nothing is asked
        bound = Bound("balance/drift", limit, lower=False, slack=0.0)
        found = verdict(bound, trace, failing)
        return {self.name: found | {"tolerance": float(limit[-1])} if len(limit) else found}
