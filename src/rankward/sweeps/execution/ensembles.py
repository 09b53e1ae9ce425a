"""Group the jobs of a sweep into ensembles, and train an ensemble: in one process or in a task of a cluster."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankward import results
from rankward.config import RunConfig
from rankward.terminal import say

MAX_LISTED = 100  # runs of a sweep that get a line each; larger sweeps print only the closing table


@dataclass
class Job:
    """A job whose folder exists and that is not yet trained.

    Args:
        number: its index in the launch.
        config: of its run.
        target: a `LogTarget`, to which its results go; None in a dry run.
        checkpoint: from which it resumes, or None.
    """

    number: int
    config: RunConfig
    target: Any
    checkpoint: Path | None = None


@dataclass(frozen=True)
class JobOutcome:
    """Outcome of a job: its last loss, or an error, or the fact that it was interrupted with a checkpoint."""

    number: int
    loss: float = float("nan")
    error: Exception | None = None
    interrupted: bool = False


@dataclass
class Session:
    """Progress of a launch, and the signals that have ended it early.

    Args:
        done: runs that are complete.
        total: runs of the launch.
        signals: as for `train`; None if interrupted runs are written because nothing restarts this process.
    """

    done: int
    total: int
    signals: list[int] | None = None


def grouped(jobs: Sequence[Job], max_runs: Callable[[RunConfig], int]) -> list[list[Job]]:
    """Group jobs that can share an ensemble and resume from the same checkpoint.

    Args:
        jobs: to be trained.
        max_runs: size of an ensemble of runs like a given one, at most.
    """
    from rankward.training.ensemble import traits

    groups: dict[object, list[Job]] = {}
    for job in jobs:
        groups.setdefault((traits(job.config), job.checkpoint), []).append(job)
    batches = []
    for group in groups.values():
        size = max(1, max_runs(group[0].config))
        batches += [group[first : first + size] for first in range(0, len(group), size)]
    return batches


def fitting(memory: float) -> Callable[[RunConfig], int]:
    """Function from a config to the number of such runs that `memory` bytes and the memory of their device hold."""
    from rankward.training.devices import free_memory
    from rankward.training.ensemble import bytes_per_run

    return lambda config: int(min(memory, free_memory(config)) // bytes_per_run(config))


def find_checkpoints(jobs: Sequence[Job], paths: Iterable[Path]) -> None:
    """Give each job the checkpoint of earlier attempts in which it is furthest, or its own `ckpt_path`."""
    from rankward.training.resume import furthest_checkpoints

    furthest = furthest_checkpoints(paths)
    for job in jobs:
        job.checkpoint = furthest.get(job.target.digest)
        if job.config.ckpt_path is not None:
            job.checkpoint = Path(job.config.ckpt_path)


def train_batch(
    batch: list[Job], session: Session, out_of_memory: bool = False, is_half: bool = False
) -> list[JobOutcome]:
    """Train an ensemble; if it raises, train its halves, so that in the end only the runs that raise have failed.

    A line says so if no run raises alone: the ensemble was at fault, and separate training takes longer. An error of a
    disk or folder (see `results.is_storage_error`) would meet the halves as well, so it is raised. If the memory of a
    GPU is too small, the batch is halved once.

    Args:
        batch: jobs that can share an ensemble.
        session: of this launch; not changed, but for the signals.
        out_of_memory: whether memory was too small for the batch of which this is a half.
        is_half: whether this is a half of an ensemble that has raised.

    Returns:
        Outcomes in order. Jobs that had not begun before an interruption are missing.

    Raises:
        OSError: an error of a disk or folder.
    """
    import torch

    from rankward.loggers.target import LoggerError
    from rankward.training.job import result_line
    from rankward.training.train import train

    error: Exception | None = None
    try:
        configs, targets = [job.config for job in batch], [job.target for job in batch]
        progress = (session.done, session.total)
        outcomes = train(configs, targets, batch[0].checkpoint, progress, session.signals)
    except Exception as raised:
        if results.is_storage_error(raised):
            raise
        error = raised
    if error is not None:  # outside of `except`: an error of a half does not get this one as its context
        full = isinstance(error, torch.OutOfMemoryError)
        if len(batch) == 1 or (full and out_of_memory) or isinstance(error, LoggerError):
            return [failed_outcome(job, error) for job in batch]
        if full:
            message = f"{len(batch):,} runs do not fit into the GPU's memory; they are trained in halves"
            say(f"rankward: {message}", error=True)
        half = len(batch) // 2
        first = train_batch(batch[:half], session, full, True)
        if any(each.interrupted for each in first):
            return first
        both = first + train_batch(batch[half:], session, full, True)
        if not (is_half or full or any(each.error for each in both)):
            why = f"as an ensemble they raised {type(error).__name__}: {error}"
            say(f"rankward: {len(batch):,} runs were trained separately: {why}", error=True)
        return both
    ended = []
    for job, outcome in zip(batch, outcomes, strict=True):
        if outcome.is_written and session.total <= MAX_LISTED:
            say(result_line(job.config, outcome))
        if outcome.error is not None:
            ended.append(failed_outcome(job, outcome.error))
            continue
        (job.target.folder / results.FAILURE).unlink(missing_ok=True)  # of an earlier attempt
        loss = float(outcome.summary["metrics"].get("loss", float("nan")))
        ended.append(JobOutcome(job.number, loss, interrupted=outcome.status == "interrupted"))
    return ended


def failed_outcome(job: Job, error: Exception) -> JobOutcome:
    """Outcome of a job that has failed. The reason, in a line, and the traceback are written to its folder."""
    from rankward.config.explain import why

    line = why(error)
    text = f"{line}\n\n{''.join(traceback.format_exception(error))}"
    results.note_failure(job.target.folder, line, error)
    with contextlib.suppress(OSError, results.ResultsError):  # most likely the disk is full: the failure itself
        (job.target.folder / results.FAILURE).write_text(text, encoding="utf-8")
    return JobOutcome(job.number, error=error)


def failure_reason(folder: Path) -> str:
    """The line that says why the run in a folder has failed; empty if there is none."""
    try:
        return results.read_text(folder / results.FAILURE).partition("\n")[0]
    except (OSError, ValueError):
        return ""
