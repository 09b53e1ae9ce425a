"""The paper's statements about runs, as certificates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float

from rankward.theory import bounds
from rankward.theory.certificates import (
    BALANCED,
    HOLDS,
    SLACK,
    SQUARED_LOSS,
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
DEPTH_SCHATTEN, PARAMETERS = SCHATTEN + "2_over_L", "norm/parameters"
ENTRY_ROUNDINGS = 16.0  # rounding errors of an entry that the sharp bound's slack covers
RANKS = ("rank/effective", "rank/distance_to_infimal")
AT_LIMIT = 1e-14  # a rank so near its infimum has come there: rounding of singular values decides the rest
DISCRETE = "gradient flow (lr=flow): this run takes discrete steps"
DECAYING = "no weight decay"
CHAIN = "a matrix factorization: the product of its factors"
BALANCED_START = f"a balanced start (Equation 5 to {BALANCED:g} of the largest squared factor)"


def schatten_columns(trace: Trace) -> dict[str, float]:
    """The columns of Schatten (quasi-)norms in a trace, and their p."""
    named = [name for name in trace if name.startswith(SCHATTEN) and name != DEPTH_SCHATTEN]
    configured = {name: float(name.removeprefix(SCHATTEN)) for name in named}
    return {name: p for name, p in {**NORMS, **configured}.items() if name in trace}


def solves_equation_6(context: RunContext) -> np.ndarray:
    """[runs] whether the observations are those of Equation 6."""
    return context.entry_bounds.is_appendix_e & (context.dims == (2, 2))


def _premises_of_theorem_1(context: RunContext) -> list[tuple[np.ndarray | bool, str]]:
    return [
        (context.squared, SQUARED_LOSS),
        (solves_equation_6(context), "the observations of Equation 6"),
        (context.chain, CHAIN),
        (context.depth >= 2, f"a depth of at least 2, not {context.depth}"),
        (context.determinant > 0, "a positive determinant at the start"),
        (context.balanced, BALANCED_START),
        (context.is_flow, DISCRETE),
        (context.decay is None, DECAYING),
    ]


def _slack(context: RunContext, limit: np.ndarray | float) -> np.ndarray:
    """The relative error that rounding leaves in |W_11| compared with its sharp bound.

    An entry of size |W_11| has a rounding error of about `rounding` |W_11|, which is a share of `rounding` |W_11|^2 of
    the residual W_22 ~ 1 / |W_11|.
    """
    return np.asarray(np.fmax(SLACK, ENTRY_ROUNDINGS * context.rounding * np.square(limit)))


class _UnderTheorem1(Certificate):
    """A statement under the premises of Theorem 1, for the rows in which balance protects the determinant's sign."""

    def failing_premises(self, context: RunContext) -> list[str | None]:
        return first_failing(context.runs, _premises_of_theorem_1(context))

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise = self.failing_premises(context)[0]
        sign = protected(context, trace, 1.0)
        if premise is None and sign.violated is not None:
            return {self.name: _sign_changed(trace, sign.violated)}
        rows = {name: column[: sign.rows] for name, column in trace.items()}
        return {name: found | sign.note for name, found in self.verdicts_of_rows(context, rows, premise).items()}

    def verdicts_of_rows(self, context: RunContext, trace: Trace, premise: str | None) -> dict[str, dict[str, Any]]:
        """The verdicts from these rows."""
        return super().verdicts(context, trace)


def _sign_changed(trace: Trace, row: int) -> dict[str, Any]:
    reason = "the determinant's sign has changed where balance protects it"
    return {"verdict": VIOLATED, "iteration": int(trace["iteration"][row]), "margin": float("nan"), "reason": reason}


