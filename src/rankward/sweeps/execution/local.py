"""Executors: the interface, and training in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra.core.utils import JobReturn, JobStatus

from rankward import results
from rankward.config import ConfigError, RunConfig
from rankward.config.checks import GIB, machine_memory
from rankward.sweeps.execution.ensembles import Job, JobOutcome, Session, fitting, grouped, train_batch


@runtime_checkable
class Executor(Protocol):
    """Trains the jobs of a launcher."""

    remote: bool  # whether runs train on other machines

    def check(self) -> None:
        """Raise a ConfigError if this executor cannot train."""

    def ensure_free(self, sweep: Path) -> None:
        """Raise FolderLocked if other processes train the sweep and would be disturbed."""

    def max_runs(self, jobs: Sequence[Job]) -> Callable[[RunConfig], int]:
        """Function from a config to the largest ensemble of such runs, if these jobs are all that are left."""

    def run(self, jobs: list[Job], returns: list[JobReturn], sweep: Path) -> bool:
        """Train the jobs, and write each outcome into `returns` at the job's number.

        Returns:
            Whether jobs are still running, without a connection to this process.
        """


class LocalExecutor:
    """This process, one ensemble after the other.

    Args:
        memory: GiB that an ensemble may take; None for half of the machine's.

    Raises:
        ConfigError: no memory.
    """

    remote = False

    def __init__(self, memory: float | None) -> None:
        if memory is not None and not memory > 0:
            raise ConfigError("hydra.launcher.memory", memory, "a number of GiB above 0, or null")
        self.memory = (memory * GIB) if memory is not None else machine_memory() / 2

    def check(self) -> None:
        """Accept: this process can always train."""

    def ensure_free(self, sweep: Path) -> None:
        """Refuse a sweep that tasks of a cluster train."""
        refuse_live_tasks(sweep)

    def max_runs(self, jobs: Sequence[Job]) -> Callable[[RunConfig], int]:
        """Limit an ensemble to what the memory holds."""
        return fitting(self.memory)

    def run(self, jobs: list[Job], returns: list[JobReturn], sweep: Path) -> bool:
        """Train the jobs until all have ended.

        Raises:
            KeyboardInterrupt: training was interrupted; results and checkpoints are saved.
            FolderLocked: tasks of a cluster train the sweep.
            OSError: an error of the disk or folder at a checkpoint, or at all results of an ensemble: later ensembles
                would meet it too.
        """
        self.ensure_free(sweep)
        session = Session(len(returns) - len(jobs), len(returns))
        for batch in grouped(jobs, self.max_runs(jobs)):
            ended = train_batch(batch, session)
            record(ended, returns)
            lost = [each.error for each in ended if each.error is not None and results.is_storage_error(each.error)]
            if len(lost) == len(ended) and not isinstance(lost[0], PermissionError):  # which concerns a single folder
                raise lost[0]
            if any(each.interrupted for each in ended):
                raise KeyboardInterrupt(f"interrupted; rankward resume {sweep} goes on")
            session.done += len(batch)
        return False


def record(ended: Sequence[JobOutcome], returns: Sequence[JobReturn]) -> None:
    """Write outcomes into Hydra's returns."""
    for each in ended:
        returned = returns[each.number]
        if each.error is not None:
            returned.status = JobStatus.FAILED
        returned.return_value = each.loss if each.error is None else each.error


def refuse_live_tasks(sweep: Path) -> None:
    """Refuse a sweep that tasks of a cluster train.

    Raises:
        FolderLocked: with the tasks' ids.
    """
    if not (sweep / results.TASKS).is_file():
        return
    from rankward.sweeps.execution.scheduler import Tasks

    live = Tasks.read(sweep).live()
    if live:
        raise results.FolderLocked(
            f"{sweep} is in use: tasks {', '.join(live)} are at work on it; rankward status {sweep}"
        )
