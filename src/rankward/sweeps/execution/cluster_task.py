"""A task of a cluster: it trains some of a sweep's runs as ensembles, and resumes when it is started again."""

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
from rankward.sweeps.execution.ensembles import (
    Job,
    JobOutcome,
    Session,
    find_checkpoints,
    fitting,
    grouped,
    train_batch,
)
from rankward.sweeps.execution.scheduler import errors_path
from rankward.terminal import steady


class ClusterTask:
    """Trains the runs of a task. At each start it skips complete runs and resumes from the newest checkpoint.

    On SIGUSR2, which the scheduler sends before a time limit or a preemption, a checkpoint is written, and submitit
    requeues the task and counts its timeouts. SIGTERM, a cancellation, ends the task for good.

    Args:
        sweep: the sweep's folder.
        jobs: of the task.
        path: folder of a user's modules.
        memory: GiB of the task; None for all of the node's memory.
    """

    def __init__(self, sweep: Path, jobs: Sequence[Job], path: Path, memory: float | None) -> None:
        self.sweep, self.jobs, self.path, self.memory = sweep, list(jobs), path, memory

    def __call__(self) -> dict[str, str]:
        """Train the runs and write their errors to a file; the errors by the name of the run's folder."""
        from rankward.config.explain import explain

        steady()  # a log that cannot be written does not stop training
        try:
            errors = self._train()
        except Exception as error:
            self._write_errors({"": explain(error)[0]})
            raise
        self._write_errors(errors)
        return errors

    def _write_errors(self, errors: dict[str, str]) -> None:
        path = errors_path(self.sweep, submitit.JobEnvironment().job_id)
        with contextlib.suppress(OSError, results.ResultsError):  # most likely the disk is full: the error itself
            path.unlink(missing_ok=True)
            if errors:
                text = json.dumps(errors, indent=1) + "\n"
                results.write_atomic(path, lambda file: file.write_text(text, encoding="utf-8"))

    def _train(self) -> dict[str, str]:
        from rankward.loggers.run import log_from_files
        from rankward.loggers.target import LoggerError
        from rankward.training.resume import completed_loss

        sys.path.append(str(self.path))
        errors: dict[str, str] = {}
        names = {job.number: job.target.run for job in self.jobs}
        waiting: list[Job] = []
        for job in self.jobs:
            try:
                if completed_loss(job.target.folder, job.target.digest) is None:
                    waiting.append(job)
                else:
                    log_from_files(job.config, job.target)
            except (ConfigError, LoggerError) as error:  # the folder has results of another config by now
                errors[names[job.number]] = str(error)
        submitted = {results.latest_checkpoint(job.checkpoint) for job in waiting if job.checkpoint is not None}
        written = {path for job in self.jobs for path in results.checkpoints(job.target.folder)}
        find_checkpoints(waiting, submitted | written)
        memory = machine_memory() if self.memory is None else self.memory * GIB
        signals: list[int] = []
        session = Session(len(self.jobs) - len(waiting), len(self.jobs), signals)
        for batch in grouped(waiting, fitting(memory / 2)):
            signals.clear()
            ended = train_batch(batch, session)
            errors |= {names[each.number]: _line(each) for each in ended if each.error is not None}
            if any(each.interrupted for each in ended):
                if signal.SIGUSR2 in signals:
                    _call_handler(signal.SIGUSR2)
                return errors  # the task was cancelled; there is a checkpoint
            session.done += len(batch)
        return errors

    def checkpoint(self) -> DelayedSubmission:
        """Submit this object again, for submitit: it finds by itself which runs are complete."""
        return DelayedSubmission(self)


def _call_handler(number: signal.Signals) -> None:
    """Call submitit's handler, which training has restored: it requeues this task."""
    handler = signal.getsignal(number)
    if callable(handler):
        handler(number, None)


def _line(ended: JobOutcome) -> str:
    from rankward.config.explain import explain

    assert ended.error is not None
    return explain(ended.error)[0]
