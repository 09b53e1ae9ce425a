"""A run ends early at `max_seconds`, and goes on from its checkpoint to the bits of a run without that limit."""

import shutil

import pytest

from helpers.commands import computed
from helpers.in_process import assert_refused, command_line, rankward
from helpers.runs import LONG, composed, contents, trained
from rankward import results
from rankward.config import config_hash

NOW = "max_seconds=1e-9"  # the end of the first chunk


def test_limit_ends_a_run_after_a_chunk_and_resuming_gives_the_bits_of_one_without(tmp_path):
    (unlimited,) = trained(tmp_path / "a", LONG)
    (limited,) = trained(tmp_path / "b", [*LONG, NOW])
    assert limited.status == "max_seconds" and limited.summary["iterations"] < unlimited.summary["iterations"]
    assert not limited.failed and not results.is_complete(tmp_path / "b" / "0")
    assert limited.summary["stop"]["max_seconds"] == 1e-9 and "max_seconds" not in unlimited.summary["stop"]
    checkpoint = tmp_path / "b" / "0" / "checkpoint.ckpt"
    (resumed,) = trained(tmp_path / "b", [*LONG, "max_seconds=1000"], ckpt_path=checkpoint)
    assert resumed.status == unlimited.status and not checkpoint.exists()
    assert contents(tmp_path / "b" / "0") == contents(tmp_path / "a" / "0")


def test_a_limit_that_is_not_reached_changes_no_hash_and_no_bit(tmp_path):
    trained(tmp_path, LONG, [*LONG, "seed=1"])
    (limited,) = trained(tmp_path / "limited", [*LONG, "max_seconds=1000"])
    assert contents(tmp_path / "limited" / "0") == contents(tmp_path / "0")
    assert limited.summary["config_hash"] == config_hash(composed("logger=none", *LONG)[1])


def test_runs_that_have_ended_keep_their_status(tmp_path):
    ended, other = trained(tmp_path, [*LONG, NOW, "max_iterations=50"], [*LONG, NOW])
    assert (ended.status, other.status) == ("max_iterations", "max_seconds")


@pytest.mark.slow
def test_a_sweep_goes_on_with_its_other_ensembles_and_resumes(tmp_path):
    sweep = ["-m", "depth=2,3", "seed=0,1", "logger=none", "max_iterations=2000", "hydra.sweep.dir=s"]
    limited = rankward(*sweep, NOW, cwd=tmp_path)
    assert limited.returncode == 0, limited.stderr
    head, *rows = limited.stdout[limited.stdout.index("setting") :].splitlines()[:3]
    assert head.split()[1:5] == ["runs", "converged", "failed", "max_seconds"]
    assert [row.split()[1:5] for row in rows] == [["2", "0", "0", "2"]] * 2
    status = rankward("status", "s", cwd=tmp_path)
    assert "runs 0, 1, 2, 3: max_seconds; a checkpoint has what was done" in status.stdout
    shutil.copytree(tmp_path / "s", tmp_path / "copy")
    resumed = rankward(*sweep, cwd=tmp_path)
    assert resumed.returncode == 0 and len(results.run_checkpoints(tmp_path / "s")) == 0, resumed.stderr
    assert rankward(*sweep[:-1], "hydra.sweep.dir=whole", cwd=tmp_path).returncode == 0
    assert computed(tmp_path / "s") == computed(tmp_path / "whole") != computed(tmp_path / "copy")
    runs = results.read_runs(tmp_path / "s")
    assert runs is not None and "max_seconds" not in runs.columns


def test_a_table_has_no_limit(tmp_path):
    refused = command_line("-m", "seed=0,1", "results=table", "max_seconds=5", "logger=none", cwd=tmp_path)
    assert_refused(refused, "max_seconds: 5.0 is not allowed; expected null with results=table")
