"""The refinement protocol: rounds, what it compares, and what it says."""

import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest

from rankward import results
from rankward.config import ConfigError
from rankward.sweeps import refine
from rankward.sweeps.grid import GridSearch
from rankward.sweeps.refine import Cell, Refinement, Round

GRID = GridSearch({}, [], None)
# Its jobs have no configs.
GRID.runner = SimpleNamespace(is_ours=False, run_folder=lambda sweep, number: sweep / str(number))


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
    summary = {"status": status, "metrics": {"loss": loss[-1]}}
    results.write_run(folder, trace=trace, factors={"a": np.zeros(1)}, summary=summary)


def rounds(cell, refine, folder, *jobs):
    for job in jobs:
        cell.rounds.append(refine.read_round(job, folder, []))
        refine.compare(cell, folder)


def test_the_change_is_of_curves_at_common_losses(tmp_path):
    """At losses 1 to 0.01 the second curve is the first but for its end, which is 2.2, not 2.0: a change of 0.2/2.2."""
    left(tmp_path / "0", [0.0, 1.0, -2.0])
    left(tmp_path / "1", [0.0, 1.0, 2.2])
    cell, refine = Cell([], {"lr.eta": 1.0}), refinement(factors={"lr.eta": 0.5})
    rounds(cell, refine, tmp_path, 0)
    assert cell.rounds[0].change is None and not cell.settled
    rounds(cell, refine, tmp_path, 1)
    assert cell.rounds[1].change == pytest.approx(0.2 / 2.2) and cell.settled
    assert refine.format_cell(cell).endswith("the default: settled in round 1 at lr.eta 0.5; change a round: 0.091")
    table = refine.table([cell])
    assert table["status"].to_list() == ["converged"] * 2 and table["loss"].to_list() == [0.01, 0.01]
    assert table["change"][0] is None and table["settled"].all()


@pytest.mark.parametrize("cut", [(0,), (1,), (0, 1)])
def test_a_cell_does_not_settle_on_a_round_that_was_cut(tmp_path, cut):
    """The same curve twice, so no change at all; but a run ended at the limit, and would have gone on."""
    for job in (0, 1):
        left(tmp_path / str(job), [0.0, 1.0, 2.0], status="max_iterations" if job in cut else "converged")
    cell, refine = Cell([], {"lr.eta": 1.0}), refinement(factors={"lr.eta": 0.5})
    rounds(cell, refine, tmp_path, 0, 1)
    assert cell.rounds[1].change == 0 and not cell.settled and not cell.stuck
    assert refine.format_cell(cell).count("ended with status max_iterations at loss 0.01") == len(cut)
    assert "has NOT settled" in refine.format_cell(cell)
    left(tmp_path / "2", [0.0, 1.0, 2.0])
    rounds(cell, refine, tmp_path, 2)
    assert cell.settled == (1 not in cut)


def test_a_round_at_the_edge_of_stability_says_so():
    cell = Cell([], {"lr.eta": 0.012}, [Round(0, None, "max_iterations", 1.12e-4, 166.98, 2 / 0.012)])
    said = refinement(factors={"lr.eta": 0.5}).format_cell(cell)
    assert "round 0 ended with status max_iterations at loss 0.000112 (at the edge of stability: " in said
    assert "sharpness 167, 2/lr 166.7)" in said


