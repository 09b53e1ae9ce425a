"""Who trains the jobs of a sweep: this process, or tasks of a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from hydra.core.utils import JobReturn, JobStatus

from rankward import results
from rankward.config import ConfigError, RunConfig
from rankward.config.checks import GIB, machine_memory
from rankward.sweeps.execution.ensembles import Job, JobOutcome, fitting, grouped, train_batch


@runtime_checkable
class Executor(Protocol):
    """What a launcher asks of those who train."""

    elsewhere: bool  # whether runs train on other machines than this one
    away: bool  # whether jobs are still at work when `work` has returned

    def check(self) -> None:
        """Raise a ConfigError where nobody could train."""

    def claim(self, sweep: Path) -> None:
        """Raise FolderLocked where others are at work on the sweep whom these would disturb."""

    def most(self, jobs: Sequence[Job]) -> Callable[[RunConfig], int]:
        """How many runs like a given one may train together, if these jobs are all that there is to do."""

    def work(self, jobs: list[Job], returns: list[JobReturn], sweep: Path) -> None:
        """Train the jobs, and put what became of each into `returns` at its number."""


class LocalExecutor:
    """This process, one ensemble after the other.

    Args:
        memory: GiB that an ensemble may take; None for half of the machine's.

    Raises:
        ConfigError: no memory.
    """

    elsewhere, away = False, False

    def __init__(self, memory: float | None) -> None:
        if memory is not None and not memory > 0:
            raise ConfigError("hydra.launcher.memory", memory, "a number of GiB above 0, or null")
        self.memory = (memory * GIB) if memory is not None else machine_memory() / 2

    def check(self) -> None:
        """Nothing is needed."""

    def claim(self, sweep: Path) -> None:
        """Refuse a sweep on which tasks of a cluster are at work."""
        refuse_live(sweep)

    def most(self, jobs: Sequence[Job]) -> Callable[[RunConfig], int]:
        """As many as the memory holds."""
        return fitting(self.memory)

    def work(self, jobs: list[Job], returns: list[JobReturn], sweep: Path) -> None:
        """Train the jobs.

        Raises:
            KeyboardInterrupt: training was interrupted; what was done is saved.
            FolderLocked: tasks of a cluster are at work on the sweep.
            OSError: of a place, at a checkpoint or at all results of an ensemble: what follows would be lost as well.
        """
        self.claim(sweep)
        done = len(returns) - len(jobs)
        for batch in grouped(jobs, self.most(jobs)):
            ended = train_batch(batch, (done, len(returns)))
            record(ended, returns)
            lost = [each.error for each in ended if each.error is not None and results.is_storage_error(each.error)]
            if len(lost) == len(ended) and not isinstance(lost[0], PermissionError):  # that is one folder's
                raise lost[0]
            if any(each.interrupted for each in ended):
                raise KeyboardInterrupt(f"interrupted; rankward resume {sweep} goes on")
            done += len(batch)


def record(ended: Sequence[JobOutcome], returns: Sequence[JobReturn]) -> None:
    """Tell Hydra what became of jobs."""
    for each in ended:
        returned = returns[each.number]
        if each.error is not None:
            returned.status = JobStatus.FAILED
        returned.return_value = each.loss if each.error is None else each.error


def refuse_live(sweep: Path) -> None:
    """Refuse a sweep on which a cluster's tasks are at work.

    Raises:
        FolderLocked: they are named.
    """
    if not (sweep / results.TASKS).is_file():
        return
    from rankward.sweeps.execution.scheduler import Tasks

    live = Tasks.read(sweep).live()
    if live:
        raise results.FolderLocked(
            f"{sweep} is in use: tasks {', '.join(live)} are at work on it; rankward status {sweep}"
        )
