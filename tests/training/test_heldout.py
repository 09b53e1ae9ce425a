"""Runs with held-out entries: errors recomputed with NumPy, training that does not see them, files and resuming."""

import json

import numpy as np
import polars as pl
import pytest

from helpers.in_process import rankward
from helpers.runs import contents, interrupted_after, trained
from rankward import load, results
from rankward.observations import random_matrix
from rankward.theory import heldout

SHORT = ["depth='2'", "init.scale=1e-2", "lr.eta=1e-2", "max_iterations=300", "engine=reference"]
MATRIX = [
    *SHORT,
    "observations=random_matrix",
    "observations.dims=[5,4]",
    "observations.rank=1",
    "observations.count=14",
]
TENSOR = ["factorization=tensor", "observations=tensor_order3", "observations.dims=[3,4,2]", "metrics=tensor"]
TENSOR += ["observations.count=18", "lr=adaptive", "init.scale=1e-2", "max_iterations=300", "engine=reference"]
TENSOR += ["metrics.columns.cp_rank=null"]
HELD = "observations.holdout=4"
COLUMNS = ["error/heldout_rmse", "error/observed_rmse", "error/unobserved_rmse"]


def rmse(difference, mask):
    return np.sqrt(np.mean(difference[mask] ** 2))


@pytest.mark.parametrize("task", [MATRIX, TENSOR], ids=["matrix", "tensor"])
def test_errors_and_the_best_row_are_recomputed(tmp_path, task):
    trained(tmp_path, [*task, HELD])
    arrays = {name: array.astype(float) for name, array in results.read_arrays(tmp_path / "0").items()}
    seen, held = arrays["observations.mask"] > 0, arrays["heldout.mask"] > 0
    assert held.sum() == 4 and not (seen & held).any()
    trace, summary = results.read_trace(tmp_path / "0"), results.read_summary(tmp_path / "0")
    last = trace[-1].to_dicts()[0]
    product, truth = arrays["product"], arrays["ground_truth"]
    assert last["error/heldout_rmse"] == pytest.approx(rmse(product - arrays["heldout.values"], held), rel=1e-12)
    assert last["error/observed_rmse"] == pytest.approx(rmse(product - arrays["observations.values"], seen), rel=1e-12)
    assert last["error/unobserved_rmse"] == pytest.approx(rmse(product - truth, ~(seen | held)), rel=1e-12)
    assert last["error/reconstruction"] == pytest.approx(np.linalg.norm(product - truth), rel=1e-12)
    part, column = summary["heldout"], trace["error/heldout_rmse"].to_numpy()
    assert part["entries"] == 4 and part["best_rmse_chosen_on_heldout"] == column.min()
    assert part["best_iteration_chosen_on_heldout"] == trace["iteration"][int(column.argmin())]
    assert part["baselines"]["zero"] == pytest.approx(rmse(arrays["heldout.values"], held), rel=1e-12)
    assert summary["metrics"]["error/heldout_rmse"] == column[-1]


def test_without_held_out_entries_nothing_is_added(tmp_path):
    trained(tmp_path, MATRIX)
    summary = results.read_summary(tmp_path / "0")
    assert not {*COLUMNS} & {*results.read_trace(tmp_path / "0").columns} and "heldout" not in summary
    assert not [name for name in results.read_arrays(tmp_path / "0") if name.startswith("heldout")]


def test_a_file_without_the_entries_trains_to_the_same_bits(tmp_path):
    """And so does one with other values there: nothing of a held-out value reaches the factors."""
    given = random_matrix((5, 4), 1, 14)
    np.save(tmp_path / "all.npy", np.where(given.mask, given.values, np.nan))
    task = [*SHORT, "observations=file"]
    trained(tmp_path / "a", [*task, f"observations.path={tmp_path}/all.npy", HELD])
    whole = results.read_arrays(tmp_path / "a" / "0")
    held = whole["heldout.mask"]
    np.save(tmp_path / "few.npy", np.where(held, np.nan, np.where(given.mask, given.values, np.nan)))
    np.save(tmp_path / "other.npy", np.where(held, 7.0, np.where(given.mask, given.values, np.nan)))
    trained(tmp_path / "b", [*task, f"observations.path={tmp_path}/few.npy"])
    trained(tmp_path / "c", [*task, f"observations.path={tmp_path}/other.npy", HELD])
    for name in ("b", "c"):
        other = results.read_arrays(tmp_path / name / "0")
        kept = [key for key in whole if not key.startswith("heldout")]
        assert all(whole[key].tobytes() == other[key].tobytes() for key in kept)
        for column in ("loss", "norm/nuclear"):
            one, two = (results.read_trace(tmp_path / run / "0")[column].to_list() for run in ("a", name))
            assert one == two
    assert (results.read_arrays(tmp_path / "c" / "0")["heldout.values"][held] == 7).all()


