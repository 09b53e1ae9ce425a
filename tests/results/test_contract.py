"""The output contract's files: whole, repeatable, readable, and torn ones told."""

import errno
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from helpers.commands import small_disk
from rankward import results

TRACE = {"iteration": np.array([0, 50]), "loss": np.array([1.0, np.nan]), "norm/nuclear": np.array([0.1, 0.2])}
FACTORS = {"initial.0": np.eye(2), "final.0": np.ones((2, 2)), "observations.mask": np.eye(2, dtype=bool)}
SUMMARY = {"status": "converged", "iterations": 50, "metrics": {"loss": float("nan")}}


def write(folder):
    results.write_run(folder, trace=TRACE, factors=FACTORS, summary=SUMMARY)


def test_round_trip(tmp_path):
    write(tmp_path)
    trace, factors = results.read_trace(tmp_path), results.read_factors(tmp_path)
    assert trace.columns == list(TRACE)
    for name, column in TRACE.items():
        np.testing.assert_array_equal(trace[name].to_numpy(), column)
    for name, array in FACTORS.items():
        np.testing.assert_array_equal(factors[name].numpy(), array)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "converged"
    assert results.is_complete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors.safetensors", "summary.json", "trace.parquet"]


def test_the_same_run_is_the_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name)
    for file in ("trace.parquet", "factors.safetensors", "summary.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", ["trace.parquet", "factors.safetensors", "summary.json"])
