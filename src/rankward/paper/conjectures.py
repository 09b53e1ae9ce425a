"""The two conjectures of the paper, and the distance of descent from gradient flow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from rankward.figures import conjectures, departure, descent_to_flow
from rankward.paper.claim import FAILS, HOLDS, PART, VIOLATED, Claim, Evidence, Trial, number, span
from rankward.theory.departure import predicted_exponent
from rankward.theory.solution_set import SolutionSet

NORMS = {"norm/nuclear": 1.0, "norm/frobenius": 2.0, "norm/spectral": float("inf"), "norm/schatten_0.5": 0.5}
MIN_NORM_RATIO = 1.5  # a run must end with at least this many times the least norm
MAX_UNBALANCE = 0.1  # share of an independent start up to which a start counts as nearly balanced
ORDER_TOLERANCE = 0.1  # of the order of descent's distance from the flow, which should be 1
DEPTH = "depth.layers"
# Arora et al. (2019), Section 3: other draws of truth and entries, of the same size, rank and norm.
PUBLISHED = {
    "least nuclear norm": "0.105; 1",
    "depth 2": "0.024 to 0.105 by init",
    "depth 3": "2.8e-5; 1.044",
    "depth 4": "2.8e-5; 1.044",
}


def _ratios(evidence: Evidence) -> pl.DataFrame:
    """Figure 1's balanced runs: depth, status, and each norm over the least among the solutions of Equation 6."""
    solutions = SolutionSet.of_equation_6()
    runs = evidence.runs("figure1").filter(pl.col("init.name") == "balanced")
    least = {name: solutions.least_norm(p).upper for name, p in NORMS.items()}
    shares = [(pl.col(name) / least[name]).alias(name) for name in NORMS]
    return runs.select(DEPTH, "lr.eta", "init.scale", "status", *shares).sort(DEPTH, "lr.eta", descending=[False, True])


def _table(ratios: pl.DataFrame) -> dict[str, Any]:
    return {
        "header": ("depth", "lr", "init", "status", *(f"{name} over the least" for name in NORMS)),
        "rows": tuple(tuple(map(number, row)) for row in ratios.rows()),
    }


def _conjecture_1(evidence: Evidence) -> dict[str, Any]:
    ratios = _ratios(evidence)
    two = ratios.filter(pl.col(DEPTH) == 2)
    nuclear = two["norm/nuclear"].to_list()
    away = (two["status"] == "converged").all() and min(nuclear) > MIN_NORM_RATIO and nuclear[-1] >= nuclear[0]
    return {
        "basis": f"{two.height} runs, Theorem 1 for the limit",
        "verdict": FAILS if away else PART,
        "trials": f"{two.height} balanced runs of depth 2 on Equation 6, and the completions of random matrices below.",
        "found": (
            f"On Equation 6, depth 2 ends with {span(nuclear)} times the least nuclear norm, farther from it with the "
            "smaller rate and start.",
            *_where_it_looks_right(evidence.sweep("conjectures")),
        ),
        "figure": "conjectures",
        "published": _published(evidence.sweep("conjectures")),
        **_table(two),
    }


def _where_it_looks_right(sweep: Path) -> list[str]:
    """For depth 2 on random completions: the numbers of observations with a median nuclear norm near the least."""
    rows = conjectures.curves(sweep).filter(pl.col("method") == "depth 2").sort("observations")
    said = [
        f"{row['observations']:,} observations: {number(row['ratio_median'])} times the least nuclear norm, error "
        f"{number(row['error_median'], 3)} ({row['converged']} of {row['trials']} converged)"
        for row in rows.rows(named=True)
    ]
    return [f"Random matrices at depth 2, medians: {'; '.join(said)}."] if said else []


def _published(sweep: Path) -> tuple[tuple[str, str, str], ...]:
    """The results of Arora et al. (2019) on 2,000 entries of a 100×100 matrix, and ours if that was run."""
    rows = conjectures.curves(sweep).filter(pl.col("observations") == 2000)
    ours = {row["method"]: row for row in rows.rows(named=True)}
    return tuple(
        (
            f"{method}, 2,000 of 100×100 entries: mean squared error; nuclear norm over the least",
            published,
            f"{number(ours[method]['error_median'] ** 2 / 10_000, 2)}; {number(ours[method]['ratio_median'])}",
        )
        for method, published in PUBLISHED.items()
        if method in ours
    )


def _conjecture_2(evidence: Evidence) -> dict[str, Any]:
    ratios = _ratios(evidence)
    ends = [min(ratios[name].to_list()) for name in NORMS]
    away = (ratios["status"] == "converged").all() and min(ends) > MIN_NORM_RATIO
    return {
        "basis": f"{ratios.height} runs, Theorem 1 for the limit",
        "verdict": HOLDS if away else PART,
        "trials": f"{ratios.height} balanced runs of Figure 1, one set of observations for all {len(NORMS)} norms.",
        "found": (
            "They end with at least "
            + ", ".join(f"{number(end)} ({name.removeprefix('norm/')})" for end, name in zip(ends, NORMS, strict=True))
            + " times the least norm among the solutions.",
        ),
        **_table(ratios),
    }


