"""The paper's propositions, theorems and corollary: Sections 3.1 to 3.4."""

from __future__ import annotations

from typing import Any

import polars as pl

from rankward import results
from rankward.paper.claim import (
    EVIDENCE,
    HOLDS,
    PART,
    VIOLATED,
    Claim,
    Evidence,
    Trial,
    number,
    span,
)
from rankward.paper.steps import PROPOSITIONS
from rankward.theory import robustness_bound
from rankward.theory.certificates import VERDICTS

DEPTH = "depth.layers"


def _proposition(which: str, basis: str) -> Trial:
    def trial(evidence: Evidence) -> dict[str, Any]:
        findings = [finding for finding in evidence.stored(PROPOSITIONS) if finding["statement"] == which]
        return {
            "basis": basis.format(len(findings)),
            "verdict": HOLDS if findings and all(finding["holds"] for finding in findings) else VIOLATED,
            "trials": f"{len(findings)} trials, a line each.",
            "header": ("tried", "found", "verdict"),
            "rows": tuple((f["tried"], f["found"], HOLDS if f["holds"] else VIOLATED) for f in findings),
        }

    return trial


def _certified(step: str, prefix: str) -> Trial:
    """Verdicts of all runs of a step on the statements whose names have this prefix."""

    def trial(evidence: Evidence) -> dict[str, Any]:
        runs = evidence.runs(step)
        ended = runs.filter(pl.col("status").is_in(results.ENDED))
        depths = sorted(runs[DEPTH].unique())
        rows, judged = [], {VIOLATED: 0, HOLDS: 0}
        silent: dict[tuple[int, ...], list[str]] = {}  # statements by the depths at which no run holds
        for column in runs.columns:
            if not (column.startswith(f"certificates.{prefix}/") and column.endswith(".verdict")):
                continue
            statement = column.removeprefix("certificates.").removesuffix(".verdict")
            name = statement.removeprefix(f"{prefix}/")
            verdicts = runs[column].drop_nulls().to_list()
            counts = {verdict: verdicts.count(verdict) for verdict in VERDICTS}
            judged = {verdict: total + counts[verdict] for verdict, total in judged.items()}
            measured = f"certificates.{statement}." + ("slope" if prefix == "corollary_1" else "margin")
            kept = runs.filter(pl.col(column).is_in([HOLDS, VIOLATED]))
            values = kept[measured].drop_nulls().to_list() if measured in runs.columns else []
            shown = "–" if not values else span(values) if prefix == "corollary_1" else number(float(min(values)))
            rows.append((name, *map(str, counts.values()), shown))
            held = runs.filter(pl.col(column) == HOLDS)[DEPTH].to_list()
            if quiet := tuple(depth for depth in depths if depth not in held):
                silent.setdefault(quiet, []).append(name)
        differs = [
            f"At depth {', '.join(map(str, quiet))} no run had a row in which {', '.join(names)} could have failed."
            for quiet, names in silent.items()
        ]
        return {
            "basis": f"{ended.height} flows",
            "verdict": VIOLATED if judged[VIOLATED] else PART if silent else HOLDS,
            "trials": f"{ended.height} flows of depth {', '.join(map(str, depths))}, recorded at "
            f"{_rows(evidence, step):,} times in all; {judged[HOLDS]} verdicts hold.",
            "header": ("statement on", *VERDICTS, _measured(prefix)),
            "rows": tuple(rows),
            "differs": tuple(differs),
        }

    return trial


def _measured(prefix: str) -> str:
    return "slope against ln loss" if prefix == "corollary_1" else "smallest margin"


def _rows(evidence: Evidence, step: str) -> int:
    from rankward.results.load import load

    return int(load(evidence.sweep(step)).traces().select(pl.len()).collect().item())


def _theorem_1(evidence: Evidence) -> dict[str, Any]:
    return _certified("theorem_1", "theorem_1")(evidence) | {"found": _ends(evidence)}