def test_torn_files_are_errors(tmp_path, file):
    write(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    read = {"trace.parquet": results.read_trace, "factors.safetensors": results.read_factors}.get(
        file, results.read_summary
    )
    with pytest.raises(results.ResultsError, match=file):
        read(tmp_path)
    if file == "summary.json":
        assert not results.is_complete(tmp_path)


def test_a_missing_piece_is_not_a_complete_run(tmp_path):
    write(tmp_path)
    (tmp_path / "trace.parquet").unlink()
    assert not results.is_complete(tmp_path)


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path):
    write(tmp_path)
    before = (tmp_path / "summary.json").read_bytes()

    def full(path):
        path.write_text("half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(results.ResultsError, match=r"cannot write .*summary\.json: No space left on device"):
        results.write_atomic(tmp_path / "summary.json", full)
    assert (tmp_path / "summary.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(results.ResultsError, match="run"):
        write(tmp_path / "run")


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    with small_disk(tmp_path / "disk", "64k") as disk:
        with pytest.raises(
            results.ResultsError, match=r"cannot write .*factors\.safetensors: No space left on device$"
        ):
            results.write_run(
                disk / "run",
                trace=TRACE,
                factors={"final.0": np.random.default_rng(0).random((200, 200))},
                summary=SUMMARY,
            )
        assert not results.is_complete(disk / "run")
        assert not list((disk / "run").iterdir())


def test_jobs_come_in_their_order(tmp_path):
    for job in (0, 1, 2, 10, 11):
        (tmp_path / str(job) / ".hydra").mkdir(parents=True)
        (tmp_path / str(job) / ".hydra" / "config.yaml").write_text("seed: 0\nlr: {name: constant, eta: 0.1}\n")
        (tmp_path / str(job) / ".hydra" / "overrides.yaml").write_text("- lr.eta=0.1\n")
    write(tmp_path / "10")
    assert [folder.name for folder in results.run_folders(tmp_path)] == ["0", "1", "2", "10", "11"]
    table = results.gather(tmp_path)
    assert table["status"].to_list() == ["missing"] * 3 + ["converged", "missing"]
    assert table["lr.eta"].to_list() == [0.1] * 5
    with pytest.raises(results.ResultsError, match="no runs"):
        results.gather(tmp_path / "nowhere")


def job(sweep, name, config="seed: 0\n", overrides="- seed=0\n"):
    (sweep / name / ".hydra").mkdir(parents=True)
    (sweep / name / ".hydra" / "config.yaml").write_text(config)
    (sweep / name / ".hydra" / "overrides.yaml").write_text(overrides)
    return sweep / name


def test_failed_rewrite_leaves_the_old_run_complete(tmp_path):
    write(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(TypeError, match="object"):
        results.write_run(tmp_path, trace=TRACE, factors={}, summary={"status": object()})
    (tmp_path / "summary.json").unlink()
    (tmp_path / "summary.json").mkdir()  # cannot be renamed upon
    with pytest.raises(results.ResultsError):
        write(tmp_path)
    for name in ("trace.parquet", "factors.safetensors"):
        assert (tmp_path / name).read_bytes() == before[name]
    assert len(list(tmp_path.iterdir())) == 3


def test_old_summary_never_marks_new_files_as_complete(tmp_path, monkeypatch):
    write(tmp_path)
    done = []
    real = os.replace

    def second_fails(source, target):
        done.append(target)
        if len(done) == 2:
            raise OSError(errno.EIO, "Input/output error")
        real(source, target)

    monkeypatch.setattr(os, "replace", second_fails)
    with pytest.raises(results.ResultsError, match=r"factors\.safetensors: Input/output error"):
        write(tmp_path)
    assert not results.is_complete(tmp_path)


def test_an_interruption_leaves_no_temporary_file(tmp_path):
    def interrupted(path):
        path.write_text("half of")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        results.write_atomic(tmp_path / "file", interrupted)
    assert not list(tmp_path.iterdir())


def test_files_have_the_permissions_that_the_user_asks_for(tmp_path):
    before = os.umask(0o077)
    try:
        write(tmp_path)
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}


def test_columns_and_types_of_the_contract(tmp_path):
    trace = {"norm/b": np.float32([1, 2]), "loss": np.float32([1, 2]), "norm/a": [0, 1], "iteration": np.int32([0, 50])}
    results.write_run(tmp_path, trace=trace, factors={"a": torch.ones(2, 3).T, "b": np.float64(1)}, summary=SUMMARY)
    read = results.read_trace(tmp_path)
    assert read.columns == ["iteration", "loss", "norm/b", "norm/a"]
    assert [str(kind) for kind in read.dtypes] == ["Int64", "Float64", "Float64", "Float64"]
    assert results.read_factors(tmp_path)["a"].shape == (3, 2) and results.read_arrays(tmp_path)["b"].shape == ()
    assert np.isnan(results.read_summary(tmp_path)["metrics"]["loss"])


def test_a_folder_named_like_a_pattern(tmp_path):
    write(tmp_path / "dims=[3,3]*")
    assert len(results.read_trace(tmp_path / "dims=[3,3]*")) == 2


def test_one_torn_job_does_not_hide_the_others(tmp_path):
    job(tmp_path, "0", config="seed: [1,\n")
    (job(tmp_path, "1") / ".hydra" / "overrides.yaml").unlink()
    write(job(tmp_path, "2", "seed: 0\nengine: auto\nlr: {eta: 1}\nfactorization: {hidden: [2, 2]}\n"))
    write(job(tmp_path, "3", "seed: 1\nlr: {eta: 0.5}\nfactorization: {hidden: 2}\n"))
    (tmp_path / "3" / "trace.parquet").unlink()
    table = results.gather(tmp_path)
    assert table["job"].to_list() == [0, 1, 2, 3]
    assert table["status"].to_list() == ["missing", "missing", "converged", "missing"]
    assert table["lr.eta"].to_list() == [None, None, 1.0, 0.5]
    assert table["factorization.hidden"].to_list() == [None, None, "[2, 2]", "2"]
    assert "engine" not in table.columns  # the one asked for is not the one that ran
    first = results.write_runs(tmp_path).read_bytes()
    assert results.write_runs(tmp_path).read_bytes() == first


def test_named_jobs_come_in_the_order_of_their_numbers(tmp_path):
    for name in ("run10", "run9", "run1"):
        job(tmp_path, name)
    assert [folder.name for folder in results.run_folders(tmp_path)] == ["run1", "run9", "run10"]
    assert results.gather(tmp_path)["job"].to_list() == [None] * 3


def test_a_config_reads_as_omegaconf_reads_it(tmp_path):
    from omegaconf import OmegaConf

    text = OmegaConf.to_yaml(
        OmegaConf.create({"a": 1e-05, "b": "1e-5", "c": None, "d": "${a}", "e": [True, "no"], "f": 3})
    )
    folder = job(tmp_path, "0", text)
    assert results.read_config(folder) == {"a": 1e-05, "b": "1e-5", "c": None, "d": 1e-05, "e": [True, "no"], "f": 3}


def test_importing_it_is_light():
    code = "import sys, rankward.results; print([m for m in ('numpy', 'polars', 'torch', 'safetensors') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_temporary_files_of_killed_writers_are_removed(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    dead, alive = (tmp_path / f".file.{pid}-0123abcd.tmp" for pid in (process.pid, os.getppid()))
    other = tmp_path / f".other.{process.pid}-0123abcd.tmp"
    for path in (dead, alive, other):
        path.write_text("half of")
    results.write_atomic(tmp_path / "file", lambda path: path.write_text("whole"))
    assert {path.name for path in tmp_path.iterdir()} == {"file", alive.name, other.name}
