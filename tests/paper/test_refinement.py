"""The refinement on the paper page: its verdict, and a row for each round with status, loss and sharpness."""

import polars as pl
import pytest

from rankward import results
from rankward.paper.claim import HOLDS, PART, Evidence
from rankward.paper.matrices import refinement


class Left(Evidence):
    """What a refinement of two cells leaves: one settles, the other ends at the limit, once at 2/lr and once below."""

    def __init__(self, folder, settled):
        super().__init__(folder, [], set())
        table = {
            "cell": [0, 0, 1, 1], "round": [0, 1, 0, 1], "job": [0, 2, 1, 3], "lr.eta": [0.012, 0.006] * 2,
            "init.scale": [1e-4, 1e-5] * 2, "change": [None, 3e-4, None, 4e-5],
            "status": ["converged"] * 2 + ["max_iterations"] * 2, "loss": [9.9e-5] * 2 + [1.12e-4, 2.4e-4],
            "sharpness": [120.0, 121.0, 166.98, 163.1], "edge": [2 / 0.012, 2 / 0.006] * 2,
            "at_edge": [False, False, True, False], "settled": [True, True, settled, settled],
        }  # fmt: skip
        pl.DataFrame(table).write_parquet(folder / results.REFINEMENT)

    def sweep(self, step):
        return self.out

    def runs(self, step):
        names = {"init.name": ["balanced", "gaussian"] * 2, "entry/0_0": [-70.5, 30.0, -70.6, 61.0]}
        return pl.DataFrame({"job": [0, 1, 2, 3], "depth.layers": [3] * 4, **names})


@pytest.mark.parametrize(("settled", "verdict"), [(True, HOLDS), (False, PART)])
def test_it_holds_if_all_cells_settle(tmp_path, settled, verdict):
    assert refinement(Left(tmp_path, settled))["verdict"] == verdict


def test_it_says_how_each_round_ended(tmp_path):
    found = refinement(Left(tmp_path, False))
    assert found["header"] == (
        "depth", "round", "lr", "init", "status", "loss", "sharpness", "2/lr", "|W_11|", "change", "cell settles",
    )  # fmt: skip
    cut = ("3", "0", "0.012", "0.0001", "max_iterations", "0.000112", "167", "166.7", "30", "–", "no")
    assert len(found["rows"]) == 4 and found["rows"][2] == cut
    first, second, third = found["found"]
    assert "1 of the 1 settled cells end within 2%" in third
    assert first.startswith("1 of 2 cells settle within 2 rounds") and "less than 2%" in first
    assert second.startswith("2 of 4 rounds end at the limit of iterations") and "1 at the edge of" in second
    assert "rounds that do both: 1. No cell settles on a round of either kind." in second
    assert not any("rounding" in text for text in found["differs"])