def test_a_run_has_the_same_bits_alone_and_beside_other_splits(tmp_path):
    jobs = [[*MATRIX, HELD, f"observations.holdout_seed={seed}"] for seed in (0, 1)]
    jobs += [[*MATRIX, "observations.holdout=6", "seed=1"]]
    trained(tmp_path / "all", *jobs)
    for index, job in enumerate(jobs):
        trained(tmp_path / str(index), job)
        assert contents(tmp_path / "all" / str(index)) == contents(tmp_path / str(index) / "0")


def test_rows_measured_in_blocks_have_the_same_errors(tmp_path, monkeypatch):
    trained(tmp_path / "a", [*MATRIX, HELD, "record.every=50"])
    monkeypatch.setattr("rankward.metrics.collection.BLOCK_BYTES", 1)
    trained(tmp_path / "b", [*MATRIX, HELD, "record.every=50"])
    assert contents(tmp_path / "a" / "0") == contents(tmp_path / "b" / "0")


def test_an_interrupted_run_goes_on_to_the_same_bits(tmp_path, monkeypatch):
    trained(tmp_path / "whole", [*MATRIX, HELD])
    with monkeypatch.context() as patched:
        interrupted_after(patched, 1)
        (ended,) = trained(tmp_path / "parts", [*MATRIX, HELD])
    assert ended.status == "interrupted" and "heldout" in ended.summary
    trained(tmp_path / "parts", [*MATRIX, HELD], ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "whole" / "0")


def test_a_diverged_run_chooses_no_row_that_is_not_finite(tmp_path):
    (ended,) = trained(tmp_path, [*MATRIX, HELD, "lr.eta=50", "check_every=1"])
    assert ended.status == "diverged" and np.isfinite(ended.summary["heldout"]["best_rmse_chosen_on_heldout"])
    assert isinstance(ended.summary["heldout"]["best_iteration_chosen_on_heldout"], int)


@pytest.mark.parametrize("kind", ["folders", "table"])
def test_a_sweep_shows_errors_beside_simple_predictions(tmp_path, kind, monkeypatch):
    computed = []
    errors = heldout._errors
    monkeypatch.setattr(heldout, "_errors", lambda measurement: computed.append(1) or errors(measurement))
    task = [each.replace("'", "") for each in MATRIX]
    done = rankward(
        *["-m", *task, "observations.holdout=2,5", "observations.holdout_seed=0,1", "depth=1,2", "seed=0,1"],
        *["logger=none", f"results={kind}", "hydra.sweep.dir=s", f"observations.seed={7 + len(kind)}"],
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    assert len(computed) == 4  # sets of observations, of 16 runs in two ensembles
    head = next(line for line in done.stdout.splitlines() if line.startswith("setting "))
    names = ["zero", "mean", "row_means", "column_means", "least_nuclear"]
    shown = "  ".join(f"RMSE of {name}" for name in names)
    assert head.endswith(f"error/heldout_rmse  {shown}"), head
    lines = [line for line in done.stdout.splitlines() if line.startswith("depth=")]
    assert len(lines) == 4, done.stdout  # a split is a draw: its seed makes no setting
    sweep = load(tmp_path / "s")
    part = sweep.runs.filter(pl.col("observations.holdout") == 5, pl.col("depth.layers") == 2)
    (line,) = [line for line in lines if "holdout=5" in line and "depth=2" in line]
    wanted = ["error/heldout_rmse", *(f"heldout.baselines.{name}" for name in names)]
    assert line.split()[-6:] == [f"{part[name].median():.3g}" for name in wanted]
    assert sweep.runs["observations.holdout_seed"].to_list() == [0, 0, 1, 1] * 4
    assert {*COLUMNS} <= {*sweep.traces().collect_schema().names()}
    if kind == "table":
        assert "heldout.mask" in json.dumps(sorted(_names(tmp_path / "s" / "factors" / "0.safetensors")))


def _names(file):
    from safetensors import safe_open

    with safe_open(file, "np") as arrays:
        return list(arrays.keys())
