"""Verdicts of the paper page on tables made by hand: each tampered number turns its verdict."""

import numpy as np
import polars as pl
import pytest

from rankward.paper.claim import EVIDENCE, HOLDS, PART, Evidence
from rankward.paper.matrices import steps_and_starts
from rankward.paper.tensors import _weak_region
from rankward.paper.theory import beyond_proposition_4


class Table(Evidence):
    """Evidence of one table for every step."""

    def __init__(self, table):
        self.table, self.done, self.commands = table, set(), {}

    def runs(self, step):
        return self.table


def grid_of_ends(change=None):
    """Runs whose |W_11|²/2 + 3 ln |W_11| is 2 ln(1/rate) + ln(1/init) + seed, solved by Newton's method."""
    rows = []
    for seed in (0, 1):
        for rate in (0.02, 0.005, 0.00125):
            for init in (1e-1, 1e-3):
                level, x = 2 * np.log(1 / rate) + np.log(1 / init) + seed, 5.0
                for _ in range(50):
                    x -= (x * x / 2 + 3 * np.log(x) - level) / (x + 3 / x)
                rows.append({"seed": seed, "lr.eta": rate, "init.scale": init, "entry/0_0": -x, "status": "converged"})
    if change is not None:
        rows[change]["entry/0_0"] = -1.0
    return pl.DataFrame(rows).sample(fraction=1, shuffle=True, seed=1)


def test_small_steps_and_small_starts_are_told_apart():
    found = steps_and_starts(Table(grid_of_ends()))
    assert found["verdict"] == HOLDS and found["basis"] == "12 runs"
    rate, init, fit = found["found"]
    assert "smaller rate alone, |W_11| rises in 8 of 8 pairs" in rate and "a factor of 4)" in rate
    assert "smaller init alone, |W_11| rises in 6 of 6 pairs" in init and "a factor of 100)" in init
    assert "rises by 2 ln(1/rate) and by 1 ln(1/init)" in fit
    assert [row[0] for row in found["rows"]] == ["0.02", "0.005", "0.00125"]


@pytest.mark.parametrize("change", [3, 11])
def test_one_run_that_does_not_grow_turns_the_verdict(change):
    assert steps_and_starts(Table(grid_of_ends(change)))["verdict"] == PART


def test_evidence_is_never_called_a_proof():
    table = {"depth.layers": [2, 3], "init.name": ["identity"] * 2, "init.scale": [1.0, 1e-2], "stop_loss": [1e-6] * 2}
    table |= {"status": ["converged"] * 2, "loss": [1e-6] * 2, "time": [1e3, 2e3]}
    found = beyond_proposition_4(Table(pl.DataFrame(table)))
    assert found["verdict"] == EVIDENCE and found["found"] == ("2 of 2 flows come to a loss of 1e-6.",)
    found = beyond_proposition_4(Table(pl.DataFrame(table | {"status": ["converged", "max_time"]})))
    assert found["verdict"] == EVIDENCE
    assert found["found"] == ("1 of 2 flows come to a loss of 1e-6.", "Not: max_time.")


def test_the_weak_region_is_named():
    runs = pl.DataFrame(
        {
            "order": [3] * 6,
            "observations.count": [50] * 3 + [200] * 3,
            "rank/cp_upper": [3, 5, 5, 3, 3, 5],
            "error/reconstruction": [1.0, 2.0, 3.0, 0.1, 0.2, 0.3],
            "status": ["converged", "max_iterations", "converged"] * 2,
        }
    )
    (sentence,) = _weak_region(runs, 3)
    assert sentence.endswith("have rank at most 3: order 3, 50 (1 of 3, 2 converged, median error 2).")
    assert _weak_region(runs, 5) == [
        "At every number of observations more than half of these runs have rank at most 5."
    ]
