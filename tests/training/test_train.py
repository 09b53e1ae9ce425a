"""Training end to end in this process: the contract, resuming, company, interruption, loggers."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
import wandb

from helpers.commands import wandb_records
from helpers.runs import LONG, QUICK, composed, contents, interrupted_after, trained
from rankward import __version__, results
from rankward.config import ConfigError, DataError
from rankward.training import callbacks
from rankward.training.checkpoints import HASHES, VERSION, checkpoint_of_runs
from rankward.training.ensemble import bytes_per_run
from rankward.training.module import EnsembleModule
from rankward.training.preflight import check, check_all, keep_for_training, prepare


def test_the_output_contract(tmp_path):
    (outcome,) = trained(tmp_path, QUICK)
    summary, trace = results.read_summary(tmp_path / "0"), results.read_trace(tmp_path / "0")
    factors = results.read_factors(tmp_path / "0")
    assert outcome.status == summary["status"] == "converged" and results.is_complete(tmp_path / "0")
    assert trace.columns[:2] == ["iteration", "loss"]
    assert trace["iteration"][0] == 0 and trace["iteration"][-1] == summary["iterations"]
    assert (trace["iteration"].to_numpy() % 50 == 0).all() and (np.diff(trace["iteration"].to_numpy()) > 0).all()
    assert trace["loss"][-1] < 1e-4 <= trace["loss"][-2]
    for name, value in summary["metrics"].items():
        np.testing.assert_equal(value, trace[name][-1], name)  # NaN is equal to NaN: a bound that says nothing
    assert {"engine", "device", "dtype", "config_hash", "versions", "seconds"} <= summary.keys()
    assert set(factors) == {
        *(f"{when}.{layer}" for when in ("initial", "final") for layer in (0, 1)),
        "product", "observations.mask", "observations.values",
    }  # fmt: skip
    product = factors["final.1"] @ factors["final.0"]
    torch.testing.assert_close(factors["product"], product, rtol=1e-14, atol=0)
    mask, values = factors["observations.mask"], factors["observations.values"]
    assert 0.5 * ((product - values)[mask] ** 2).sum().item() == pytest.approx(trace["loss"][-1], rel=1e-10)
    assert trace["entry/0_0"][-1] == pytest.approx(product[0, 0].item(), rel=1e-12)


TENSORS = ["observations=tensor_order3", "metrics=tensor", "max_iterations=200"]
KINDS = {
    "matrix": [*QUICK, "max_iterations=200"],
    "linear": ["factorization=linear", "max_iterations=200"],
    "linear, float32": ["factorization=linear", "dtype=float32", "lr=adaptive", "max_iterations=200"],
    "random": ["observations=random_matrix", "metrics=completion", "max_iterations=200"],
    "sensing": ["observations=sensing", "metrics=completion", "max_iterations=200"],
    "linear sensing": ["factorization=linear", "observations=sensing", "metrics=completion", "max_iterations=200"],
    "tensor": [*TENSORS, "factorization=tensor", "factorization.components=4"],
    "tensor, adaptive": [*TENSORS, "factorization=tensor", "factorization.components=4", "lr=adaptive"],
    "linear tensor": [*TENSORS, "factorization=linear", "lr=adaptive", "dtype=float32"],
    "linear tensor of order 4": [*TENSORS, "factorization=linear", "observations.dims=[2,3,2,2]", "observations.count=9"],
    "flow": ["lr=flow", "init=balanced", "max_iterations=2000"],
}  # fmt: skip


COMPILE_LONG = (
    "random",
    "tensor",
    "tensor, adaptive",
    "linear tensor",
    "linear tensor of order 4",
    "linear, float32",
    "linear sensing",
    "flow",
)  # kernels of their own: left to the slow tests


@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=[pytest.mark.slow] if kind in COMPILE_LONG else []) for kind in KINDS]
)
def test_every_kind_of_run_does_not_depend_on_the_ensemble(kind, tmp_path):
    jobs = [[*KINDS[kind], f"seed={seed}"] for seed in range(3)]
    trained(tmp_path / "together", *jobs)
    trained(tmp_path / "alone", jobs[2])
    assert contents(tmp_path / "together" / "2") == contents(tmp_path / "alone" / "0")


def test_replaying_the_run_from_its_files(tmp_path):
    trained(tmp_path, QUICK)
    factors, summary = results.read_factors(tmp_path / "0"), results.read_summary(tmp_path / "0")
    w_1, w_2 = factors["initial.0"].numpy(), factors["initial.1"].numpy()
    mask, values = factors["observations.mask"].numpy(), factors["observations.values"].numpy()
    for _ in range(summary["iterations"]):
        error = mask * (w_2 @ w_1 - values)
        w_1, w_2 = w_1 - 0.05 * w_2.T @ error, w_2 - 0.05 * error @ w_1.T
    np.testing.assert_allclose(w_2, factors["final.1"].numpy(), rtol=1e-9)


def test_bytes_do_not_depend_on_the_ensemble(tmp_path):
    jobs = [[*QUICK, f"seed={seed}", f"lr.eta={0.02 + 0.01 * seed}"] for seed in range(12)]
    trained(tmp_path / "together", *jobs)
    for seed in (0, 7):
        trained(tmp_path / f"alone{seed}", jobs[seed])
        assert contents(tmp_path / f"alone{seed}" / "0") == contents(tmp_path / "together" / str(seed))


@pytest.mark.parametrize("base", [["depth='2'"], [*TENSORS[:2], "factorization=tensor", "lr=adaptive"]])
def test_logged_rows_do_not_depend_on_company(tmp_path, monkeypatch, base):
    """Bounds that say nothing, and what is measured of last rows alone: the same text, with the trace's columns."""
    jobs = [[*base, f"seed={seed}", f"max_iterations={100 * 40**seed}"] for seed in range(2)]
    trained(tmp_path / "together", *jobs, logger="csv")
    for seed in range(2):
        trained(tmp_path / f"alone{seed}", jobs[seed], logger="csv")
        alone, together = tmp_path / f"alone{seed}" / "0", tmp_path / "together" / str(seed)
        logged = (alone / "csv" / "metrics.csv").read_text()
        assert (together / "csv" / "metrics.csv").read_text() == logged
        rows, trace = pl.read_csv(alone / "csv" / "metrics.csv"), results.read_trace(alone)
        assert set(rows.columns) - {"step"} == set(trace.columns) - {"iteration"} and len(rows) == len(trace)
    with monkeypatch.context() as patched:  # the first is done by then, and its last row measured
        interrupted_after(patched, 2)
        trained(tmp_path / "parts", *jobs)
        trained(tmp_path / "part", jobs[1])
    assert results.read_summary(tmp_path / "part" / "0")["status"] == "interrupted"
    parts = [results.read_trace(tmp_path / folder) for folder in ("parts/1", "part/0")]
    assert parts[0].columns == parts[1].columns


