"""Sweeps with `results=table`: very many runs, trained part by part into one table.

Each part is an ensemble. Memory stays constant, since only a number is stored for each run, and runs have no folders.
A complete part is never trained again.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra.core.utils import JobReturn, JobStatus

from rankward import results
from rankward.config import ConfigError, RunConfig
from rankward.config.errors import other_config
from rankward.config.explain import explain
from rankward.sweeps.compose import ComposedJob
from rankward.sweeps.compose_fast import QuickComposer
from rankward.sweeps.dry_run import plan
from rankward.sweeps.effects import unused_overrides
from rankward.sweeps.execution.ensembles import fitting
from rankward.terminal import say

AUTO_TABLE_RUNS = 5000  # sweeps with at least this many runs default to results=table
MAX_PART_RUNS = 8192  # the unit of training that is lost when a sweep is killed before its first checkpoint
CHECKPOINTS = "checkpoints"

Job = Sequence[str]


class PartitionedSweep:
    """Checks and trains the jobs of a sweep with `results=table`.

    Args:
        composer: of the sweep.
        memory: of an ensemble, in bytes, at most.
    """

    def __init__(self, composer: QuickComposer, memory: float) -> None:
        self.composer, self.memory = composer, memory
        self.jobs: Sequence[Job] = ()
        self.checked: Sequence[Job] = ()
        self._traits: dict[tuple[str, ...], object] = {}

    def check(self, jobs: Sequence[Job], resumes: bool = False) -> dict[int, str]:
        """Compose all jobs and check one of each kind; the errors by the job's number.

        Args:
            jobs: overrides of each.
            resumes: whether overrides without effect are accepted, as an old sweep may have them.
        """
        from rankward.training.preflight import check

        self.checked = jobs
        errors: dict[int, str] = {}
        checked: dict[tuple[str, ...], tuple[int, RunConfig]] = {}
        for number, overrides in enumerate(jobs):
            try:
                job = self.composer.compose(overrides)
                kind = self.composer.kind(overrides)
                if kind not in checked:
                    if job.run.max_seconds is not None:
                        allowed = "null with results=table: a part of a table is complete or absent"
                        raise ConfigError("max_seconds", job.run.max_seconds, allowed)
                    if job.run.record.product:
                        allowed = f"false in a table (from {AUTO_TABLE_RUNS:,} runs on): results=folders keeps products"
                        raise ConfigError("record.product", job.run.record.product, allowed)
                    check(job.run)
                    checked[kind] = number, job.run
            except Exception as error:  # composing can raise anything; the user reads it in a line
                errors[number] = explain(error)[0]
        if not (errors or resumes):
            numbers = [number for number, _ in checked.values()]
            found = unused_overrides([(run, jobs[number]) for number, run in checked.values()])
            errors = {numbers[index]: str(error) for index, error in found.items()}
        return errors

    def refuse_other_config(self, sweep: Path) -> None:
        """Refuse a folder with results of another config than those of the checked jobs.

        Raises:
            ConfigError: results of two configs would be mixed.
        """
        for part in results.table_parts(sweep):
            for number, digest in results.table_digests(sweep, part):
                if number < len(self.checked) and self.composer.compose(self.checked[number]).digest != digest:
                    raise other_config("hydra.sweep.dir", sweep, f"there job {number} has config_hash {digest}")

    def plan(self, jobs: Sequence[Job]) -> str:
        """Format the plan of a launch of these jobs."""
        groups: dict[object, list[RunConfig]] = {}
        for job in jobs:
            groups.setdefault(self._ensemble(job), []).append(self.composer.compose(job).run)
        return plan(list(groups.values()))

    def launch(self, jobs: Sequence[Job], sweep: Path) -> list[JobReturn]:
        """Train the jobs that are not in the table; the outcome of each.

        Raises:
            KeyboardInterrupt: training was interrupted; there is a checkpoint.
        """
        first = len(self.jobs)
        self.jobs = [*self.jobs, *jobs] if first else jobs
        completed = JobReturn(status=JobStatus.COMPLETED)  # shared by all complete jobs
        completed.return_value = float("nan")
        returns = [completed] * len(jobs)
        complete = np.zeros(len(self.jobs), bool)
        for part in results.table_parts(sweep):  # `refuse_other_config` has compared their configs
            complete[[number for number, _ in results.table_digests(sweep, part) if number < len(complete)]] = True
        left: dict[object, array[int]] = {}
        for number, job in enumerate(jobs, start=first):
            if not complete[number]:
                left.setdefault(self._ensemble(job), array("q")).append(number)
        done = len(jobs) - sum(map(len, left.values()))
        if done:
            say(f"{sweep}: {done:,} of {len(jobs):,} runs complete, kept")
        for numbers, checkpoint in self._parts(list(left.values()), sweep):
            try:
                interrupted = self._train(numbers, checkpoint, sweep, done, len(jobs))
            except Exception as error:  # the other parts are trained all the same
                if results.is_storage_error(error):
                    raise
                failed = JobReturn(status=JobStatus.FAILED)
                failed.return_value = error
                for number in numbers:
                    returns[number - first] = failed
                continue
            if interrupted:
                raise KeyboardInterrupt(f"interrupted; rankward resume {sweep} goes on")
            done += len(numbers)
        return returns

    def _ensemble(self, job: Job) -> object:
        """Traits of a job: jobs with equal traits can share an ensemble. They are found once for each kind."""
        from rankward.training.ensemble import traits

        kind = self.composer.kind(job)
        if kind not in self._traits:
            self._traits[kind] = traits(self.composer.compose(job).run)
        return self._traits[kind]

    def _parts(self, groups: Sequence[array[int]], sweep: Path) -> Iterator[tuple[list[int], Path | None]]:
        """Numbers of jobs that train together, and the checkpoint from which they resume."""
        from rankward.training.resume import furthest_checkpoints

        furthest = furthest_checkpoints(results.checkpoints(sweep / CHECKPOINTS, "*.ckpt"))
        waiting = (number for group in groups for number in group) if furthest else ()
        by_digest = {self.composer.compose(self.jobs[number]).digest: number for number in waiting}
        resumed: dict[Path, list[int]] = {}
        for digest, path in furthest.items():
            if digest in by_digest:
                resumed.setdefault(path, []).append(by_digest[digest])
        yield from ((numbers, path) for path, numbers in sorted(resumed.items()))
        taken = {number for numbers in resumed.values() for number in numbers}
        for group in groups:
            new = array("q", [number for number in group if number not in taken]) if taken else group
            size = max(1, min(MAX_PART_RUNS, fitting(self.memory)(self.composer.compose(self.jobs[group[0]]).run)))
            yield from ((list(new[at : at + size]), None) for at in range(0, len(new), size))

    def _train(self, numbers: list[int], checkpoint: Path | None, sweep: Path, done: int, total: int) -> bool:
        """Train a part and write it, after `done` of `total` runs; whether it was interrupted."""
        from rankward.training.outputs import EnsembleOutputs
        from rankward.training.preflight import prepare, refuse_changed
        from rankward.training.train import fit

        jobs = [self.composer.compose(self.jobs[number]) for number in numbers]
        digests = [job.digest for job in jobs]
        for job in jobs:
            refuse_changed(job.resolved)
        part = max(results.table_parts(sweep), default=-1) + 1
        written = results.latest_checkpoint(checkpoint or sweep / CHECKPOINTS / f"{part}.ckpt")
        written.parent.mkdir(parents=True, exist_ok=True)
        module = prepare([job.run for job in jobs])
        seconds = fit(module, digests, written, checkpoint, (done, total))
        if module.interrupted:
            return True
        outputs = EnsembleOutputs(module, digests, seconds)
        summaries = map(outputs.summary, range(len(jobs)))
        rows = [_row(*each) for each in zip(numbers, jobs, summaries, strict=True)]
        results.write_part(
            sweep,
            part,
            runs=results.frame_of(rows),
            traces=_traces(outputs.trace, numbers),
            factors=_stacked([outputs.arrays(index) for index in range(len(numbers))]),
        )
        results.remove_checkpoint(written)
        return False


def _row(number: int, job: ComposedJob, summary: dict[str, Any]) -> dict[str, Any]:
    row = {"job": number, "run": str(number), "overrides": " ".join(job.overrides)}
    return row | results.row_of(results.flat(job.resolved), summary)


def _traces(trace: dict[str, np.ndarray], numbers: Sequence[int]) -> pl.DataFrame:
    """Rows of a part by job; null where a bound does not apply to a run (all NaN)."""
    rows = pl.DataFrame(trace | {"job": np.array(numbers)[trace["run"]]}).sort("job", "iteration")
    bounds = [name for name in rows.columns if name.startswith("bound/")]
    applies = [~pl.col(name).is_nan().all().over("job") for name in bounds]
    rows = rows.with_columns(pl.when(each).then(name).alias(name) for each, name in zip(applies, bounds, strict=True))
    return rows.select("job", pl.exclude("job", "run", *(name for name in bounds if rows[name].is_null().all())))


def _stacked(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, `[runs, ...]`; an array that is equal for all runs is `[1, ...]`."""
    stacked = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
    return {name: array[:1] if (array == array[:1]).all() else array for name, array in stacked.items()}


def uses_table(config: Any, jobs: int, possible: bool) -> bool:
    """Whether a sweep's results go into a table.

    Args:
        config: of the sweep.
        jobs: number of jobs.
        possible: whether the sweep's launcher and sweeper can make a table.

    Raises:
        ConfigError: `results=table` is requested, but not possible.
    """
    from rankward.figures import needs_folders

    requested = config.get("results")
    if requested == "folders" or (requested is None and not (possible and jobs >= AUTO_TABLE_RUNS)):
        return False
    pictures = [name for name in config.get("figures", []) if needs_folders(name)]
    if requested == "table" and not possible:
        raise ConfigError(
            "results", "table", "folders: only hydra/launcher=batched with hydra/sweeper=grid makes a table"
        )
    if requested == "table" and pictures:
        raise ConfigError("results", "table", f"folders: the figure {pictures[0]} is drawn from the runs' folders")
    return not pictures
