"""Tasks of a cluster leave the bytes of one machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from commands import computed, rankward

SWEEP = ("-m", "seed=0,1,2,3", "max_iterations=2000", "logger=none")


@pytest.mark.slow
def test_tasks_of_this_machine_leave_the_bytes_of_one_process(tmp_path: Path) -> None:
    there = rankward(*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.poll=0.5",
                     "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    here = rankward(*SWEEP, "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    assert len(computed(tmp_path / "there")) == 8 and computed(tmp_path / "there") == computed(tmp_path / "here")


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    both = rankward(*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.runs_per_task=1",
                    "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    assert both.returncode == 2 and "hydra.launcher.tasks: 2" in both.stderr.splitlines()[-1]
    assert not (tmp_path / "there").exists()


@pytest.mark.slow
def test_a_sweep_left_to_its_tasks_is_gathered_by_status_and_goes_on_elsewhere(tmp_path: Path) -> None:
    """One task is killed: status says whose runs are missing, and another launcher does them."""
    slow = ("-m", "seed=0,1", "lr.eta=1e-9", "max_iterations=1_000_000_000", "logger=none")
    local = ("hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.wait=false")
    command = [sys.executable, "-m", "rankward", *slow, *local, "hydra.sweep.dir=there"]
    with (tmp_path / "out").open("w") as out:  # not a pipe, which would wait for the tasks as well
        assert subprocess.run(command, cwd=tmp_path, stdout=out, timeout=60).returncode == 0
    assert "rankward status there" in (tmp_path / "out").read_text()
    tasks = json.loads((tmp_path / "there" / "tasks.json").read_text())["tasks"]
    told = rankward("status", "there", cwd=tmp_path)
    assert told.returncode == 0 and "2 runs: 0 done, 2 running, 0 pending, 0 stopped" in told.stdout, told.stdout
    victim = next(task for task, runs in tasks.items() if runs == ["1"])
    _kill(int(victim))
    end = time.monotonic() + 60
    while ": running, " in (told := rankward("status", "there", cwd=tmp_path)).stdout and time.monotonic() < end:
        pass
    assert told.returncode == 1 and "1 done, 0 running, 0 pending, 1 stopped" in told.stdout, told.stdout
    assert f"run 1: task {victim} ended before the run was complete" in told.stdout and "table:" in told.stdout
    done = rankward("resume", "there", "hydra/launcher=batched", cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count("complete, kept") == 1, done.stderr
    assert "2 done" in rankward("status", "there", cwd=tmp_path).stdout


def _kill(process: int) -> None:
    """A task with what it has started."""
    children = subprocess.run(["pgrep", "-P", str(process)], capture_output=True, text=True).stdout.split()
    os.kill(process, signal.SIGKILL)
    for child in children:
        _kill(int(child))


def test_rounds_of_refinement_wait_for_their_tasks(tmp_path: Path) -> None:
    refused = rankward("-m", "hydra/sweeper=refine", "hydra/launcher=submitit_local", "hydra.launcher.wait=false",
                       "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    assert refused.returncode == 2 and "hydra.launcher.wait" in refused.stderr and not (tmp_path / "there").exists()


def test_status_wants_a_sweep(tmp_path: Path) -> None:
    for arguments in (("nowhere",), (), ("a", "b")):
        refused = rankward("status", *arguments, cwd=tmp_path)
        assert refused.returncode == 2 and refused.stderr.startswith("rankward: status: ")
