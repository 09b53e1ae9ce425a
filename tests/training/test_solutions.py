"""`rankward baseline`: each number of its file from the matrices of made runs, and the command line on a sweep."""

import json
import math

import numpy as np
import pytest

from helpers.commands import rankward
from rankward import results
from rankward.config import InputError
from rankward.training.solutions import compare


def made_run(folder, product, depth=3, loss="squared", **arrays):
    mask, values = np.ones((2, 2), bool), np.diag([3.0, 1.0])
    factors = {"observations.mask": mask, "observations.values": values, "product": product, **arrays}
    rows = {"iteration": np.array([0, 50, 100, 150]), "loss": np.array([5.0, 0.6, 0.4, 1e-4])}
    results.write_run(folder, trace=rows, factors=factors, summary={"status": "converged", "metrics": {}})
    config = {"factorization": {"name": "matrix"}, "depth": {"layers": depth}, "loss": {"name": loss}}
    results.write_config(folder, config | {"loss": {"name": loss, "reduction": "half_sum"}})


def test_solutions_of_made_runs(tmp_path):
    end = np.diag([3.0, 0.5])
    made_run(tmp_path / "0", end, ground_truth=np.diag([3.0, 2.0]), **{"units.scale": np.array(10.0)})
    made_run(tmp_path / "1", end, loss="huber")
    made_run(tmp_path / "2", np.full((2, 2), np.nan))
    lines = list(compare(tmp_path))
    assert "left out: 1 run: its product is not finite" in lines
    first, second = json.loads((tmp_path / "baselines.json").read_text(encoding="utf-8"))["problems"]
    rows = {(row["solution"], row.get("rank")): row for row in first["solutions"]}
    assert list(rows)[2:] == [
        ("least Schatten-2/3", None),
        *((name, k) for name in ("best rank", "greedy, step") for k in (1, 2)),
    ]
    step = rows["greedy, step", 1]
    assert step["loss"] == pytest.approx(0.5) and step["distance"]["0"] == pytest.approx(0.5)
    assert step["passed_at"] == {"0": 100.0} and math.isnan(second["solutions"][-2]["passed_at"]["1"])
    assert step["error"] == pytest.approx(20.0) and step["effective_rank"] == pytest.approx(1.0)
    assert rows["best rank", 2]["schatten_2/3"] == pytest.approx((3 ** (2 / 3) + 1) ** 1.5)
    assert first["runs"]["0"]["error"] == pytest.approx(15.0) and first["runs"]["0"]["nuclear_norm"] == 3.5


def test_a_folder_without_such_runs_is_refused(tmp_path):
    with pytest.raises(InputError, match="it has no runs"):
        next(compare(tmp_path))
    made_run(tmp_path / "0", np.full((2, 2), np.inf))
    with pytest.raises(InputError, match="no run to compare: 1 run: its product is not finite"):
        next(compare(tmp_path))
    assert not (tmp_path / "baselines.json").exists()


@pytest.mark.slow
def test_the_command_line(tmp_path):
    task = ["observations=random_matrix", "observations.dims=[8,8]", "observations.count=50", "observations.rank=2"]
    sweep = ["-m", *task, "observations.holdout=0.1", "depth=2,3", "logger=none", f"hydra.sweep.dir={tmp_path}/sweep"]
    assert rankward(*sweep, cwd=tmp_path).returncode == 0
    done = rankward("baseline", "sweep", "--starts", "2", cwd=tmp_path)
    assert done.returncode == 0 and done.stderr == "" and "passed at, depth 3" in done.stdout, done
    assert done.stdout.splitlines()[0] == "problem 1 of 1: 8 x 8, 45 entries observed, 2 runs"
    (problem,) = json.loads((tmp_path / "sweep" / "baselines.json").read_text(encoding="utf-8"))["problems"]
    rows = {(row["solution"], row.get("rank")): row for row in problem["solutions"]}
    assert rows["best rank", 2]["error"] < 1e-6 and rows["best rank", 2]["distance"]["1"] < 0.2
    assert rows["least nuclear norm", None]["gap"] < 1e-6
    refused = rankward("baseline", "nowhere", cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1, refused
