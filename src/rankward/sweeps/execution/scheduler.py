"""The list of a sweep's tasks on a cluster, in the sweep's folder, and the states of these tasks."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankward import results
from rankward.config import RankwardError
from rankward.environment import hidden

SUBMITTED = ".submitit"  # submitit's folder of scripts, pickles and logs


@dataclass
class Tasks:
    """Tasks of all launches of a sweep.

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
        """Read the list of a sweep's tasks; an empty list if there is none.

        Raises:
            ResultsError: the list is torn.
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
        """Write the list into the sweep's folder, as an atomic write.

        Raises:
            ResultsError: it cannot be written.
        """
        text = json.dumps({"cluster": self.cluster, "tasks": self.runs}, indent=1) + "\n"
        results.write_atomic(self.sweep / results.TASKS, lambda path: path.write_text(text, encoding="utf-8"))

    def live(self) -> dict[str, str]:
        """State of each task that waits or runs, by id: `pending` or `running`.

        Raises:
            SchedulerUnavailable: the scheduler does not report the states.
        """
        return (slurm_states if self.cluster == "slurm" else local_states)(list(self.runs))

    def log(self, task: str) -> Path:
        """Path of a task's log."""
        return self.sweep / SUBMITTED / f"{task}_0_log.out"


def errors_path(sweep: Path, task: str) -> Path:
    """Path of a task's errors as JSON: a line for each failed run by its folder's name, "" for the task itself."""
    return sweep / SUBMITTED / f"{task}_wrong.json"


class SchedulerUnavailable(RankwardError):
    """The scheduler does not report the states of its tasks."""


def slurm_states(tasks: Sequence[str]) -> dict[str, str]:
    """States of the tasks that are in SLURM's queue. A task that has ended has left the queue.

    Raises:
        SchedulerUnavailable: `squeue` fails or does not answer.
    """
    if not tasks:
        return {}
    if shutil.which("squeue") is None:
        return {}  # the folder was copied to a machine without SLURM
    jobs = ",".join(dict.fromkeys(task.partition("_")[0] for task in tasks))
    command = ["squeue", "--noheader", "--array", "--format=%i %T", f"--jobs={jobs}"]
    try:
        with hidden("SQUEUE_"):  # a user's filters and formats
            answer = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except subprocess.TimeoutExpired as error:
        raise SchedulerUnavailable("squeue has not answered for a minute") from error
    if answer.returncode:
        if "Invalid job id" in answer.stderr:
            return {}
        raise SchedulerUnavailable(f"squeue: {(answer.stderr.strip().splitlines() or ['no answer'])[-1]}")
    found = dict(line.split(maxsplit=1) for line in answer.stdout.splitlines() if " " in line.strip())
    waiting = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "SPECIAL_EXIT", "REQUEUE_FED")
    return {task: "pending" if found[task].strip() in waiting else "running" for task in tasks if task in found}


def local_states(tasks: Sequence[str]) -> dict[str, str]:
    """States of the tasks of `submitit_local` whose process runs on this machine.

    Example:
        >>> local_states(["1"])  # a process that submitit has not started
        {}
    """
    return {task: "running" for task in tasks if task.isdigit() and _is_submitits(int(task))}


def _is_submitits(process: int) -> bool:
    try:
        os.kill(process, 0)
    except PermissionError:
        pass  # it runs under another user
    except (ProcessLookupError, OverflowError):
        return False
    command = Path(f"/proc/{process}/cmdline")
    return not command.exists() or b"submitit" in command.read_bytes()
