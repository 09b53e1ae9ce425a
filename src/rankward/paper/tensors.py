"""Figures 2, 3 and 6: tensors. Section 4.2 and Appendix F.1."""

from __future__ import annotations

from math import prod
from typing import Any

import polars as pl

from rankward.paper.claim import HOLDS, PART, VIOLATED, Claim, Evidence, Trial, number
from rankward.paper.steps import CIRCUIT

COUNT, SCALE, ERROR = "observations.count", "init.scale", "error/reconstruction"
TRIALS = {1: "One", 2: "Two", 3: "Three", 4: "Four"}
ENOUGH = 200  # observations from which on the paper's curves lie at the ground truth
RULE = (
    "Holds where more than half of the runs from the smallest init with {enough} observations and more have a rank "
    "bound of "
    "at most {rank}; else in part."
)
OMITS = (
    "Fewer observations, where the table shows what happens; other ground truths than the {seeds} drawn; the limit of "
    "small "
    "steps and starts."
)


def _completion(step: str, rank: int, figure: str) -> Trial:
    """Medians over seeds for each number of observations: a column for each init of tf, and one for linear."""

    def trial(evidence: Evidence) -> dict[str, Any]:
        runs = evidence.runs(step).with_columns(order=pl.col("observations.dims").str.count_matches(",") + 1)
        tf = runs.filter(pl.col("factorization.name") == "tensor")
        inits = sorted(tf[SCALE].unique(), reverse=True)
        series = {f"tf, init {number(init)}": tf.filter(pl.col(SCALE) == init) for init in inits}
        series["linear"] = runs.filter(pl.col("factorization.name") == "linear")
        enough = series[f"tf, init {number(inits[-1])}"].filter(pl.col(COUNT) >= ENOUGH)
        low = enough.filter(pl.col("rank/cp_upper") <= rank)
        found = [
            f"Order {order}, tf from init {number(inits[-1])} with {ENOUGH} observations and more: rank at most {rank} "
            f"in {low.filter(pl.col('order') == order).height} of {part.height} runs, median reconstruction error "
            f"{number(part[ERROR].median(), 2)}."
            for (order,), part in enough.partition_by("order", as_dict=True, maintain_order=True).items()
        ]
        trials = tf["seed"].n_unique()
        ended = int((runs["status"] == "converged").sum())
        cells = runs.select("order", COUNT).unique().sort("order", COUNT)
        smallest = series[f"tf, init {number(inits[-1])}"]
        return {
            "basis": f"{runs.height} runs",
            "verdict": HOLDS if low.height > enough.height / 2 else PART,
            "trials": f"{runs.height} runs, {ended} converged; {trials} trials a point, of one ground truth an order. "
            f"The rule counts {low.height} of {enough.height} runs.",
            "found": (*found, *_weak_region(smallest, rank), *_weaker(smallest, series["linear"])),
            "header": ("order", "observations", *(f"{name}: {what}" for name in series for what in ("error", "rank"))),
            "rows": tuple(
                (str(order), str(count), *(cell for part in series.values() for cell in _medians(part, order, count)))
                for order, count in cells.rows()
            ),
            "figure": figure,
            "differs": (
                *(f"{TRIALS[trials]} trials a point, of five in the paper." for _ in range(trials < 5)),
                "Ground truths and observed places are our own draws, so single points differ.",
                "The published rank is that of the smallest fit which alternating least squares found, an upper bound; "
                "here a lower bound stands beside it, and where both meet the rank is known.",
            ),
        }

    return trial


def _medians(runs: pl.DataFrame, order: int, count: int) -> tuple[str, str]:
    """Reconstruction error, with how many runs converged unless all did; and rank: both bounds where they do not "
    "meet."""
    point = runs.filter((pl.col("order") == order) & (pl.col(COUNT) == count))
    low, high = (number(point[f"rank/cp_{end}"].median()) for end in ("lower", "upper"))
    converged = int((point["status"] == "converged").sum())
    status = "" if converged == point.height else f" ({converged} of {point.height} converged)"
    return number(point[ERROR].median(), 2) + status, low if low == high else f"{low} to {high}"


def _weak_region(tf: pl.DataFrame, rank: int) -> list[str]:
    """A sentence that names the numbers of observations at which no more than half of the runs have a low rank."""
    points = tf.group_by("order", COUNT).agg(
        pl.col(ERROR).median(),
        low=(pl.col("rank/cp_upper") <= rank).sum(),
        converged=(pl.col("status") == "converged").sum(),
        runs=pl.len(),
    )
    weak = points.filter(2 * pl.col("low") <= pl.col("runs")).sort("order", COUNT)
    named = [
        f"order {row['order']}, {row[COUNT]:,} ({row['low']} of {row['runs']}, {row['converged']} converged, median "
        f"error {number(row[ERROR], 2)})"
        for row in weak.rows(named=True)
    ]
    if not named:
        return [f"At every number of observations more than half of these runs have rank at most {rank}."]
    return [f"Weak region, where at most half of these runs have rank at most {rank}: {'; '.join(named)}."]


def _weaker(tf: pl.DataFrame, linear: pl.DataFrame) -> list[str]:
    """A sentence on the numbers of observations at which the factorization's median error is above the baseline's."""
    errors = [runs.group_by("order", COUNT).agg(pl.col(ERROR).median()) for runs in (tf, linear)]
    both = errors[0].join(errors[1], on=["order", COUNT], suffix="_linear").sort("order", COUNT)
    worse = both.filter(pl.col(ERROR) > pl.col(f"{ERROR}_linear"))
    points = [
        f"order {order}, {count}: {number(error, 2)} against {number(baseline, 2)}"
        for order, count, error, baseline in worse.select("order", COUNT, ERROR, f"{ERROR}_linear").rows()
    ]
    return [f"With few observations tf is worse than the baseline (median errors; {'; '.join(points)})."] * bool(points)


def _figure_3(evidence: Evidence) -> dict[str, Any]:
    found = evidence.stored(CIRCUIT)
    size = "×".join(map(str, found["dims"]))
    return {
        "basis": f"all {prod(found['dims']):,} inputs of one network",
        "verdict": HOLDS if found["difference"] < 1e-12 else VIOLATED,
        "trials": f"One network, all {prod(found['dims']):,} index tuples.",
        "found": (
            f"The network's outputs on all index tuples of {size} with {found['channels']} channels and the sum of "
            f"outer products of its filters differ by at most {number(found['difference'], 2)} of the largest entry "
            "(float64).",
        ),
        "figure": "figure3",
    }


TENSORS: tuple[tuple[Claim, Trial], ...] = (
    (
        Claim(
            "Figure 2",
            "Section 4.2",
            "Descent on a tensor factorization completes a tensor of rank 1 with tensors of low rank, the more so the "
            "smaller its start; descent on the tensor itself does not.",
            ("figure2",),
            RULE.format(enough=ENOUGH, rank=1),
            OMITS.format(seeds="two"),
        ),
        _completion("figure2", 1, "figure2"),
    ),
    (
        Claim(
            "Figure 3",
            "Section 4.2",
            "A tensor factorization is a convolutional arithmetic circuit with one hidden layer.",
            ("circuit",),
            "Holds where outputs and tensor differ by less than 1e-12 of the largest entry.",
            "Training: the equality is one of functions.",
        ),
        _figure_3,
    ),
    (
        Claim(
            "Figure 6",
            "Appendix F.1",
            "As Figure 2, for ground truths of rank 3.",
            ("figure6",),
            RULE.format(enough=ENOUGH, rank=3),
            OMITS.format(seeds="two"),
        ),
        _completion("figure6", 3, "figure6"),
    ),
)
