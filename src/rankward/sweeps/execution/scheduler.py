"""A sweep's tasks on a cluster: which runs each has, kept in the sweep's folder, and which of them are still alive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankward import results
from rankward.config import RankwardError
from rankward.environment import hidden

SUBMITTED = ".submitit"  # folder of scripts, pickles and logs


@dataclass
class Tasks:
    """Tasks of a sweep, of all launches.

    Args:
        cluster: `slurm` or `local`.
        sweep: its folder.
        runs: names of each task's run folders, by the task's id.
    """

    cluster: str
    sweep: Path
    runs: dict[str, list[str]] = field(default_factory=dict)

    @classmethod
    def read(cls, sweep: Path, cluster: str = "slurm") -> Tasks:
        """Those of a sweep so far; none where it has none.

        Raises:
            ResultsError: a torn list.
        """
        path = sweep / results.TASKS
        if not path.is_file():
            return cls(cluster, sweep)
        try:
            content = json.loads(results.read_text(path))
            tasks = {str(task): [str(run) for run in runs] for task, runs in content["tasks"].items()}
            return cls(str(content["cluster"]), sweep, tasks)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise results.io_error("read", path, error) from error

    def write(self) -> None:
        """Keep the list.

        Raises:
            ResultsError: it cannot be written.
        """
        text = json.dumps({"cluster": self.cluster, "tasks": self.runs}, indent=1) + "\n"
        results.write_atomic(self.sweep / results.TASKS, lambda path: path.write_text(text, encoding="utf-8"))

    def live(self) -> dict[str, str]:
        """Tasks that wait or run, by id: `pending` or `running`.

        Raises:
            SchedulerUnavailable: the scheduler does not tell.
        """
        return (slurm_states if self.cluster == "slurm" else local_states)(list(self.runs))

    def log(self, task: str) -> Path:
        """Where a task's output lies."""
        return self.sweep / SUBMITTED / f"{task}_0_log.out"


def wrong_path(sweep: Path, task: str) -> Path:
    """Where a task says what went wrong: a line for each run's folder, for "" of all."""
    return sweep / SUBMITTED / f"{task}_wrong.json"


class SchedulerUnavailable(RankwardError):
    """The scheduler did not tell its jobs' states."""


def slurm_states(tasks: Sequence[str]) -> dict[str, str]:
    """Tasks that SLURM's queue still has. It needs no accounting: a job that has ended is no longer there.

    Raises:
        SchedulerUnavailable: no answer from `squeue`.
    """
    if not tasks:
        return {}
    if shutil.which("squeue") is None:
        return {}  # a folder that was carried home; nobody is at work on it here
    jobs = ",".join(dict.fromkeys(task.partition("_")[0] for task in tasks))
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={jobs}"]
    try:
        with hidden("SQUEUE_"):  # a user's own filters and formats
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        raise SchedulerUnavailable("squeue has not answered for a minute") from error
    if answer.returncode:
        if "Invalid job id" in answer.stderr:
            return {}
        raise SchedulerUnavailable(f"squeue: {(answer.stderr.strip().splitlines() or ['no answer'])[-1]}")
    found = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if " " in line.strip())
    return _named(found, tasks)


def _named(found: Mapping[str, str], tasks: Sequence[str]) -> dict[str, str]:
    waiting = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "REQUEUE_FED")
    return {task: "pending" if found[task].strip() in waiting else "running" for task in tasks if task in found}


def local_states(tasks: Sequence[str]) -> dict[str, str]:
    """Tasks of `submitit_local` whose process lives on this machine.

    Example:
        >>> local_states(["1"])  # a process, but none of ours
        {}
    """
    return {task: "running" for task in tasks if task.isdigit() and _is_ours(int(task))}


def _is_ours(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        pass  # it lives, under another user
    except (ProcessLookupError, OverflowError):
        return False
    command = Path(f"/proc/{process}/cmdline")
    return not command.exists() or b"submitit" in command.read_bytes()