def _corollary_1(evidence: Evidence) -> dict[str, Any]:
    return _certified("theorem_1", "corollary_1")(evidence) | {"found": _ends(evidence)}


def _ends(evidence: Evidence) -> tuple[str, ...]:
    runs = evidence.runs("theorem_1")
    loss = max(runs["loss"].to_list())
    ends = [
        f"{span(part['entry/0_0'].abs().to_list())} at depth {depth}"
        for (depth,), part in runs.sort(DEPTH).partition_by(DEPTH, as_dict=True, maintain_order=True).items()
    ]
    return (
        f"|W_11| ends at {', '.join(ends)}; the least that a positive determinant allows at the last loss, "
        f"{number(loss)}, is {number(float(robustness_bound(loss)))}.",
    )


def _theorem_2(evidence: Evidence) -> dict[str, Any]:
    fields = _certified("theorem_2", "theorem_2")(evidence)
    values = sorted(evidence.runs("theorem_2")["observations.b_22"].unique())
    return fields | {
        "found": (
            f"b_12 = -2, b_21 = 0.5, b_22 of {', '.join(map(number, values))}; the unobserved entry at each place.",
        )
    }


def beyond_proposition_4(evidence: Evidence) -> dict[str, Any]:
    """Count the flows of other depths and starts whose loss falls to their `stop_loss`; no verdict follows."""
    runs = evidence.runs("convergence")
    cells = runs.group_by(DEPTH, "init.name").agg(
        pl.len(), pl.col("status").eq("converged").sum(), pl.col("loss").max(), pl.col("time").max()
    )
    came = runs.filter(pl.col("status") == "converged").height
    return {
        "basis": f"{runs.height} flows",
        "verdict": EVIDENCE,
        "trials": f"{runs.height} flows from alpha I (identity) and from balanced starts, depths "
        f"{', '.join(map(str, sorted(runs[DEPTH].unique())))}, alpha or init of "
        f"{', '.join(number(scale) for scale in sorted(runs['init.scale'].unique(), reverse=True))}.",
        "found": (
            f"{came} of {runs.height} flows come to a loss of {number(runs['stop_loss'].min())}.",
            *(f"Not: {', '.join(sorted(runs.filter(pl.col('status') != 'converged')['status'].unique()))}.",)
            * (came < runs.height),
        ),
        "header": ("depth", "start", "flows", "come to the loss", "largest last loss", "longest time"),
        "rows": tuple(tuple(map(number, row)) for row in cells.sort(DEPTH, "init.name").rows()),
    }