def _flow_and_descent(evidence: Evidence) -> dict[str, Any]:
    table = descent_to_flow.curves(evidence.sweep("descent_to_flow"))
    orders = descent_to_flow.orders(table)
    known = orders.filter(pl.col("points") >= 3)
    alike = known.height == orders.height and bool(((known["order"] - 1).abs() <= ORDER_TOLERANCE).all())
    return {
        "basis": f"{table.height} runs",
        "verdict": HOLDS if alike else PART,
        "trials": f"One balanced start, {table.height} descents against {orders.height} flows.",
        "found": tuple(
            f"Depth {row['depth']:g}: the distance of |W_11| from the flow's at equal losses falls with order "
            f"{number(row['order'])} ± {number(row['standard_error'], 1)} in the learning rate ({row['points']} "
            f"points)."
            for row in orders.rows(named=True)
        ),
        "header": ("depth", "dtype", "lr", "largest relative distance"),
        "rows": tuple(tuple(map(number, row)) for row in table.rows()),
        "figure": "descent_to_flow",
    }


def _appendix_d(evidence: Evidence) -> dict[str, Any]:
    table = departure.curves(evidence.sweep("departure"))
    rows, later = [], []
    for depth, share, part in departure.parts(table):
        if share is None:
            continue
        law = departure.law(part, "turning")
        if depth > 2 and share <= MAX_UNBALANCE and law is not None:
            later.append(law.interval[0] > 0)
        slope = "–" if law is None else f"{number(law.slope, 2)} [{', '.join(number(end, 2) for end in law.interval)}]"
        counts = (part.height, *(part[event].count() for event in departure.EVENTS), int(part["early"].sum()))
        predicted = number(predicted_exponent(depth), 3)
        below = (part["turning"] / part["protected"]).median()
        proved = (f"{part['protected'].count()}; {number(part['protected'].median(), 2)}", number(below, 2))
        rows.append((f"{depth:g}", number(share), *map(str, counts), slope, predicted if depth > 2 else "–", *proved))
    flows = table.filter(pl.col("rate") == departure.reference(table)).height
    wrong = int(table["protected_turns"].sum())
    return {
        "basis": f"{table.height} runs",
        "verdict": VIOLATED if wrong else HOLDS if later and all(later) else PART,
        "trials": f"{flows} flows, and {table.height - flows} descents from some of their starts.",
        "found": (
            f"At depths 3 and 4 and shares up to {MAX_UNBALANCE:g}, the loss at which the determinant's sign turns "
            f"falls with the unbalancedness of the start in {sum(later)} of {len(later)} cases with a slope.",
            f"Measured unbalancedness proves for {table['protected'].count()} of {table.height} runs that the sign "
            f"stays down to some loss. It turns above that loss in {wrong or 'none'} of them.",
        ),
        "header": ("depth", "share", "runs", "sign turns", "leaves the bound", "turns above the bound's losses",
                   "slope of ln loss at the turn against ln unbalancedness", "by scaling",
                   "runs with a proof; median loss to which it reaches", "median loss at the turn over that"),
        "rows": tuple(rows),
        "figure": "departure",
        "differs": ("The scaling exponent is that of a limit, which these scales do not reach.",),
    }  # fmt: skip


CONJECTURES: tuple[tuple[Claim, Trial], ...] = (
    (
        Claim(
            "Conjecture 1",
            "Section 1",
            "(Gunasekar et al. 2017; the paper argues against it.) With small steps from near zero, descent on a "
            "full-dimensional matrix factorization converges to a solution of least nuclear norm.",
            ("figure1", "conjectures"),
            f"Fails where every balanced run of depth 2 in Figure 1 converges, ends above {MIN_NORM_RATIO} times the "
            "least nuclear norm, and no nearer to it with the smaller rate and start; else in part.",
            "The limit of zero rate and start, which the conjecture is about: Theorem 1 covers it, for flow.",
        ),
        _conjecture_1,
    ),
    (
        Claim(
            "Conjecture 2",
            "Section 1",
            "(Arora et al. 2019; the paper affirms it.) For any norm or quasi-norm there are observations with which "
            "small "
            "steps from near zero do not ensure a solution of least norm.",
            ("figure1",),
            f"Holds where every balanced run of Figure 1 converges and ends above {MIN_NORM_RATIO} times the "
            "least of each norm in the table; else in part.",
            "Other norms, and the limit of zero rate and start.",
        ),
        _conjecture_2,
    ),
)
DYNAMICS: tuple[tuple[Claim, Trial], ...] = (
    (
        Claim(
            "Flow and descent",
            "Section 2",
            "Gradient flow from a balanced start is what descent with small steps approximates.",
            ("descent_to_flow",),
            f"Holds where, at each depth, the distance in float64 falls with an order within {ORDER_TOLERANCE} "
            "of 1, fit to at least three learning rates; else in part.",
            "Other starts, and losses below 2e-2 at depth 2 and 1e-3 at depth 3: later the descent of depth 2 loses "
            "the "
            "sign of its determinant.",
        ),
        _flow_and_descent,
    ),
    (
        Claim(
            "Appendix D",
            "Section 4.1, Appendix D",
            "Runs from starts that are balanced approximately follow the same curve, and leave it at a point that "
            "depends on "
            "how balanced they are.",
            ("departure",),
            f"Holds where, at depths 3 and 4, each share of an independent start up to {MAX_UNBALANCE:g} with at "
            "least two scales has a 95 % interval of the slope above 0; else in part. Violated where the sign turns "
            "although no layer can be singular: while the smallest squared singular value of some layer is above "
            "(L - 1) times the measured unbalancedness.",
            "The paper's own theorem of Appendix D: the bound here is ours, from each run's measured rows. Losses "
            "below 1e-4.",
        ),
        _appendix_d,
    ),
)