def test_runs_that_cannot_share_an_ensemble_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="dtype"):
        trained(tmp_path, QUICK, [*QUICK, "dtype=float32"])
    with pytest.raises(ConfigError, match="factorization"):
        trained(tmp_path, QUICK, [*QUICK, "depth='3'"])


@pytest.mark.parametrize("chunks", [1, 3])
def test_interrupted_run_resumes_to_the_same_bits(tmp_path, monkeypatch, chunks):
    trained(tmp_path / "whole", LONG)
    with monkeypatch.context() as patched:
        interrupted_after(patched, chunks)
        (outcome,) = trained(tmp_path / "parts", LONG)
    assert outcome.status == "interrupted" and not results.is_complete(tmp_path / "parts" / "0")
    assert 0 < outcome.summary["iterations"] < 200_000
    checkpoint = tmp_path / "parts" / "0" / results.CHECKPOINT
    (again,) = trained(tmp_path / "parts", LONG, ckpt_path=checkpoint)
    assert again.status == "max_iterations"
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "whole" / "0")
    assert not checkpoint.exists()


def test_an_ensemble_resumes_too(tmp_path, monkeypatch):
    jobs = [[*LONG, f"seed={seed}", f"max_iterations={seed * 30_000 + 100}"] for seed in range(4)]
    trained(tmp_path / "whole", *jobs)
    with monkeypatch.context() as patched:
        interrupted_after(patched, 4)
        outcomes = trained(tmp_path / "parts", *jobs)
    assert {o.status for o in outcomes} == {"max_iterations", "interrupted"}
    trained(tmp_path / "parts", *jobs, ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    for i in range(4):
        assert contents(tmp_path / "parts" / str(i)) == contents(tmp_path / "whole" / str(i))


def test_checkpoint_of_another_config_or_torn_one_is_refused(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        interrupted_after(patched, 1)
        trained(tmp_path, LONG)
    checkpoint = tmp_path / "0" / results.CHECKPOINT
    with pytest.raises(ConfigError, match="ckpt_path"):
        trained(tmp_path / "other", [*LONG, "seed=1"], ckpt_path=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ConfigError, match="ckpt_path"):
        trained(tmp_path / "torn", LONG, ckpt_path=checkpoint)


def test_log_has_each_line_once(tmp_path, monkeypatch):
    """An ensemble's runs have the same lines of its training, and each its own end; a checkpoint has a line."""
    interrupted_after(monkeypatch, 2)
    first, second = trained(tmp_path, LONG, [*LONG, "seed=1"])
    for outcome in (first, second):
        begin, saved, end = (outcome.folder / results.LOG).read_text().splitlines()
        assert begin.endswith("] trains: engine fused, float64, 2 runs side by side")
        total = first.summary["iterations"] + second.summary["iterations"]
        assert saved.endswith(f"] checkpoint {tmp_path / '0' / results.CHECKPOINT}: {total:,} iterations")
        assert f"] interrupted after {outcome.summary['iterations']:,} iterations, loss " in end


@pytest.mark.parametrize(("seconds", "every_chunk"), [("1e-9", True), ("1e9", False), ("null", False)])
def test_checkpoints_follow_their_interval(tmp_path, monkeypatch, seconds, every_chunk):
    saved, chunks, step = [], [], EnsembleModule.training_step
    monkeypatch.setattr(callbacks.pl.Trainer, "save_checkpoint", lambda self, path: saved.append(path))
    monkeypatch.setattr(EnsembleModule, "training_step", lambda *given: (chunks.append(1), step(*given))[1])
    trained(tmp_path, [*LONG, f"checkpoint.seconds={seconds}"])
    assert len(chunks) > 3 and (len(saved) >= len(chunks) - 2 if every_chunk else not saved)


def test_the_checked_ensemble_is_the_one_that_trains(tmp_path):
    path = tmp_path / "data.csv"
    path.write_text("0,0,1\n1,1,2\n", encoding="utf-8")
    job = ["logger=none", *QUICK, "observations=file", f"observations.path={path}", "init.determinant=any"]

    def run():
        return composed(*job)[0]

    checked = check(run())
    keep_for_training(checked)
    assert prepare([run()]) is checked and prepare([run()]) is not checked  # it trains once
    keep_for_training(checked)
    assert prepare([composed(*job, "seed=1")[0]]) is not checked and prepare([run()]) is not checked
    keep_for_training(checked)
    path.write_text("0,0,1\n1,1,2.5\n", encoding="utf-8")
    assert prepare([run()]) is not checked  # the data have changed


def test_diverged_run_does_not_affect_the_others(tmp_path):
    outcomes = trained(tmp_path, QUICK, [*QUICK, "lr.eta=1e3", "init.scale=10"], [*QUICK, "seed=5"])
    assert [o.status for o in outcomes] == ["converged", "diverged", "converged"]
    trace = results.read_trace(tmp_path / "1")
    assert trace["iteration"][-1] == outcomes[1].summary["iterations"] == 50
    assert not np.isfinite(trace["loss"][-1]) and np.isnan(trace["rank/effective"][-1])
    assert results.is_complete(tmp_path / "1")


def test_engines_agree(tmp_path):
    short = [*QUICK, "max_iterations=500"]
    trained(tmp_path, short)
    trained(tmp_path / "reference", [*short, "engine=reference"])
    fused, reference = results.read_trace(tmp_path / "0"), results.read_trace(tmp_path / "reference" / "0")
    assert fused.columns == reference.columns and results.read_summary(tmp_path / "0")["engine"] == "fused"
    for name in fused.columns:
        np.testing.assert_allclose(fused[name].to_numpy(), reference[name].to_numpy(), rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize(
    ("depth", "eta", "scale", "low", "high"),
    [("3", 6e-3, 1e-5, 70.4, 71.0), ("4", 3e-3, 1e-3, 70.4, 71.0), ("2", 6e-3, 1e-5, 7.4, 9.0)],
)
def test_figure_1_ends_where_the_paper_says(tmp_path, depth, eta, scale, low, high):
    job = [f"depth='{depth}'", f"lr.eta={eta}", f"init.scale={scale}", "init=balanced", "init.determinant=positive"]
    (outcome,) = trained(tmp_path, job)
    assert outcome.status == "converged"
    assert low < abs(outcome.summary["metrics"]["entry/0_0"]) < high


@pytest.mark.slow
def test_other_problems_run(tmp_path):
    for name, more in (
        ("dimensions", ["observations.dims=[4,6]"]),
        ("random_matrix", ["observations.dims=[5,4]", "observations.count=15"]),
        ("sensing", []),
        ("perturbed", []),
        ("repositioned", []),
    ):
        job = [f"observations={name}", *more, "max_iterations=100", "init.scale=0.1"]
        (outcome,) = trained(tmp_path / name, job)
        assert outcome.status == "max_iterations"
        assert outcome.summary["engine"] == "fused"
    assert "error/reconstruction" in results.read_trace(tmp_path / "random_matrix" / "0").columns
    assert "ground_truth" in results.read_factors(tmp_path / "sensing" / "0")


def test_observations_that_cannot_be_used_stop_before_anything_is_written(tmp_path):
    with pytest.raises(DataError, match=r"observations\.path"):
        trained(tmp_path, ["observations=file", "observations.path=nowhere.csv"])
    assert not (tmp_path / "0").exists()


def test_data_note_is_printed_once_and_recorded(tmp_path, capsys):
    path = tmp_path / "ratings.csv"
    path.write_text("1,1,5\n1,2,3\n2,1,4\n")
    jobs = [
        [
            "observations=file",
            f"observations.path={path}",
            "observations.dims=[3,3]",
            "max_iterations=100",
            f"seed={seed}",
        ]
        for seed in range(2)
    ]
    for _ in range(2):
        assert check_all([composed("logger=none", *job)[0] for job in jobs]) == {}
        check(composed("logger=none", *jobs[0])[0])
    note = f"observations.path: '{path}': 3 entries of 3 x 3, values from 3 to 5; no entry in row 0 and column 0"
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"rankward: {note}: indices count from 0, and these seem to start from 1")
    for outcome in trained(tmp_path, *jobs):
        assert outcome.summary["notes"]["observations"] == line.removeprefix("rankward: ")
        assert results.read_summary(outcome.folder)["notes"] == outcome.summary["notes"]
    assert "observations" not in trained(tmp_path / "made", ["max_iterations=100"])[0].summary["notes"]


def test_a_wandb_run_holds_the_trace(tmp_path):
    trained(tmp_path, [*QUICK, "logger.wandb.tags=[mine]"], logger="wandb")
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    records = wandb_records(run)
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    trace = results.read_trace(tmp_path / "0")
    assert len(history) == len(trace)
    for name in trace.columns:
        logged = [float(row.get(name, "nan") if name.startswith("bound/") else row[name]) for row in history]
        np.testing.assert_array_equal(logged, trace[name].to_numpy())
    (start,) = [record["run"] for record in records if record["type"] == "run"][:1]
    assert start["run_group"] == "sweep" and "mine" in start["tags"] and "depth=2" in start["tags"]
    assert start["config"]["update"]["lr"] == {"name": "constant", "eta": 0.05}
    axes = [record["metric"] for record in records if record["type"] == "metric"]
    assert any(axis.get("glob_name") == "*" and axis.get("step_metric") == "iteration" for axis in axes)
    summaries = [record["summary"]["update"] for record in records if record["type"] == "summary"]
    assert any(update.get("status") == "converged" for update in summaries)
    assert [record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit"] == [0]


def test_resumed_wandb_run_is_complete_and_replaces_the_first(tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        interrupted_after(patched, 2)
        trained(tmp_path, LONG, logger="wandb")
    (first,) = (tmp_path / "wandb").glob("offline-run-*")
    assert next(r["exit"]["exit_code"] for r in wandb_records(first) if r["type"] == "exit") == 1
    trained(tmp_path, LONG, logger="wandb", ckpt_path=tmp_path / "0" / results.CHECKPOINT)
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    logged = [r["history"]["item"]["iteration"] for r in wandb_records(run) if r["type"] == "history"]
    assert logged == results.read_trace(tmp_path / "0")["iteration"].to_list()
    assert run.name.split("-")[-1] == first.name.split("-")[-1]


def test_wandb_runs_of_an_ensemble_do_not_mix(tmp_path):
    jobs = [[*QUICK, "seed=1"], [*QUICK, "lr.eta=1e3", "init.scale=10"]]
    outcomes = trained(tmp_path, *jobs, logger="wandb")
    ends = {}
    for run in (tmp_path / "wandb").glob("offline-run-*"):
        records = wandb_records(run)
        name = next(record["run"]["display_name"] for record in records if record["type"] == "run")
        history = [record["history"]["item"]["iteration"] for record in records if record["type"] == "history"]
        code = next(record["exit"].get("exit_code", 0) for record in records if record["type"] == "exit")
        ends[name] = (history[-1], code)
    assert ends == {"run 0": (outcomes[0].summary["iterations"], 0), "run 1": (50, 1)}


def test_unwritable_wandb_run_is_an_error_of_that_run(tmp_path, monkeypatch):
    trained(tmp_path / "first", QUICK, logger="wandb")  # W&B's process stands in the folder of these tests
    monkeypatch.chdir(tmp_path)
    init = wandb.init

    def astray(**options):  # a folder that W&B's process does not find: it goes on without a word
        return init(**{**options, "dir": Path(options["dir"]).name if options["name"] == "run 0" else options["dir"]})

    (tmp_path / "sweep").mkdir()
    monkeypatch.setattr(wandb, "init", astray)
    outcomes = trained(tmp_path / "sweep", [*QUICK, "seed=0"], [*QUICK, "seed=1"], logger="wandb")
    assert "W&B has not written its run" in str(outcomes[0].error) and outcomes[1].error is None
    assert all(results.is_complete(tmp_path / "sweep" / run) for run in "01")  # no result is lost with its log
    assert [(tmp_path / "sweep" / run / results.UNLOGGED).is_file() for run in "01"] == [True, False]
    monkeypatch.undo()
    (tmp_path / "alone").mkdir()
    with monkeypatch.context() as patched:
        patched.chdir(tmp_path)
        patched.setattr(wandb, "init", astray)
        (outcome,) = trained(tmp_path / "alone", QUICK, logger="wandb")
    assert "W&B has not written its run" in str(outcome.error) and results.is_complete(tmp_path / "alone" / "0")


def test_csv_and_tensorboard(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trained(tmp_path, QUICK, logger="[csv,tensorboard]")
    trace = results.read_trace(tmp_path / "0")
    logged = pl.read_csv(tmp_path / "0" / "csv" / "metrics.csv")
    np.testing.assert_allclose(logged["norm/nuclear"].to_numpy(), trace["norm/nuclear"].to_numpy(), rtol=1e-6)
    events = EventAccumulator(str(tmp_path / "0" / "tensorboard"))
    events.Reload()
    scalars = events.Scalars("loss")
    assert [event.step for event in scalars] == trace["iteration"].to_list()


def test_tasks_resume_from_parts_of_one_checkpoint(tmp_path):
    """Two tasks that go on from some of its runs each, at the same time."""
    state = {"state_dict": {"factor": torch.arange(4.0)}, "trace": {}, HASHES: list("abcd"), VERSION: __version__}
    torch.save(state, tmp_path / "checkpoint.ckpt")
    with checkpoint_of_runs(tmp_path / "checkpoint.ckpt", ["a", "b"]) as one:
        with checkpoint_of_runs(tmp_path / "checkpoint.ckpt", ["c"]) as other:
            held = [torch.load(path)["state_dict"]["factor"].tolist() for path in (one, other)]
            assert held == [[0.0, 1.0], [2.0]]
        assert one.is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.ckpt"]


def test_the_measurements_of_sensing_count_as_memory():
    sensing = ["observations=sensing", "observations.dims=[50,50]", "metrics=matrix"]
    few, many = (bytes_per_run(composed(*sensing, f"observations.count={count}")[0]) for count in (10, 1010))
    assert many - few >= 1000 * 50 * 50 * 8
