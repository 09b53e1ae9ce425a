"""The experiments on optimizers, diagonal networks and grokking: their figures on made runs, and both in small."""

import numpy as np
import polars as pl
import pytest

from helpers.in_process import rankward
from rankward import results
from rankward.config import ConfigError
from rankward.figures import diagonal_networks, draw, grokking, optimizers
from rankward.observations.multiplication import multiplication_table


def swept(folder, *arguments):
    done = rankward("-m", *arguments, f"hydra.sweep.dir={folder}/s", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "s", done.stdout


@pytest.mark.parametrize("name", ["optimizers", "diagonal_networks", "grokking"])
def test_a_figure_without_runs_is_refused(name, tmp_path):
    with pytest.raises(results.ResultsError, match="cannot (draw|read)"):
        draw(name, tmp_path)


def test_a_multiplication_table_has_rank_one():
    seen = multiplication_table(5, 12, seed=1)
    assert seen.count == 12 and (multiplication_table(5, 20, seed=1).mask >= seen.mask).all()
    assert seen.ground_truth[3, 4] == pytest.approx(0.48) and np.linalg.matrix_rank(seen.ground_truth) == 1


def test_a_table_that_cannot_be_is_refused_in_one_line(tmp_path):
    done = rankward("observations=multiplication_table", "observations.count=257", "logger=none", cwd=tmp_path)
    assert (
        done.returncode and "observations.count: 257 is not allowed" in done.stderr and "Traceback" not in done.stderr
    )
    assert not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="observations.size: 1 is not allowed"):
        multiplication_table(1, 1)


def test_the_time_of_the_fall_is_interpolated():
    time, error = np.array([0.0, 1.0, 2.0, 3.0]), np.array([1.0, 0.8, 0.8, 0.2])
    found = grokking._events(time, np.array([1.0, 1e-4, 1e-5, 1e-5]), error)
    assert (found["fitted"], found["plateau"]) == (1.0, 0.8) and found["fallen"] == pytest.approx(2.5)
    assert grokking._events(time, np.ones(4), error) == {"fitted": None, "plateau": None, "fallen": None}
    scales = np.array([2.0, 4.0, 8.0])
    table = pl.DataFrame({"decay": 0.1, "scale": scales, "fallen": 3 + np.log(scales) / 0.1})
    assert grokking.slopes(table)["slope"][0] == pytest.approx(1)


@pytest.mark.slow
def test_the_other_entries_are_learned_late(tmp_path):
    small = ["observations.size=6", "observations.count=18", "record.every=5", "lr.max_time=3000"]
    grids = "[{optimizer.weight_decay: [2e-3], init.scale: [2, 3, 4]}]"
    sweep, printed = swept(tmp_path, "experiment=grokking", *small, f"hydra.sweeper.grids={grids}")
    table = grokking.curves(sweep)
    assert (table["fallen"] > 100 * table["fitted"]).all()
    (row,) = grokking.slopes(table).rows(named=True)
    assert row["runs"] == 3 and abs(row["slope"] - 1) < 0.05
    assert "the error of all entries halves" in printed and (sweep / "figures" / "grokking.png").is_file()


@pytest.mark.slow
def test_diagonal_networks_end_at_the_least_q(tmp_path):
    small = ["observations.dims=[5]", "observations.rank=5", "observations.count=2", "lr.max_time=300"]
    grids = "[{init.scale: [1e-3, 0.3, 3]}]"
    sweep, printed = swept(tmp_path, "experiment=diagonal_networks", *small, f"hydra.sweeper.grids={grids}")
    table = diagonal_networks.curves(sweep)
    assert table["distance"].max() < 1e-6 and "of the vectors of least Q" in printed
    assert (np.diff(table["l1"]) > 0).all() and (np.diff(table["l2"]) < 0).all()
    assert table["l1"][0] < 1.02 and table["l2"][2] == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_adam_has_less_of_the_bias_at_depth_2_and_as_much_at_depth_4(tmp_path):
    grids = "[{optimizer: [descent, adam], lr.eta: [1e-2, 3e-3], depth: [2, 4], init.scale: [1e-4]}]"
    small = ["init.determinant=positive", "check_every=5"]
    sweep, printed = swept(tmp_path, "experiment=optimizers", *small, f"hydra.sweeper.grids={grids}")
    table = optimizers.curves(sweep)
    assert len(table) == 8 and table.filter("slower")["rate"].to_list() == [3e-3] * 4
    entry = {key: part["entry/0_0"].to_numpy() for key, part in table.group_by("optimizer", "depth")}
    assert entry["adam", 2].max() < 0.7 * entry["descent", 2].min()
    assert all((entry[name, 4] > 22).all() for name in ("descent", "adam"))
    assert "paper_2x2, depth 2, adam: |W_11|" in printed and (sweep / "figures" / "optimizers.png").is_file()
