"""Which metrics and statements a factorization's form allows, and what the summary says of the others."""

import json

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from helpers.in_process import rankward
from helpers.made_traces import facts
from helpers.runs import trained
from rankward import load, results
from rankward.metrics import DeterminantResolution, DeterminantSign, measure
from rankward.theory import Corollary1, Proposition4, Theorem1

SHORT = ["max_iterations=100", "engine=reference"]


def test_inapplicable_columns_are_left_out_with_a_note(tmp_path):
    jobs = {
        "symmetric": ["factorization=symmetric", "init.scale=0.1"],
        "tensor": ["factorization=tensor", "init.scale=0.1"],  # of a matrix, which has a matrix's metrics
        "matrix": ["factorization=matrix"],
    }
    for name, job in jobs.items():
        (outcome,) = trained(tmp_path / name, [*job, *SHORT, "check_every=50"])
        columns = results.read_trace(outcome.folder).columns
        assert "norm/nuclear" in columns and "determinant/sign" in columns
        assert ("balance/drift" in columns) == (name == "matrix")
        expected = (
            f"left out, since factorization={name} has other factors: unbalancedness, drift: of a chain of matrices"
        )
        assert outcome.summary["notes"].get("metrics") == (None if name == "matrix" else expected)


def test_a_matrix_has_the_metrics_of_tensors_too(tmp_path):
    job = ["factorization=tensor", "observations=random_matrix", "observations.dims=[3,4]", "observations.rank=1"]
    job += ["observations.count=8", "metrics=tensor", "init.scale=0.1"]
    (outcome,) = trained(tmp_path, [*job, *SHORT])
    columns = results.read_trace(outcome.folder).columns
    assert {"cp_weight/0", "rank/multilinear_1", "rank/cp_upper"} <= set(columns) and "metrics" not in outcome.summary[
        "notes"
    ]


def test_the_sign_is_the_product_s_where_factors_are_no_chain():
    """Of W = W_2 W_1 with entries of 1e-200 the product is zero, its determinant is not: of another form it is zero."""
    tiny = [1e-200 * torch.eye(2, dtype=torch.float64)[None]] * 2
    metrics = {"sign": DeterminantSign(), "resolution": DeterminantResolution()}
    for is_chain, sign in ((True, 1.0), (False, 0.0)):
        made = measure(metrics, tiny, lambda factors: factors[0] @ factors[0], is_chain)
        assert made["determinant/sign"].item() == sign
        assert made["determinant/resolution"].isnan().item() == (not is_chain)


@pytest.mark.parametrize("statement", [Theorem1(), Corollary1(), Proposition4()])
@pytest.mark.parametrize("depth", [1, 2])
def test_statements_on_chains_are_not_applied_to_other_factors(statement, depth):
    others = facts(chain=False, square=False, depth=depth, unbalancedness=np.full(1, np.nan))
    rows = {
        "run": np.zeros(3, int), "iteration": 50 * np.arange(3), "loss": np.array([0.1, 0.01, 0.001]),
        "norm/nuclear": np.ones(3), "determinant/sign": np.array([1.0, -1.0, 0.0]), "determinant/resolution": np.full(3, 1e-16),
    }  # fmt: skip
    for verdict in statement.verdicts(others, rows).values():
        assert verdict["verdict"] == "not applicable"
        assert verdict["premise"] == "a matrix factorization: the product of its factors"
        assert "beyond" not in verdict  # nothing is said of the imbalance of layers that there are not


def test_a_vector_is_trained_and_measured(tmp_path):
    """Flow of u^2 - v^2 on each observed entry; the others stay zero."""
    np.save(tmp_path / "seen.npy", np.array([0.5, np.nan, -0.5]))
    np.save(tmp_path / "truth.npy", np.array([0.5, 2.0, -0.5]))
    observed = [
        "observations=file",
        f"observations.path={tmp_path}/seen.npy",
        f"observations.ground_truth={tmp_path}/truth.npy",
    ]
    for name in ("diagonal", "linear"):
        job = [f"factorization={name}", "depth='2'", "init=constant", "init.scale=0.1", "lr.eta=0.1", "metrics=vector"]
        (outcome,) = trained(tmp_path / name, [*job, *observed, "stop_loss=1e-12", "engine=reference"])
        row = results.read_trace(outcome.folder).row(-1, named=True)
        assert outcome.status == "converged" and outcome.summary["notes"].keys() <= {"observations"}
        assert [row[f"entry/{i}"] for i in range(3)] == pytest.approx([0.5, 0, -0.5], abs=1e-5)
        assert row["norm/l1"] == pytest.approx(1, abs=1e-5) and row["norm/l2"] == pytest.approx(0.5**0.5, abs=1e-5)
        assert row["error/reconstruction"] == pytest.approx(2, abs=1e-5)
        assert row["error/reconstruction_relative"] == pytest.approx(2 / 4.5**0.5, abs=1e-5)


@pytest.mark.slow
def test_a_small_diagonal_start_finds_the_solution_of_least_l1_norm(tmp_path):
    """Woodworth et al. 2020, Theorem 1; the least norm is that of a linear program."""
    sensing = ["observations=sensing", "observations.dims=[20]", "observations.count=10", "observations.rank=2"]
    job = ["factorization=diagonal", "depth=2", "init=constant", "metrics=vector", "lr.eta=1e-3", "stop_loss=1e-12"]
    swept = "hydra.sweep.dir=sweep"
    done = rankward(
        "-m", *job, *sensing, "init.scale=1e-6,1", "max_iterations=1000000", "logger=none", swept, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    excess = []
    for folder in results.run_folders(tmp_path / "sweep"):
        arrays = results.read_factors(folder)
        rows, values = arrays["observations.matrices"].numpy(), arrays["observations.values"].numpy()
        least = linprog(np.ones(40), A_eq=np.hstack([rows, -rows]), b_eq=values, bounds=(0, None)).fun
        excess.append(np.abs(arrays["product"].numpy()).sum() / least - 1)
        assert json.loads((folder / "summary.json").read_text())["engine"] == "fused"
    assert -1e-5 < excess[0] < 0.02 and excess[1] > 0.1


RUNS = [
    "factorization=symmetric,residual,nonlinear,diagonal depth=2", "factorization=nonlinear factorization.activation=tanh,relu",
    "factorization=tucker factorization.ranks=1,[2,2,2] observations=tensor_order3 observations.dims=[3,3,3] "
    "observations.count=10 metrics=tensor lr=adaptive",
    "factorization=linear,diagonal observations=sensing observations.dims=[6] observations.count=4 metrics=vector",
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("arguments", RUNS)
def test_the_command_line_sweeps_and_tables_each_on_the_compiled_engine(tmp_path, arguments):
    common = ["init.scale=0.1", "lr.eta=1e-2", "max_iterations=500", "logger=none"]
    done = rankward("-m", *arguments.split(), *common, "hydra.sweep.dir=sweep", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summaries = [
        json.loads((folder / "summary.json").read_text()) for folder in results.run_folders(tmp_path / "sweep")
    ]
    assert [summary["engine"] for summary in summaries] == ["fused"] * len(summaries)
    done = rankward("-m", *arguments.split(), *common, "results=table", "hydra.sweep.dir=table", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    losses = [load(tmp_path / name).runs["loss"].to_list() for name in ("sweep", "table")]
    assert sorted(losses[0]) == sorted(losses[1]) and len(losses[0]) == len(summaries) >= 2
