"""Tasks of a cluster leave the bytes of one machine."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import in_process
from helpers.commands import computed, rankward
from rankward.config import ConfigError
from rankward.sweeps.execution.cluster import ClusterExecutor
from rankward.sweeps.execution.sbatch import conflicting_variables
from rankward.sweeps.execution.scheduler import slurm_states

SWEEP = ("-m", "seed=0,1,2,3", "max_iterations=2000", "logger=none")


@pytest.mark.slow
def test_tasks_of_this_machine_leave_the_bytes_of_one_process(tmp_path: Path) -> None:
    there = rankward(*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.poll=0.5",
                     "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    here = rankward(*SWEEP, "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    assert len(computed(tmp_path / "there")) == 8 and computed(tmp_path / "there") == computed(tmp_path / "here")


def test_settings_that_cannot_be(tmp_path: Path) -> None:
    both = in_process.rankward(*SWEEP, "hydra/launcher=submitit_local", "hydra.launcher.tasks=2", "hydra.launcher.runs_per_task=1",
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
    refused = in_process.rankward("-m", "hydra/sweeper=refine", "hydra/launcher=submitit_local", "hydra.launcher.wait=false",
                       "hydra.sweep.dir=there", cwd=tmp_path)  # fmt: skip
    assert refused.returncode == 2 and "hydra.launcher.wait" in refused.stderr and not (tmp_path / "there").exists()


def test_status_wants_a_sweep(tmp_path: Path) -> None:
    for arguments in (("nowhere",), (), ("a", "b")):
        refused = in_process.rankward("status", *arguments, cwd=tmp_path)
        assert refused.returncode == 2 and refused.stderr.startswith("rankward: status: ")


def command(folder: Path, name: str, script: str) -> None:
    """A program of SLURM's, as a shell script."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\n{script}\n")
    (folder / name).chmod(0o755)


@pytest.mark.slow
def test_options_reach_sbatch_as_they_are_written_and_those_of_an_allocation_do_not(tmp_path: Path) -> None:
    command(tmp_path / "bin", "sbatch", f'env > {tmp_path}/env; cp "$1" {tmp_path}/script; echo Submitted batch job 42')
    command(tmp_path / "bin", "srun", "")
    command(tmp_path / "bin", "squeue", "")
    inside = {"SLURM_JOB_ID": "77", "SLURM_CPU_BIND": "mask_cpu:0x1", "SLURM_MEM_PER_CPU": "2048", "SRUN_CPUS_PER_TASK": "1",
              "SLURM_TRES_PER_TASK": "cpu:1", "SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "lab",
              "SBATCH_PARTITION": "debug", "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}  # fmt: skip
    asked = ["hydra.launcher.partition=cpu,long", "hydra.launcher.exclude=node[1-3]",
             "hydra.launcher.setup=[module load cuda,export RANKWARD_CACHE=/tmp/rankward]",
             *(f"+hydra.launcher.additional_parameters.{each}" for each in
               ("reservation=course", "mail-type=END,FAIL", "requeue=true", "nice=null"))]  # fmt: skip
    done = rankward(*SWEEP, "hydra/launcher=slurm", "hydra.launcher.wait=false", *asked, "hydra.sweep.dir=s",
                    cwd=tmp_path, env=os.environ | inside)  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "script").read_text().splitlines()
    for option in ("partition=cpu,long", "exclude='node[1-3]'", "reservation=course", "mail-type=END,FAIL", "requeue"):
        assert f"#SBATCH --{option}" in lines
    assert not [line for line in lines if "nice" in line]
    assert lines.index("module load cuda") + 1 == lines.index("export RANKWARD_CACHE=/tmp/rankward")
    given = [
        line for line in (tmp_path / "env").read_text().splitlines() if line.startswith(("SLURM", "SRUN", "SBATCH"))
    ]
    assert sorted(given) == ["SBATCH_ACCOUNT=lab", "SLURM_CONF=/etc/slurm.conf"]


def test_outside_of_an_allocation_only_what_the_launcher_sets_itself_is_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "SRUN", "SBATCH"))]:
        monkeypatch.delenv(name)
    for name in ("SLURM_CPU_BIND", "SRUN_CPUS_PER_TASK", "SBATCH_QOS", "SBATCH_TIMELIMIT", "SBATCH_MEM_PER_CPU"):
        monkeypatch.setenv(name, "1")
    assert conflicting_variables(["timeout_min"]) == ["SBATCH_TIMELIMIT"]
    assert sorted(conflicting_variables(["mem_gb", "qos"])) == ["SBATCH_MEM_PER_CPU", "SBATCH_QOS", "SBATCH_TIMELIMIT"]


def test_a_line_break_in_an_option_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"additional_parameters\.comment"):
        ClusterExecutor(
            "slurm", None, None, True, 5.0, {"timeout_min": 1, "additional_parameters": {"comment": "a\nrm -r x"}}
        )


def test_filters_that_a_user_has_for_squeue_hide_no_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path / "bin", "squeue", '[ -z "$SQUEUE_STATES$SQUEUE_FORMAT2" ] && echo "42_0 PENDING"')
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("SQUEUE_STATES", "RUNNING")
    monkeypatch.setenv("SQUEUE_FORMAT2", "JobID")
    assert slurm_states(["42_0"]) == {"42_0": "pending"}
    assert os.environ["SQUEUE_STATES"] == "RUNNING"
