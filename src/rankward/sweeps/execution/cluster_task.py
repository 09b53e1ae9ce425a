"""What a task of a cluster does: it trains a chunk of a sweep's runs, as ensembles, and goes on when started again."""

from __future__ import annotations

import contextlib
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import submitit
from submitit.helpers import DelayedSubmission

from rankward import results
from rankward.config import ConfigError
from rankward.config.checks import GIB, machine_memory
from rankward.sweeps.execution.ensembles import Job, JobOutcome, find_checkpoints, fitting, grouped, train_batch
from rankward.sweeps.execution.scheduler import wrong_path
from rankward.terminal import steady


class ClusterTask:
    """A task's runs. Whatever ended it before, it starts by keeping what is complete and finding its checkpoint.

    A signal that the scheduler sends before a time limit or to preempt (USR2) ends training in good order: a checkpoint
    is written, and submitit requeues the task and counts its timeouts. SIGTERM, a cancellation, ends it for good.

    Args:
        sweep: the sweep's folder.
        jobs: of the chunk.
        path: folder where a user's own modules lie.
        memory: GiB that the task has; None for what its node has.
    """

    def __init__(self, sweep: Path, jobs: Sequence[Job], path: Path, memory: float | None) -> None:
        self.sweep, self.jobs, self.path, self.memory = sweep, list(jobs), path, memory

    def __call__(self) -> dict[str, str]:
        """Train; what went wrong, by the run's folder. A file keeps it for whoever asks later."""
        from rankward.config.explain import explain

        steady()  # a log that cannot be written stops no training
        try:
            wrong = self._train()
        except Exception as error:
            self._keep({"": explain(error)[0]})
            raise
        self._keep(wrong)
        return wrong

    def _keep(self, wrong: dict[str, str]) -> None:
        path = wrong_path(self.sweep, submitit.JobEnvironment().job_id)
        with contextlib.suppress(OSError, results.ResultsError):  # a disk that is full is most likely what went wrong
            path.unlink(missing_ok=True)
            if wrong:
                text = json.dumps(wrong, indent=1) + "\n"
                results.write_atomic(path, lambda file: file.write_text(text, encoding="utf-8"))

    def _train(self) -> dict[str, str]:
        from rankward.loggers.run import log_from_files
        from rankward.loggers.target import LoggerError
        from rankward.training.resume import completed_loss

        sys.path.append(str(self.path))
        wrong: dict[str, str] = {}
        names = {job.number: job.target.run for job in self.jobs}
        waiting: list[Job] = []
        for job in self.jobs:
            try:
                if completed_loss(job.target.folder, job.target.digest) is None:
                    waiting.append(job)
                else:
                    log_from_files(job.config, job.target)
            except (ConfigError, LoggerError) as error:  # the folder holds another config's results by now
                wrong[names[job.number]] = str(error)
        earlier = {results.latest_checkpoint(job.checkpoint) for job in waiting if job.checkpoint is not None}
        own = {path for job in self.jobs for path in results.checkpoints(job.target.folder)}
        find_checkpoints(waiting, earlier | own)
        memory = machine_memory() if self.memory is None else self.memory * GIB
        done = len(self.jobs) - len(waiting)
        for batch in grouped(waiting, fitting(memory / 2)):
            signals: list[int] = []
            ended = train_batch(batch, (done, len(self.jobs)), signals)
            wrong |= {names[each.number]: _line(each) for each in ended if each.error is not None}
            if any(each.interrupted for each in ended):
                if signal.SIGUSR2 in signals:
                    _pass_on(signal.SIGUSR2)
                return wrong  # cancelled; a checkpoint has what was done
            done += len(batch)
        return wrong

    def checkpoint(self) -> DelayedSubmission:
        """What submitit starts next: the same, since a chunk looks for what is done."""
        return DelayedSubmission(self)


def _pass_on(number: signal.Signals) -> None:
    """Let submitit, whose handler stood before training, requeue this task."""
    handler = signal.getsignal(number)
    if callable(handler):
        handler(number, None)


def _line(ended: JobOutcome) -> str:
    from rankward.config.explain import explain

    assert ended.error is not None
    return explain(ended.error)[0]
