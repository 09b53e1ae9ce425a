"""The refinement protocol: rounds, what it compares, and what it says."""

import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from rankward import results
from rankward.config import ConfigError
from rankward.sweeps.grid import GridSearch
from rankward.sweeps.refine import Cell, Refinement

GRID = GridSearch({}, [], None)


def refinement(**more):
    return Refinement(
        GRID,
        **(
            {"factors": {"lr.eta": 0.5, "init.scale": 0.1}, "watch": "entry/0_0", "tolerance": 0.1, "max_rounds": 4}
            | more
        ),
    )


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"factors": {"lr.eta": 2.0}}, r"factors\.lr\.eta"),
        ({"factors": {}}, "factors"),
        ({"tolerance": 0}, "tolerance"),
        ({"max_rounds": 1}, "max_rounds"),
    ],
)
def test_settings_that_make_no_sense_are_named(more, key):
    with pytest.raises(ConfigError, match=rf"hydra\.sweeper\.refine\.{key}"):
        refinement(**more)


def test_rounds_make_keys_smaller_by_their_factors():
    cell = Cell(["depth=2", "lr.eta=0.1"], {"lr.eta": 0.1, "init.scale": 1e-2})
    assert refinement()._job(cell, 0) == ["depth=2", "lr.eta=0.1", "init.scale=0.01"]
    assert refinement()._job(cell, 2) == ["depth=2", "lr.eta=0.025", "init.scale=0.0001"]


def left(folder, entry, loss=(1.0, 0.1, 0.01), status="converged"):
    trace = {"iteration": np.arange(len(loss)), "loss": np.array(loss), "entry/0_0": np.array(entry)}
    results.write_run(folder, trace=trace, factors={"a": np.zeros(1)}, summary={"status": status})


def test_the_change_is_of_curves_at_common_losses(tmp_path):
    """At losses 1 to 0.01 the second curve is the first but for its end, which is 2.2, not 2.0: a change of 0.2/2.2."""
    left(tmp_path / "0", [0.0, 1.0, -2.0])
    left(tmp_path / "1", [0.0, 1.0, 2.2])
    left(tmp_path / "2", [0.0, 0.55, 1.1, 1.65, 2.2], loss=[1.0, 0.316, 0.1, 0.0316, 0.01])
    cell = Cell([], {}, numbers=[0])
    refine = refinement()
    refine._compare(cell, tmp_path)
    assert cell.changes == [] and not cell.settled
    cell.numbers.append(1)
    refine._compare(cell, tmp_path)
    assert cell.changes == [pytest.approx(0.2 / 2.2)] and cell.settled
    assert not Cell([], {}).settled


def test_a_round_that_fails_ends_its_cell(tmp_path):
    left(tmp_path / "0", [0.0, 1.0, 2.0])
    left(tmp_path / "1", [0.0, np.nan, np.nan], status="diverged")
    cell = Cell([], {"lr.eta": 1.0}, numbers=[0, 1])
    refine = refinement(factors={"lr.eta": 0.5})
    refine._compare(cell, tmp_path)
    assert cell.stuck and not cell.settled and "a round failed" in refine._told(cell)
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.refine\.watch.*entry/0_0"):
        refinement(watch="norm/nothing")._curve(tmp_path / "0")


@pytest.mark.slow
def test_the_command_refines_until_settled_and_goes_on_where_it_stands(tmp_path):
    command = [
        sys.executable, "-m", "rankward", "-m", "experiment=figure1_refined", "logger=none", "depth=3,2", "stop_loss=1e-2",
        "max_iterations=300_000", "hydra.sweeper.refine.max_rounds=3", "init=balanced", "hydra.sweep.dir=s",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "s" / "refinement.parquet")
    runs = results.gather(tmp_path / "s")
    for row in table.rows(named=True):  # the table's numbers are those that were trained
        (run,) = runs.filter(pl.col("job") == row["job"]).rows(named=True)
        assert run["lr.eta"] == pytest.approx(row["lr.eta"], rel=1e-4) and run["init.scale"] == pytest.approx(
            row["init.scale"], rel=1e-4
        )
    for (_,), cell in table.group_by("cell"):
        assert cell["round"].to_list() == list(range(len(cell))) and cell["change"][0] is None
        settled = cell["change"].drop_nulls() < 0.02
        assert not settled[:-1].any() and settled[-1] == cell["settled"][0] and (settled[-1] or len(cell) == 3)
    assert "settled in round" in done.stdout and (tmp_path / "s" / "figures" / "figure1_refined.png").is_file()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0 and again.stdout.count("kept") == len(runs)
    assert pl.read_parquet(tmp_path / "s" / "refinement.parquet").equals(table)
