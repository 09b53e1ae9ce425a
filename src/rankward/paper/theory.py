"""The paper's propositions, theorems and corollary: Sections 3.1 to 3.4."""

from __future__ import annotations

from typing import Any

import polars as pl

from rankward import results
from rankward.config.schema import MATRICES
from rankward.paper.claim import HOLDS, PART, VIOLATED, Claim, Evidence, Trial, number, span
from rankward.paper.steps import PROPOSITIONS
from rankward.theory import robustness_bound

STOP = MATRICES.stop_loss


def _proposition(which: str) -> Trial:
    def trial(evidence: Evidence) -> dict[str, Any]:
        findings = [finding for finding in evidence.stored(PROPOSITIONS) if finding["statement"] == which]
        return {
            "verdict": HOLDS if findings and all(finding["holds"] for finding in findings) else VIOLATED,
            "header": ("tried", "found", "verdict"),
            "rows": tuple((f["tried"], f["found"], HOLDS if f["holds"] else VIOLATED) for f in findings),
        }

    return trial


def _certified(step: str, prefix: str) -> Trial:
    """Verdicts of all runs of a step on the statements whose names begin so."""

    def trial(evidence: Evidence) -> dict[str, Any]:
        runs = evidence.runs(step)
        ended = runs.filter(pl.col("status").is_in(results.ENDED))
        rows, violated, held = [], 0, 0
        for column in runs.columns:
            if not (column.startswith(f"certificates.{prefix}/") and column.endswith(".verdict")):
                continue
            statement = column.removeprefix("certificates.").removesuffix(".verdict")
            verdicts = runs[column].drop_nulls().to_list()
            here = {verdict: verdicts.count(verdict) for verdict in (HOLDS, VIOLATED, "not applicable")}
            violated, held = violated + here[VIOLATED], held + here[HOLDS]
            measured = f"certificates.{statement}." + ("slope" if prefix == "corollary_1" else "margin")
            judged = runs.filter(pl.col(column).is_in([HOLDS, VIOLATED]))
            values = judged[measured].drop_nulls().to_list() if measured in runs.columns else []
            shown = "–" if not values else span(values) if prefix == "corollary_1" else number(float(min(values)))
            rows.append((statement.removeprefix(f"{prefix}/"), *map(str, here.values()), shown))
        depths = ", ".join(map(str, sorted(runs["depth.layers"].unique())))
        return {
            "verdict": VIOLATED if violated or not held else HOLDS,
            "found": (f"{ended.height} flows of depth {depths}, recorded at {_rows(evidence, step):,} times in all.",),
            "header": ("of", "holds", "violated", "not applicable", _measured(prefix)),
            "rows": tuple(rows),
        }

    return trial


def _measured(prefix: str) -> str:
    return "slope against ln loss" if prefix == "corollary_1" else "smallest margin"


def _rows(evidence: Evidence, step: str) -> int:
    from rankward.results.door import load

    return int(load(evidence.sweep(step)).traces().select(pl.len()).collect().item())


def _theorem_1(evidence: Evidence) -> dict[str, Any]:
    fields = _certified("theorem_1", "theorem_1")(evidence)
    runs = evidence.runs("theorem_1")
    two = runs.filter(pl.col("depth.layers") == 2)["entry/0_0"].abs().to_list()
    more = runs.filter(pl.col("depth.layers") > 2)["entry/0_0"].abs().to_list()
    forced = (
        f"its determinant alone forces at least {number(float(robustness_bound(STOP)))} at a loss of {number(STOP)}"
    )
    found = [f"At depths 3 and 4 |W_11| ends at {span(more)}; {forced}."]
    differs = [
        f"At depth 2 |W_11| ends at {span(two)}: there the determinant falls like exp(-W_11²/2), below what any "
        "product in floating point resolves. Certificates claim nothing from there on. In exact arithmetic it would go "
        f"on to {number((2 * STOP) ** -0.5)}, as at the other depths."
    ]
    return fields | {"found": (*fields["found"], *found), "differs": tuple(differs)}


def _corollary_1(evidence: Evidence) -> dict[str, Any]:
    fields = _certified("theorem_1", "corollary_1")(evidence)
    runs = evidence.runs("theorem_1")
    column = "certificates.corollary_1/norm/nuclear"
    silent = runs.filter(pl.col(f"{column}.verdict") == "not applicable")
    why = sorted(set(silent[f"{column}.premise"].drop_nulls()))
    if why:
        fields["verdict"] = fields["verdict"] if fields["verdict"] == VIOLATED else PART
        depths = ", ".join(map(str, sorted(silent["depth.layers"].unique())))
        fields["differs"] = (f"Not judged at depth {depths}: it needs {'; '.join(why)}.",)
    return fields


def _theorem_2(evidence: Evidence) -> dict[str, Any]:
    fields = _certified("theorem_2", "theorem_2")(evidence)
    values = sorted(evidence.runs("theorem_2")["observations.b_22"].unique())
    said = f"b_12 = -2, b_21 = 0.5, b_22 of {', '.join(map(number, values))}; the unobserved entry at each place."
    return fields | {"found": (*fields["found"], said)}


P = "propositions"
THEORY: tuple[tuple[Claim, Trial], ...] = (
    (
        Claim(
            "Proposition 1",
            "Section 3.1",
            "Every norm and quasi-norm confines W_11 to a bounded interval along the solutions of Equation 6; Schatten "
            "(quasi-)norms are smallest at W_11 = 0 alone.",
            (P,),
        ),
        _proposition("Proposition 1"),
    ),
    (
        Claim(
            "Proposition 2",
            "Section 3.1",
            "Along the same solutions effective rank and distance from the infimal rank are greatest at W_11 = 0 and "
            "fall to 1 and 0 as |W_11| grows.",
            (P,),
        ),
        _proposition("Proposition 2"),
    ),
    (
        Claim(
            "Theorem 1",
            "Section 3.2",
            "From a balanced start whose product has a positive determinant, gradient flow keeps every norm above, and "
            "both measures of rank below, a bound of the loss: norms grow, the rank falls (Equations 8, 9, 10).",
            ("theorem_1",),
        ),
        _theorem_1,
    ),
    (
        Claim(
            "Corollary 1",
            "Section 3.2",
            "As the loss goes to zero, every norm goes to infinity, and the rank to its infimum.",
            ("theorem_1",),
        ),
        _corollary_1,
    ),
    (
        Claim(
            "Proposition 3",
            "Section 3.2",
            "The product's determinant is positive at the start with probability one half, for a wide family of draws.",
            (P,),
        ),
        _proposition("Proposition 3"),
    ),
    (
        Claim(
            "Proposition 4",
            "Section 3.3",
            "At depth 2, from a product of alpha times the identity, flow takes the loss to zero.",
            (P,),
        ),
        _proposition("Proposition 4"),
    ),
    (
        Claim(
            "Theorem 2",
            "Section 3.4, Appendix C",
            "The same with any observed values off the diagonal, any value on it, and any place unobserved; the "
            "smaller |b_22|, the higher the bound.",
            ("theorem_2",),
        ),
        _theorem_2,
    ),
)
