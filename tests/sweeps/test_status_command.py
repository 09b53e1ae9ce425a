"""Status and the sweep's table: compared by what summaries say, and told where nothing can be written."""

import os
import subprocess
from types import SimpleNamespace

import polars as pl
import pytest
import torch

from helpers.commands import small_disk
from helpers.runs import composed
from rankward import results
from rankward.config import config_hash
from rankward.results.load import load
from rankward.sweeps.directory import SWEEP
from rankward.sweeps.execution.ensembles import Job, find_checkpoints
from rankward.sweeps.status_command import show_status
from rankward.training.checkpoints import HASHES


def began(sweep, job):
    (sweep / str(job) / ".hydra").mkdir(parents=True)
    (sweep / str(job) / ".hydra" / "config.yaml").write_text(f"seed: {job}\n")
    (sweep / str(job) / ".hydra" / "overrides.yaml").write_text(f"- seed={job}\n")
    (sweep / SWEEP).write_text("figures: []\nlogger: {}\nhydra: {}\n")


def ended(sweep, job, seconds=1.0):
    """As a run leaves its results, long ago: `cp -p` and `rsync -a` keep such times."""
    summary = {"status": "converged", "iterations": 50, "seconds": seconds, "metrics": {"loss": 0.5}}
    summary["config_hash"] = config_hash({"seed": job})
    results.write_run(sweep / str(job), trace={"iteration": [0], "loss": [0.5]}, factors={}, summary=summary)
    for path in (sweep / str(job)).iterdir():
        os.utime(path, (1e9, 1e9))


def test_runs_brought_in_with_older_times_are_found(tmp_path, capsys):
    for job in (0, 1):
        began(tmp_path, job)
    ended(tmp_path, 0)
    results.write_runs(tmp_path)
    assert load(tmp_path).runs["status"].to_list() == ["converged", "missing"]
    ended(tmp_path, 1)
    assert load(tmp_path).runs["status"].to_list() == ["converged", "converged"]
    assert show_status(tmp_path) == 0 and "table:" in capsys.readouterr().out
    assert pl.read_parquet(tmp_path / "runs.parquet")["status"].to_list() == ["converged", "converged"]
    assert show_status(tmp_path) == 0 and "table:" not in capsys.readouterr().out  # it is there already
    ended(tmp_path, 1, seconds=2.0)  # another attempt's, brought in over the first
    assert load(tmp_path).runs["seconds"].to_list() == [1.0, 2.0]
    os.utime(tmp_path / "0" / "summary.json")  # touched: still the same run
    assert results.read_runs(tmp_path) is None
    assert show_status(tmp_path) == 0
    assert results.read_runs(tmp_path)["seconds"].to_list() == [1.0, 2.0]


def test_table_has_runs_whose_folders_were_deleted(tmp_path):
    began(tmp_path / "s", 0)
    ended(tmp_path / "s", 0)
    table = tmp_path / "table"
    table.mkdir()
    results.write_runs(tmp_path / "s").rename(table / "runs.parquet")
    assert load(table).runs["seconds"].to_list() == [1.0]


@pytest.mark.parametrize("written", [True, False])
def test_a_complete_sweep_that_cannot_be_written_is_complete(tmp_path, capsys, written):
    with small_disk(tmp_path / "disk", "1m") as disk:
        sweep = disk / "s"
        began(sweep, 0)
        ended(sweep, 0)
        if written:
            results.write_runs(sweep)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert show_status(sweep) == 0
        said = capsys.readouterr().out
        assert "1 runs: 1 done" in said
        assert ("cannot be written here" in said) == (not written)
        assert load(sweep).runs["status"].to_list() == ["converged"]


def test_a_run_goes_on_from_where_it_is_furthest_whatever_the_files_times(tmp_path):
    reached = {"a": {"x": 10, "y": 40, "z": 5}, "b": {"x": 30, "y": 40}, "c": {"x": 20}}
    for age, (name, runs) in enumerate(reached.items()):
        path = tmp_path / name / results.CHECKPOINT
        path.parent.mkdir()
        state = {"progress_iteration": torch.tensor(list(runs.values()))}
        torch.save({HASHES: list(runs), "state_dict": state}, path)
        os.utime(path, (1e9 + age, 1e9 + age))  # the one that is written last is not the furthest
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / results.CHECKPOINT).write_bytes(b"PK")
    config, _ = composed()
    jobs = [Job(number, config, SimpleNamespace(digest=digest)) for number, digest in enumerate("xyzw")]
    find_checkpoints(jobs, [folder / results.CHECKPOINT for folder in tmp_path.iterdir()])
    # y is as far in a and b; b's runs are further together
    assert [job.checkpoint and job.checkpoint.parent.name for job in jobs] == ["b", "b", "a", None]