class Theorem1(_UnderTheorem1):
    """Norms grow and the rank falls: Equations 8 (for every Schatten norm that is measured), 9 and 10.

    A row counts if the bound excludes something: a norm bound above the norm of (1 - sqrt(loss)) [[0, 1], [1, 0]],
    which has the same loss, a bound below 2 on the effective rank, a distance bound below 1 + sqrt(loss). Nuclear,
    Frobenius and spectral norm bounds exclude something below losses of 5.1e-3, 5.7e-3 and 6.2e-3, that of the
    Schatten-1/2 quasi-norm (positive below 1.2e-4) below 9.6e-5, the rank bounds below 1e-2 and 9.5e-2.
    """

    name = "theorem_1"

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        if context.dims != (2, 2):
            return []
        loss = np.where(solves_equation_6(context)[trace["run"]], trace["loss"], np.nan)
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
    """Norms go to infinity and the rank to its infimum as the loss goes to zero.

    A limit alone says nothing about a finite run: a norm that is large from the start may stay there. A norm (or
    |W_11|) had to grow if it was somewhere below its bound at the last loss: Equation 8, or the sharp bound on |W_11|,
    which bounds every norm. In the same way the rank had to fall if it was above Equation 9 or 10 at the last loss. The
    verdict is `violated` if it did not. It is `holds` if it did and a line fitted to the logarithms over the last
    decade of the loss has the right sign by three standard errors: `slope` against ln loss, `standard_error`. A rank
    that has fallen to its infimum up to rounding (`AT_LIMIT`) holds without a slope: `at_limit_below` is the last loss
    at which it was farther away. Of flow in singular coordinates the smaller singular value is read from these, far
    below the product's rounding.
    """

    name = "corollary_1"
    min_rows = 5  # for a fit
    max_last_loss = 1e-2

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def verdicts_of_rows(self, context: RunContext, trace: Trace, premise: str | None) -> dict[str, dict[str, Any]]:
        if not solves_equation_6(context)[0]:
            return {self.name: not_applicable(premise or "")}
        loss, found = trace["loss"], {}
        entry = bounds.robustness_bound(loss)
        limits = {"entry/0_0": entry} | {
            name: np.fmax(bounds.norm_bound(loss, p), entry) for name, p in schatten_columns(trace).items()
        }
        for name, limit in limits.items():
            if name in trace:
                found[name] = self._trend(context, loss, np.abs(trace[name]), limit, -1)
        logs = _log_ranks(context, trace)
        falling = {"rank/effective": bounds.effective_rank_bound(loss) - 1}
        falling["rank/distance_to_infimal"] = bounds.distance_bound(loss)
        for name, limit in falling.items():
            if name in trace:
                value = trace[name] - 1 if name == "rank/effective" else trace[name]
                found[name] = self._trend(context, loss, value, limit, 1, logs.get(name))
        return {
            f"{self.name}/{name}": result if premise is None else not_applicable(premise, result)
            for name, result in found.items()
        }

    def _trend(
        self,
        context: RunContext,
        loss: np.ndarray,
        value: np.ndarray,
        limit: np.ndarray,
        sense: int,
        logs: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """The verdict on values that must grow (`sense` -1) or fall (1) as the loss falls, bounded by `limit`.

        `logs` are the values' logarithms where they are known more exactly than the values, which they then replace.
        """
        value = value if logs is None else np.exp(logs)
        measured = np.isfinite(loss) & np.isfinite(value) & (loss > 0)
        if not measured.any() or not loss[measured][-1] <= self.max_last_loss:
            return says_nothing(f"the loss has not come below {self.max_last_loss:g}")
        loss, value, limit = loss[measured], value[measured], limit[measured]
        if logs is None and sense > 0 and not value[-1] > AT_LIMIT:
            forced, away = float(limit[-1]), np.flatnonzero(value > AT_LIMIT)
            if not (value > forced * (1 + _slack(context, forced))).any():
                return says_nothing("no value was above what the last loss forces")
            return {"verdict": HOLDS, "at_limit_below": float(loss[away[-1]])}
        with np.errstate(divide="ignore", invalid="ignore"):
            logs = np.log(value) if logs is None else logs[measured]
        usable = np.isfinite(logs)
        if not usable.any() or not loss[usable][-1] <= self.max_last_loss:
            return says_nothing(f"below a loss of {self.max_last_loss:g} it is at its limit up to rounding")
        loss, value, logs, forced = loss[usable], value[usable], logs[usable], float(limit[usable][-1])
        last = loss <= 10 * loss[-1]
        if last.sum() < self.min_rows:
            return says_nothing(f"fewer than {self.min_rows} rows in the last decade of the loss")
        slope, error = fitted_slope(np.log(loss[last]), logs[last])
        fit = {"slope": slope, "standard_error": error}
        wrong = sense * value > sense * forced * (1 + sense * _slack(context, forced))
        if not wrong.any():
            word = "below" if sense < 0 else "above"
            return says_nothing(f"no value was {word} what the last loss forces", fit)
        if wrong[-1]:
            return {"verdict": VIOLATED, **fit}
        if not sense * slope > 3 * error:
            return says_nothing("the fitted slope is within three standard errors of zero, or on its wrong side", fit)
        return {"verdict": HOLDS, **fit}


def _log_ranks(context: RunContext, trace: Trace) -> dict[str, np.ndarray]:
    """Logarithms of the effective rank - 1 and of the distance from rank 1, of 2x2 products in singular coordinates.

    The product's entries do not have its smaller singular value once it is below rounding; the coordinates have its
    logarithm, that of the determinant less that of the larger one. With t = ln sigma_2 - ln sigma_1 the entropy is
    ln(1 + e^t) - t e^t / (1 + e^t), which is e^t (1 - t) for very small e^t.
    """
    if not context.spectral or not {"determinant/log_abs", "norm/spectral"} <= set(trace):
        return {}
    with np.errstate(divide="ignore", invalid="ignore"):
        largest = np.log(trace["norm/spectral"])
        smallest = trace["determinant/log_abs"] - largest
        t = np.minimum(smallest - largest, 0.0)
        ratio = np.exp(t)
        shares = np.where(ratio > 0, np.log1p(ratio) / ratio, 1.0) - t / (1 + ratio)  # the entropy over e^t
        entropy = ratio * shares
        excess = np.where(entropy > 0, np.expm1(entropy) / entropy, 1.0)
        return {"rank/effective": t + np.log(shares) + np.log(excess), "rank/distance_to_infimal": smallest}


class Theorem2(Certificate):
    """The lower bound on the unobserved entry while the determinant has the right sign: any b, any position.

    The bound holds in every row with that sign, of descent too; other rows are not judged. Flow from a balanced start
    keeps the sign; `until` is the iteration up to which the balance of the run protects it. The bound is sharp for 2x2
    problems, and not for the larger square matrices of Appendix E. `limit` is the bound at loss 0: infinity for
    b_22 = 0. 2x2 products have upper bounds on both ranks as well, whose constants are ours.
    """

    name = "theorem_2"

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        entry = context.entry_bounds
        if not entry.is_square or "determinant/sign" not in trace:
            return []
        run = trace["run"]
        limit = entry.at(trace["loss"], run)
        forced = (trace["determinant/sign"] == entry.sign[run]) & reliable(context, trace)
        slack = _slack(context, limit)
        found = []
        for row, col in np.unique(entry.unobserved[entry.unobserved[:, 0] >= 0], axis=0):
            name = f"entry/{row}_{col}"
            if name in trace:
                bounded = forced & (entry.unobserved[run] == (row, col)).all(1)
                found.append(Bound(name, np.where(bounded, limit, np.nan), lower=True, trivial=0.0, slack=slack))
        return found

    def rank_bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        """Bounds on the ranks of 2x2 products of one run. The trace has Theorem 1's in columns of these names."""
        if context.dims != (2, 2) or context.entry_bounds.unobserved[0, 0] < 0 or "determinant/sign" not in trace:
            return []
        values = context.entry_bounds.values[0]
        forced = (trace["determinant/sign"] == context.entry_bounds.sign[0]) & reliable(context, trace)
        limits = (
            bounds.robustness_effective_rank_bound(trace["loss"], *values),
            bounds.robustness_distance_bound(trace["loss"], *values),
        )
        return [
            Bound(name, np.where(forced, limit, np.nan), lower=False, trivial=trivial)
            for name, limit, trivial in zip(RANKS, limits, bounds.unforced_ranks(trace["loss"], *values), strict=True)
            if name in trace
        ]

    def failing_premises(self, context: RunContext) -> list[str | None]:
        entry = context.entry_bounds
        size = "x".join(map(str, context.dims))
        premises: list[tuple[Any, str]] = [
            (context.squared, SQUARED_LOSS),
            (entry.is_square, f"a square matrix: a {size} one has no determinant"),
            (entry.unobserved[:, 0] >= 0, "observations that leave just one entry unobserved"),
        ]
        if context.dims == (2, 2):
            premises.append((entry.values[:, :2].all(1), "values other than 0 for b_12 and b_21"))
        elif entry.is_square:
            premises.append((entry.is_appendix_e, "the observations of Appendix E"))
        if entry.is_square:
            premises.append(
                (np.asarray(context.determinant == entry.sign), "a determinant that starts with sign(b_12 b_21)")
            )
        return first_failing(context.runs, premises)

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise, note = self.failing_premises(context)[0], {}
        if premise is None and "determinant/sign" in trace:
            initial_sign = context.entry_bounds.sign[0]
            if context.dynamics == "flow" and context.chain and context.balanced[0]:
                sign = protected(context, trace, initial_sign)
                if sign.violated is not None:
                    return {self.name: _sign_changed(trace, sign.violated)}
                note = sign.note
            else:
                lost = np.flatnonzero(trace["determinant/sign"] != initial_sign)
                if len(lost):
                    premise = f"a determinant that keeps its sign: lost at iteration {int(trace['iteration'][lost[0]])}"
        parts = {
            f"{self.name}/{bound.column}": verdict(bound, trace, premise) | note
            for bound in self.rank_bounds(context, trace)
        }
        for bound in self.bounds(context, trace):
            magnitude = {**trace, bound.column: np.abs(trace[bound.column])}
            parts[f"{self.name}/{bound.column}"] = verdict(bound, magnitude, premise) | self._limit(context) | note
        return parts or {self.name: not_applicable(premise or "its columns (entry, determinant/sign) are not measured")}

    def _limit(self, context: RunContext) -> dict[str, float]:
        values = context.entry_bounds.values[0] if context.dims == (2, 2) else np.array([1.0, 1.0, 0.0])
        return {"limit": float(bounds.robustness_bound(0.0, *values))}


class Proposition4(Certificate):
    """Depth 2 from a multiple of the identity: the loss goes to zero, and the product stays positive definite.

    The verdict is `holds` if the loss never rises and falls below 0.1, and the product of every row is symmetric and
    positive definite. `loss` is the last loss that is judged: the determinant falls like exp(-W_11^2 / 2), and rounding
    in the layers may change its sign at |W_11| about 10. `rankward propositions` follows the logarithm of the
    determinant to a loss of 1e-10.
    """

    name = "proposition_4"
    columns = ("entry/0_0", "entry/0_1", "entry/1_0", "entry/1_1", "determinant/sign")
    max_last_loss = 0.1

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing_premises(self, context: RunContext) -> list[str | None]:
        scale = context.product[:, 0, 0] if len(context.dims) == 2 else np.zeros(context.runs)
        identity = len(context.dims) == 2 and np.isclose(
            context.product, scale[:, None, None] * np.eye(*context.dims), rtol=1e-12, atol=0
        ).all((1, 2))
        return first_failing(
            context.runs,
            [
                (context.squared, SQUARED_LOSS),
                (solves_equation_6(context), "the observations of Equation 6"),
                (context.chain, CHAIN),
                (context.depth == 2, f"depth 2, not {context.depth}"),
                (identity & (scale > 0) & (scale <= 1 + 1e-12), "a start at a multiple, in (0, 1], of the identity"),
                (context.balanced, BALANCED_START),
                (context.is_flow, DISCRETE),
                (context.decay is None, DECAYING),
            ],
        )

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise = self.failing_premises(context)[0]
        if premise is None and not set(self.columns) <= set(trace):
            premise = "columns entry/... and determinant/sign"
        if premise is not None:
            return {self.name: not_applicable(premise)}
        sign = protected(context, trace, 1.0)
        if sign.violated is not None:
            return {self.name: _sign_changed(trace, sign.violated)}
        rows = {name: column[: sign.rows] for name, column in trace.items()}
        if not sign.rows:
            return {self.name: says_nothing("no row is judged", sign.note)}
        w_11, w_12, w_21, w_22, positive = (rows[name] for name in self.columns)
        symmetric = np.abs(w_12 - w_21) <= SLACK * np.maximum(1, np.abs(w_12))
        definite = symmetric & (positive > 0) & (w_11 + w_22 > 0)
        loss = rows["loss"]
        falling = np.append(True, loss[1:] <= loss[:-1] * (1 + SLACK))
        valid = definite & falling
        found: dict[str, Any] = {"loss": float(loss[-1]), **sign.note}
        if not valid.all():
            at = int(valid.argmin())
            reason = "the product is not symmetric and positive definite" if falling[at] else "the loss rises"
            return {
                self.name: {"verdict": VIOLATED, "iteration": int(rows["iteration"][at]), "reason": reason, **found}
            }
        if not loss[-1] <= self.max_last_loss:
            return {
                self.name: says_nothing(f"the loss has not come below {self.max_last_loss:g} in the rows judged", found)
            }
        return {self.name: {"verdict": HOLDS, **found}}


def check_tolerance(tolerance: float | None) -> None:
    """Refuse, by a ValueError, a tolerance of a certificate that is neither None nor above 0."""
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance: {tolerance} is not allowed; expected a number above 0, or null")


def integration_error(context: RunContext, trace: Trace, tolerance: float | None) -> Float[np.ndarray, " rows"]:
    """The error that each row of a run's flow may have, relative: the tolerance, if one is given.

    Else ten times the relative tolerance of a step plus the rounding of all steps so far (machine epsilon times
    100 + 10 sqrt(steps)).
    """
    steps = np.asarray(trace["iteration"], dtype=np.float64)
    if tolerance is not None:
        return np.full(len(steps), tolerance)
    return np.asarray(10 * context.tolerance[0] + np.finfo(np.float64).eps * (100 + 10 * np.sqrt(steps)))


class Conservation(Certificate):
    """Flow conserves W_{l+1}^T W_{l+1} - W_l W_l^T: the drift from numerical integration stays below a tolerance.

    With weight decay it makes these differences e^(-2 decay time) times as large as at the start, and the drift is the
    distance from that.

    Args:
        tolerance: of `balance/drift`. None: ten times the relative tolerance of a step plus the rounding of all steps
            so far (machine epsilon times 100 + 10 sqrt(steps)). A tolerance of 1 or more is no bound.

    Raises:
        ValueError: the tolerance is not above 0.
    """

    name = "conservation"

    def __init__(self, tolerance: float | None = None) -> None:
        check_tolerance(tolerance)
        self.tolerance = tolerance

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        return []

    def failing_premises(self, context: RunContext) -> list[str | None]:
        return first_failing(
            context.runs,
            [
                (context.depth >= 2, f"a depth of at least 2, not {context.depth}"),
                (context.is_flow, DISCRETE),
            ],
        )

    def verdicts(self, context: RunContext, trace: Trace) -> dict[str, dict[str, Any]]:
        premise = self.failing_premises(context)[0]
        if "balance/drift" not in trace:
            return {self.name: not_applicable(premise or "its column (balance/drift) is not measured")}
        limit = integration_error(context, trace, self.tolerance)
        limit = np.where(limit < 1, limit, np.nan)  # a drift as large as the factors is no bound
        bound = Bound("balance/drift", limit, lower=False, slack=0.0)
        found = verdict(bound, trace, premise)
        return {self.name: found | {"tolerance": float(limit[-1])} if len(limit) else found}


class LeastParameters(Certificate):
    """Factors are at least as large as their product demands: |theta|^2 >= L sum_r sigma_r^(2/L).

    |theta|, the root of the sum of squares of all entries of the L factors, is `norm/parameters`; the sum is that of
    `norm/schatten_2_over_L`. Balanced factors (Equation 5) attain the bound: then the margin is 0 up to rounding. It
    holds for any factors of any sizes, whatever the dynamics: sum_r sigma_r(W_L ... W_1)^p is at most sum_r of the
    products of sigma_r(W_l)^p (Horn), and with p = 2/L each product is at most the mean of the sigma_r(W_l)^2. So it
    tests the numbers of a run; its margin is the price of imbalance.

    Source: Horn, "On the singular values of a product of completely continuous operators" (1950).
    """

    name = "least_parameters"

    def bounds(self, context: RunContext, trace: Trace) -> list[Bound]:
        if not (context.chain and {DEPTH_SCHATTEN, PARAMETERS} <= set(trace)):
            return []
        depth = context.depth
        limit = np.sqrt(depth) * trace[DEPTH_SCHATTEN] ** (1 / depth)
        # The product's rounding error, relative to sigma_1, adds its power 2/L to every term of the sum.
        error = 16 * depth * max(context.dims) * np.finfo(np.float64).eps
        slack = max(SLACK, min(context.dims) * error ** min(1.0, 2 / depth))
        return [Bound(PARAMETERS, limit, lower=True, slack=slack)]

    def failing_premises(self, context: RunContext) -> list[str | None]:
        return first_failing(context.runs, [(context.chain, CHAIN)])
