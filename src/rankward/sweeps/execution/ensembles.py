"""Jobs of a sweep whose folders stand: grouped into ensembles, and trained, wherever that happens."""

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

TOLD = 100  # runs of a sweep that are told one by one; of more, the closing table


@dataclass
class Job:
    """A job whose folder stands, waiting for its turn.

    Args:
        number: its place in the launch.
        config: of its run.
        target: where its results go.
        checkpoint: that it goes on from, or None.
    """

    number: int
    config: RunConfig
    target: Any
    checkpoint: Path | None = None


@dataclass(frozen=True)
class JobOutcome:
    """What became of a job: its last loss, or an error; or it was interrupted, and a checkpoint has it."""

    number: int
    loss: float = float("nan")
    error: Exception | None = None
    interrupted: bool = False


def grouped(jobs: Sequence[Job], most: Callable[[RunConfig], int]) -> list[list[Job]]:
    """Jobs that can share an ensemble and go on from the same checkpoint, at most so many together."""
    from rankward.training.ensemble import traits

    groups: dict[object, list[Job]] = {}
    for job in jobs:
        groups.setdefault((traits(job.config), job.checkpoint), []).append(job)
    batches = []
    for group in groups.values():
        size = max(1, most(group[0].config))
        batches += [group[first : first + size] for first in range(0, len(group), size)]
    return batches


def fitting(memory: float) -> Callable[[RunConfig], int]:
    """How many runs like a given one so many bytes hold, and their devices."""
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
    batch: list[Job], place: tuple[int, int], signals: list[int] | None = None, halved: bool = False, part: bool = False
) -> list[JobOutcome]:
    """Train an ensemble; where it raises, its halves, so that in the end only the runs that raise have failed.

    Where none of them raises alone it is the ensemble's fault, which is told: apart they take longer. Halves would
    only meet the error of a place again, as a full disk under a checkpoint: that is raised.

    After an interruption what has not begun is missing from the answer. Runs for which a GPU's memory does not do are
    halved once.

    Args:
        batch: jobs that can share an ensemble.
        place: how many runs of the sweep are done before these, and how many there are.
        signals: as for `train`.
        halved: whether memory was short before.
        part: whether this is a half of an ensemble that has raised.

    Raises:
        OSError: of a place (see `results.is_storage_error`).
    """
    import torch

    from rankward.loggers.target import LoggerError
    from rankward.training.job import result_line
    from rankward.training.train import train

    error: Exception | None = None
    try:
        outcomes = train([j.config for j in batch], [j.target for j in batch], batch[0].checkpoint, place, signals)
    except Exception as raised:
        if results.is_storage_error(raised):
            raise
        error = raised
    if error is not None:  # handled here, so that what a half raises does not carry this one along
        full = isinstance(error, torch.OutOfMemoryError)
        if len(batch) == 1 or (full and halved) or isinstance(error, LoggerError):
            return [failed(job, error) for job in batch]
        if full:
            say(f"rankward: {len(batch):,} runs at once are too many for the GPU's memory: halved", error=True)
        half = len(batch) // 2
        first = train_batch(batch[:half], place, signals, full, True)
        if any(each.interrupted for each in first):
            return first
        both = first + train_batch(batch[half:], place, signals, full, True)
        if not (part or full or any(each.error for each in both)):
            told = f"{len(batch):,} runs were trained apart, since together they raised {type(error).__name__}: {error}"
            say(f"rankward: {told}", error=True)
        return both
    ended = []
    for job, outcome in zip(batch, outcomes, strict=True):
        if outcome.is_written and place[1] <= TOLD:
            say(result_line(job.config, outcome))
        if outcome.error is not None:
            ended.append(failed(job, outcome.error))
            continue
        (job.target.folder / results.FAILURE).unlink(missing_ok=True)  # of an earlier attempt
        loss = float(outcome.summary["metrics"].get("loss", float("nan")))
        ended.append(JobOutcome(job.number, loss, interrupted=outcome.status == "interrupted"))
    return ended


def failed(job: Job, error: Exception) -> JobOutcome:
    """A job that has failed. Its folder keeps why: in a line, and the traceback."""
    from rankward.config.explain import why

    line = why(error)
    text = f"{line}\n\n{''.join(traceback.format_exception(error))}"
    results.note_failure(job.target.folder, line, error)
    with contextlib.suppress(OSError):  # a disk that is full is most likely the failure itself
        (job.target.folder / results.FAILURE).write_text(text, encoding="utf-8")
    return JobOutcome(job.number, error=error)


def failure(folder: Path) -> str:
    """Why the run in a folder has failed, in a line; empty where it did not, or left no word."""
    try:
        return results.read_text(folder / results.FAILURE).partition("\n")[0]
    except (OSError, ValueError):
        return ""
