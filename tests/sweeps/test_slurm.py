"""A sweep on a real SLURM: the bytes of one machine, whatever becomes of tasks and of who submitted them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.commands import computed, leavings, rankward
from helpers.slurm import one_node
from rankward import results

pytestmark = pytest.mark.slow

SWEEP = ("-m", "seed=0,1,2,3", "logger=none", "checkpoint.seconds=0.5", "lr.eta=1e-9")
LONG = "max_iterations=600_000_000"  # about ten seconds each
CLUSTER = ("hydra/launcher=slurm", "hydra.launcher.runs_per_task=1", "hydra.launcher.poll=0.5",
           "hydra.launcher.cpus_per_task=1", "hydra.sweep.dir=there")  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[dict[str, str]]:
    with one_node() as environment:
        yield environment


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], object]:
    """What the long sweep leaves where one process trains it."""
    folder = tmp_path_factory.mktemp("home")
    done = rankward(*SWEEP, LONG, "hydra.sweep.dir=here", cwd=folder)
    assert done.returncode == 0, done.stderr
    return leavings(folder / "here")


class Submitted:
    """A sweep whose tasks are at work; the process that submitted it waits for them, or has ended."""

    def __init__(self, folder: Path, environment: dict[str, str], *more: str) -> None:
        self.sweep, self.environment = folder / "there", environment
        command = [sys.executable, "-m", "rankward", *SWEEP, LONG, *CLUSTER, *more]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        until(lambda: (self.sweep / "tasks.json").is_file())
        self.tasks = {
            runs[0]: task for task, runs in json.loads((self.sweep / "tasks.json").read_text())["tasks"].items()
        }

    def call(self, *command: str) -> str:
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True).stdout

    def has_checkpoint(self, run: str) -> bool:
        return (self.sweep / run / "checkpoint.ckpt").is_file()

    def process_of(self, run: str) -> int:
        """The process that trains a run.

        `scancel --signal` would not do: where the task has had itself requeued before the answer arrives, it sends the
        signal once more, some seconds later, to the task that has begun again.
        """
        wanted = f"SLURM_ARRAY_TASK_ID={self.tasks[run].partition('_')[2]}".encode()
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command, settings = ((process / name).read_bytes().split(b"\0") for name in ("cmdline", "environ"))
                ours = any(each.startswith(str(self.sweep).encode()) for each in command)
                if ours and b"submitit.core._submit" in command and b"srun" not in command[0] and wanted in settings:
                    return int(process.name)
        raise AssertionError(f"no process trains run {run}")

    def is_queued(self) -> bool:
        return bool(self.call("squeue", "--noheader", "--format=%i").strip())

    def ended(self) -> tuple[int, str, str]:
        out, error = self.process.communicate(timeout=240)
        return self.process.returncode, out, error


def until(arrived: Callable[[], bool], seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not arrived():
        assert time.monotonic() < end, "it has not come"
        time.sleep(0.1)


def test_an_array_of_four_leaves_the_bytes_of_one_process_and_no_key(tmp_path: Path, cluster: dict[str, str]) -> None:
    secret = "0123456789abcdef0123456789abcdef01234567"
    sweep = ("-m", "seed=0,1,2,3", "max_iterations=2000")
    environment = cluster | {"WANDB_API_KEY": secret, "WANDB_MODE": "offline"}
    there = rankward(*sweep, *CLUSTER, cwd=tmp_path, env=environment)
    here = rankward(*sweep, "logger=none", "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    assert len(computed(tmp_path / "there")) == 8 and computed(tmp_path / "there") == computed(tmp_path / "here")
    assert len(list((tmp_path / "there" / "wandb").glob("offline-run-*"))) == 5  # the runs and the sweep's summary
    assert "wandb sync" in there.stdout
    for path in (tmp_path / "there").rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path


def test_processes_packed_by_srun_are_separate_runs(tmp_path: Path, cluster: dict[str, str]) -> None:
    one = f"exec {sys.executable} -m rankward seed=$SLURM_PROCID max_iterations=2000 logger=csv hydra.run.dir=run$SLURM_PROCID"
    done = subprocess.run(
        ["srun", "-n", "2", "sh", "-c", one], cwd=tmp_path, env=cluster, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    for seed in (0, 1):
        logged = (tmp_path / f"run{seed}" / "csv" / "metrics.csv").read_text().splitlines()
        assert len(logged) == 1 + results.read_trace(tmp_path / f"run{seed}").height
        assert results.read_config(tmp_path / f"run{seed}")["seed"] == seed


def test_sweep_submitted_inside_an_allocation_uses_its_own_options(tmp_path: Path, cluster: dict[str, str]) -> None:
    """A task with two processors, from an allocation with one, whose srun would give it one."""
    asked = ("-m", "seed=0", "logger=none", "max_iterations=2000", "hydra/launcher=slurm", "hydra.launcher.wait=false",
             "hydra.launcher.cpus_per_task=2", "'hydra.launcher.setup=[env > environment]'", "hydra.sweep.dir=there")  # fmt: skip
    inside = f"export SRUN_CPUS_PER_TASK=1 SLURM_CPU_BIND=none; exec {sys.executable} -m rankward {' '.join(asked)}"
    done = subprocess.run(["srun", "-n", "1", "-c", "1", "sh", "-c", inside], cwd=tmp_path, env=cluster,
                          capture_output=True, text=True)  # fmt: skip
    assert done.returncode == 0, done.stderr
    until(lambda: (tmp_path / "there" / "0" / "summary.json").is_file())
    given = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines() if "=" in line)
    assert given["SLURM_CPUS_PER_TASK"] == "2" and given.get("SRUN_CPUS_PER_TASK") != "1"
    assert "SLURM_CPU_BIND" not in given and "SLURM_STEP_ID" not in given


def test_one_task_cancelled_fails_its_run_alone(
    tmp_path: Path, cluster: dict[str, str], home: dict[tuple[str, str], object]
) -> None:
    task = Submitted(tmp_path, cluster)
    until(lambda: task.has_checkpoint("1"))
    task.call("scancel", task.tasks["1"])
    task.call("scancel", task.tasks["3"])  # waits for a processor: it leaves nothing anywhere
    code, _, error = task.ended()
    assert code == 1 and "job 1 (seed=1" in error and "job 3 (seed=3" in error and "job 0" not in error, error
    found = leavings(task.sweep, "0", "2")
    assert found == {key: content for key, content in home.items() if key[0] in ("0", "2")}
    told = rankward("status", "there", cwd=tmp_path, env=cluster)
    assert told.returncode == 1 and "2 done, 0 running, 0 pending, 2 stopped" in told.stdout
    assert task.has_checkpoint("1")  # of the cancelled task; nothing of an unfinished run stands beside it
    assert not (task.sweep / "1" / "summary.json").exists()
    resumed = rankward("resume", "there", "hydra/launcher=batched", cwd=tmp_path, env=cluster)
    assert resumed.returncode == 0 and resumed.stdout.count("complete, kept") == 2, resumed.stderr
    assert leavings(task.sweep) == home


@pytest.mark.parametrize("how", ["preempted", "from the beginning"])
def test_a_task_requeued_in_mid_training_goes_on_to_the_same_bits(
    tmp_path: Path, cluster: dict[str, str], home: dict[tuple[str, str], object], how: str
) -> None:
    """A scheduler that warns (USR2) has submitit requeue; one that requeues by itself, or a dead node, starts anew."""
    task = Submitted(tmp_path, cluster)
    until(lambda: task.has_checkpoint("0"))
    before = (task.sweep / "0" / "checkpoint.ckpt").stat().st_mtime_ns
    if how == "preempted":
        os.kill(task.process_of("0"), signal.SIGUSR2)
        until(
            lambda: (
                "PENDING" in task.call("squeue", "--noheader", "--array", "--format=%T", f"--jobs={task.tasks['0']}")
            )
        )
        assert (task.sweep / "0" / "checkpoint.ckpt").stat().st_mtime_ns > before
        assert not (task.sweep / "0" / "summary.json").exists()
    else:
        task.call("scontrol", "requeue", task.tasks["0"])
    code, _, error = task.ended()
    assert code == 0, error
    assert leavings(task.sweep) == home
    assert not task.has_checkpoint("0")


def test_a_killed_submitter_leaves_its_tasks_at_work_and_status_gathers(
    tmp_path: Path, cluster: dict[str, str], home: dict[tuple[str, str], object]
) -> None:
    task = Submitted(tmp_path, cluster)
    until(lambda: task.has_checkpoint("0"))
    os.kill(task.process.pid, signal.SIGKILL)
    task.process.communicate()

    told = rankward("status", "there", cwd=tmp_path, env=cluster)
    assert told.returncode == 0 and "4 runs: 0 done, 2 running, 2 pending, 0 stopped" in told.stdout, told.stdout
    assert not (task.sweep / "runs.parquet").exists()
    refused = rankward("resume", "there", "hydra/launcher=batched", cwd=tmp_path, env=cluster)
    assert refused.returncode == 1 and "are at work on it" in refused.stderr, refused.stderr
    going_on = rankward(
        "resume", "there", "hydra.launcher.wait=false", cwd=tmp_path, env=cluster
    )  # submits nothing twice
    assert going_on.returncode == 0 and "tasks:" not in going_on.stdout, going_on.stderr
    until(lambda: not task.is_queued())
    told = rankward("status", "there", cwd=tmp_path, env=cluster)
    assert told.returncode == 0 and "4 done" in told.stdout and "runs.parquet" in told.stdout, told.stdout
    assert leavings(task.sweep) == home
    assert "table:" not in rankward("status", "there", cwd=tmp_path, env=cluster).stdout  # gathered already


def test_a_task_that_hits_its_time_limit_goes_on_in_another(tmp_path: Path, cluster: dict[str, str]) -> None:
    """SLURM's limits are minutes: the warning comes 45 seconds before, and the task starts again."""
    one = ("-m", "seed=0", "logger=none", "lr.eta=1e-9", "max_iterations=2_000_000_000")
    more = ("hydra.launcher.timeout_min=1", "hydra.launcher.signal_delay_s=45")
    there = rankward(*one, *CLUSTER, *more, cwd=tmp_path, env=cluster)
    here = rankward(*one, "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    assert leavings(tmp_path / "there") == leavings(tmp_path / "here")
    logs = "".join(path.read_text() for path in (tmp_path / "there" / ".submitit").glob("*log.*"))
    assert "timed-out" in logs.lower() or "timeout" in logs.lower(), logs