@pytest.mark.parametrize(("shares", "settles"), [((0.5, 0.5), True), ((0.99, 0.5), True), ((0.5, 0.985), False)])
def test_a_cell_does_not_settle_on_a_round_at_the_edge_of_stability(tmp_path, monkeypatch, shares, settles):
    """The same curve twice, both converged; the shares are sharpness over 2/lr. A later round away from it settles."""
    found = iter([(100 * share, 100.0) for share in (*shares, 0.4)])
    monkeypatch.setattr(refine, "_stability", lambda config, run: next(found))
    monkeypatch.setattr(refine, "run_config", lambda config: None)
    ours = GridSearch({}, [], None)
    composer = SimpleNamespace(compose=lambda job: SimpleNamespace(config=None))
    ours.runner = SimpleNamespace(is_ours=True, run_folder=GRID.runner.run_folder, composer=composer)
    search = Refinement(ours, {"lr.eta": 0.5}, "entry/0_0", tolerance=0.1, max_rounds=3)
    for job in (0, 1, 2):
        left(tmp_path / str(job), [0.0, 1.0, 2.0])
    rounds(cell := Cell([], {"lr.eta": 1.0}), search, tmp_path, 0, 1)
    assert cell.rounds[1].change == 0 and cell.settled == settles
    assert search.table([cell])["at_edge"].to_list() == [share > 0.98 for share in shares]
    said = search.format_cell(cell)
    assert said.count("converged at loss 0.01 (at the edge of stability: sharpness 9") == sum(s > 0.98 for s in shares)
    assert ("has NOT settled" in said) != settles
    rounds(cell, search, tmp_path, 2)
    assert cell.settled


def test_a_round_that_fails_ends_its_cell(tmp_path):
    left(tmp_path / "0", [0.0, 1.0, 2.0])
    left(tmp_path / "1", [0.0, np.nan, np.nan], status="diverged")
    cell, refine = Cell([], {"lr.eta": 1.0}), refinement(factors={"lr.eta": 0.5})
    rounds(cell, refine, tmp_path, 0, 1)
    assert cell.stuck and not cell.settled and "a round failed" in refine.format_cell(cell)
    rounds(cell := Cell([], {"lr.eta": 1.0}), refine, tmp_path, 7)  # left nothing at all
    assert cell.stuck and cell.rounds[0].status is None
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.refine\.watch.*entry/0_0"):
        refinement(watch="norm/nothing")._curve(tmp_path / "0")


@pytest.mark.slow
def test_refinement_runs_until_settled_and_resumes(tmp_path):
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
        ended = (cell["status"] == "converged").to_list()
        settled = [change < 0.02 and all(ended[at : at + 2]) for at, change in enumerate(cell["change"].drop_nulls())]
        assert not any(settled[:-1]) and settled[-1] == cell["settled"][0] and (settled[-1] or len(cell) == 3)
    for row in table.rows(named=True):
        run = next(run for run in runs.rows(named=True) if run["job"] == row["job"])
        assert (row["status"], row["loss"]) == (run["status"], run["loss"])
        assert row["edge"] == pytest.approx(2 / run["lr.eta"])
        arrays = results.read_arrays(tmp_path / "s" / run["run"])
        factors = [arrays[f"final.{i}"] for i in range(run["depth.layers"])]
        assert row["sharpness"] == pytest.approx(sharpest(factors), rel=1e-5)
    assert "settled in round" in done.stdout and (tmp_path / "s" / "figures" / "figure1_refined.png").is_file()
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200)
    assert again.returncode == 0 and again.stdout.count("kept") == len(runs)
    assert pl.read_parquet(tmp_path / "s" / "refinement.parquet").equals(table)


def sharpest(factors):
    """The largest eigenvalue of the Hessian of Equation 2 on Equation 6, by differences of the gradient written by hand."""

    def gradient(flat):
        layers = flat.reshape(-1, 2, 2)
        below = [np.eye(2)]
        for layer in layers:
            below.append(layer @ below[-1])
        above = below[-1] - [[0, 1], [1, 0]]
        above[0, 0] = 0
        found = []
        for layer, under in zip(layers[::-1], below[-2::-1], strict=True):
            found.insert(0, above @ under.T)
            above = layer.T @ above
        return np.concatenate([each.ravel() for each in found])

    point = np.concatenate([factor.ravel() for factor in factors])
    step = 1e-5
    columns = [(gradient(point + step * e) - gradient(point - step * e)) / (2 * step) for e in np.eye(len(point))]
    return np.linalg.eigvalsh(np.array(columns))[-1]