FLOWS = (
    "Violated where any run has a row on the wrong side of its bound (by more than 1e-9 of it, or than rounding), or "
    "loses the determinant's sign where balance protects it. Holds where each statement of the table holds in some "
    "run of each depth, in rows that could have failed; else in part."
)
P = "propositions"
THEORY: tuple[tuple[Claim, Trial], ...] = (
    (
        Claim(
            "Proposition 1",
            "Section 3.1",
            "Every norm and quasi-norm confines W_11 to a bounded interval along the solutions of Equation 6; Schatten "
            "(quasi-)norms are smallest at W_11 = 0 alone.",
            (P,),
            "Holds where each norm's infimum and the interval of W_11 within 0.1 of it are certified: a norm by "
            "convexity, a quasi-norm of linear forms at all its kinks, Schatten norms by Weyl's inequality. 4,001 "
            "points must agree with them, with the proof's bound, and with the (weakened) triangle inequality. "
            "Schatten norms must also have their infimum at W_11 = 0, and grow strictly with |W_11| on 2,000 points a "
            "side from 1e-3 to 1e6.",
            "Norms that are not in the table: the proposition is proven, not tried, for those. Norms are evaluated in "
            "floating point, which is trusted to 1e-12.",
        ),
        _proposition("Proposition 1", "{} certified intervals"),
    ),
    (
        Claim(
            "Proposition 2",
            "Section 3.1",
            "Along the same solutions effective rank and distance from the infimal rank are greatest at W_11 = 0 and "
            "fall to 1 and 0 as |W_11| grows.",
            (P,),
            "Holds where both fall strictly on the same points, down to rounding (1e-12), from 2 and 1 at W_11 = 0, "
            "and "
            "end within 1e-4 of 1 and 0.",
            "Points between the grid's, and beyond 1e6.",
        ),
        _proposition("Proposition 2", "{} measures at 4,000 points"),
    ),
    (
        Claim(
            "Theorem 1",
            "Section 3.2",
            "From a balanced start whose product has a positive determinant, gradient flow keeps every norm above, and "
            "both measures of rank below, a bound of the loss: norms grow, the rank falls (Equations 8, 9, 10).",
            ("theorem_1",),
            FLOWS,
            "Norms that are not Schatten norms; losses below the last one; depths above 4. The flow is integrated in "
            "singular coordinates, which are those of exactly balanced layers, to a tolerance of 1e-10 a step.",
        ),
        _theorem_1,
    ),
    (
        Claim(
            "Corollary 1",
            "Section 3.2",
            "As the loss goes to zero, every norm goes to infinity, and the rank to its infimum.",
            ("theorem_1",),
            "As for Theorem 1, of the same runs. A run could have failed if some earlier norm was below what the last "
            "loss forces (or rank above). It holds with the right slope over the last decade of the loss by three "
            "standard errors, or where a rank has fallen to its infimum up to rounding (1e-14).",
            "The limit itself: no finite run reaches it. Proposition 4's flow goes to a loss of 1e-10.",
        ),
        _corollary_1,
    ),
    (
        Claim(
            "Proposition 3",
            "Section 3.2",
            "The product's determinant is positive at the start with probability one half, for a wide family of draws.",
            (P,),
            "Holds where all exact binomial intervals contain one half: four of initial products, and 24 of matrices "
            "with symmetric entries, sizes 1 to 6. Fair signs fail either once in 10,000 times. For the latter, "
            "negating a row must turn the sign of every draw, and none may be 0: with the symmetry of the distribution "
            "that is the proof.",
            "Other sizes, depths and distributions, and frequencies nearer to one half than the intervals are wide.",
        ),
        _proposition("Proposition 3", "{} trials with exact binomial intervals"),
    ),
    (
        Claim(
            "Proposition 4",
            "Section 3.3",
            "At depth 2, from a product of alpha times the identity, flow takes the loss to zero.",
            (P,),
            "Holds where the loss comes to 1e-10 without rising, W_11 > 0, the determinant agrees with that of the "
            "entries near |W_11| = 3.2 to 1e-3, and its law -W_11²/2 - 3 ln W_11 + c holds from 20 on to 0.05 in c.",
            "Other alpha, and losses below 1e-10.",
        ),
        _proposition("Proposition 4", "{} flows, by two methods"),
    ),
    (
        Claim(
            "Beyond Proposition 4",
            "Section 3.3",
            "(The paper leaves it open.) Flow takes the loss to zero from other depths and other balanced starts as "
            "well.",
            ("convergence",),
            "None: that some flows come to a small loss proves nothing of the others, so this is evidence only.",
            "Other starts and depths, negative determinants, and losses below the last one.",
        ),
        beyond_proposition_4,
    ),
    (
        Claim(
            "Theorem 2",
            "Section 3.4, Appendix C",
            "The same with any observed values off the diagonal, any value on it, and any place unobserved; the "
            "smaller |b_22|, the higher the bound.",
            ("theorem_2",),
            FLOWS + " The bound on the unobserved entry is the sharp one, and those on the ranks are ours as well (the "
            "paper's are in its Appendix C), in all rows whose determinant has the sign that forces them.",
            "Runs with other values of b_12 and b_21: the bounds are for all that are not 0. Norms: each Schatten norm "
            "is at least the entry.",
        ),
        _theorem_2,
    ),
)
