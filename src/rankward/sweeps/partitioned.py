"""A sweep of very many runs: composed and trained part by part, each part an ensemble, into one table.

Nothing is kept per run but its number, and no folder is made for it: memory stays flat. A part that is complete is
never trained again.
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
from rankward.config.explain import explain
from rankward.sweeps.compose_fast import Made, QuickComposer
from rankward.sweeps.execution.ensembles import fitting
from rankward.terminal import say

LEAST = 5000  # runs of a sweep from which a table is what one gets without asking
PART = 8192  # runs of an ensemble at most: what a part that has to be trained again costs
CHECKPOINTS = "checkpoints"

Job = Sequence[str]


class Table:
    """What becomes of a sweep's jobs where `results=table`.

    Args:
        composer: of the sweep.
        memory: bytes that an ensemble may take.
    """

    def __init__(self, composer: QuickComposer, memory: float) -> None:
        self.composer, self.memory = composer, memory
        self.jobs: Sequence[Job] = ()
        self.checked: Sequence[Job] = ()
        self._traits: dict[tuple[str, ...], object] = {}

    def check(self, jobs: Sequence[Job]) -> dict[int, str]:
        """What is wrong with each job, by number: all are composed, one of each kind made ready to train."""
        from rankward.training.preflight import check

        self.checked = jobs
        wrong: dict[int, str] = {}
        sound: set[tuple[str, ...]] = set()
        for number, job in enumerate(jobs):
            try:
                made = self.composer.make(job)
                if made.kind not in sound:
                    check(made.run)
                    sound.add(made.kind)
            except Exception as error:  # whatever composing meets is the user's to read
                wrong[number] = explain(error)[0]
        return wrong

    def refuse_other(self, sweep: Path) -> None:
        """Refuse a folder with results of another config than the jobs that were checked.

        Raises:
            ConfigError: the folder.
        """
        for part in results.table_parts(sweep):
            for number, digest in results.table_digests(sweep, part):
                if number < len(self.checked) and self.composer.make(self.checked[number]).digest != digest:
                    raise ConfigError(
                        "hydra.sweep.dir", str(sweep), "a folder that does not hold runs of another config"
                    )

    def plan(self, jobs: Sequence[Job]) -> str:
        """What a launch of these jobs would do."""
        from rankward.sweeps.summary import plan

        groups: dict[object, list[RunConfig]] = {}
        for job in jobs:
            groups.setdefault(self._ensemble(job), []).append(self.composer.make(job).run)
        return plan(list(groups.values()))

    def launch(self, jobs: Sequence[Job], sweep: Path) -> list[JobReturn]:
        """Train what is missing; which jobs failed.

        Raises:
            KeyboardInterrupt: training was interrupted; a checkpoint has what was done.
        """
        first = len(self.jobs)
        self.jobs = [*self.jobs, *jobs] if first else jobs
        completed = JobReturn(status=JobStatus.COMPLETED)  # one for all
        completed.return_value = float("nan")
        returns = [completed] * len(jobs)
        there = np.zeros(len(self.jobs), bool)
        for part in results.table_parts(sweep):  # what is there has been compared by `refuse_other`
            there[[number for number, _ in results.table_digests(sweep, part) if number < len(there)]] = True
        left: dict[object, array[int]] = {}
        for number, job in enumerate(jobs, start=first):
            if not there[number]:
                left.setdefault(self._ensemble(job), array("q")).append(number)
        done = len(jobs) - sum(map(len, left.values()))
        if done:
            say(f"{sweep}: {done:,} of {len(jobs):,} runs complete, kept")
        for numbers, checkpoint in self._parts(list(left.values()), sweep):
            try:
                interrupted = self._train(numbers, checkpoint, sweep, (done, len(jobs)))
            except Exception as error:  # this part's runs are missing; the others go on
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
        """What tells ensembles apart; of a kind it is found once."""
        from rankward.training.ensemble import traits

        kind = self.composer.kind(job)
        if kind not in self._traits:
            self._traits[kind] = traits(self.composer.make(job).run)
        return self._traits[kind]

    def _parts(self, groups: Sequence[array[int]], sweep: Path) -> Iterator[tuple[list[int], Path | None]]:
        """Jobs that train together, and the checkpoint that they go on from."""
        from rankward.training.resume import furthest_checkpoints

        furthest = furthest_checkpoints(results.checkpoints(sweep / CHECKPOINTS, "*.ckpt"))
        waiting = (number for group in groups for number in group) if furthest else ()
        by_digest = {self.composer.make(self.jobs[number]).digest: number for number in waiting}
        resumed: dict[Path, list[int]] = {}
        for digest, path in furthest.items():
            if digest in by_digest:
                resumed.setdefault(path, []).append(by_digest[digest])
        yield from ((numbers, path) for path, numbers in sorted(resumed.items()))
        taken = {number for numbers in resumed.values() for number in numbers}
        for group in groups:
            fresh = array("q", [number for number in group if number not in taken]) if taken else group
            size = max(1, min(PART, fitting(self.memory)(self.composer.make(self.jobs[group[0]]).run)))
            yield from ((list(fresh[at : at + size]), None) for at in range(0, len(fresh), size))

    def _train(self, numbers: list[int], checkpoint: Path | None, sweep: Path, place: tuple[int, int]) -> bool:
        """Train a part and write it; whether it was interrupted."""
        from rankward.training.outputs import EnsembleOutputs
        from rankward.training.preflight import prepare, refuse_changed
        from rankward.training.train import fit

        mades = [self.composer.make(self.jobs[number]) for number in numbers]
        digests = [made.digest for made in mades]
        for made in mades:
            refuse_changed(made.composed.resolved)
        part = max(results.table_parts(sweep), default=-1) + 1
        own = results.latest_checkpoint(checkpoint or sweep / CHECKPOINTS / f"{part}.ckpt")
        own.parent.mkdir(parents=True, exist_ok=True)
        module = prepare([made.run for made in mades])
        seconds = fit(module, digests, own, checkpoint, place)
        if module.interrupted:
            return True
        left = EnsembleOutputs(module, digests, seconds)
        rows = [
            self._row(number, made, left.summary(i))
            for i, (number, made) in enumerate(zip(numbers, mades, strict=True))
        ]
        results.write_part(
            sweep,
            part,
            runs=results.frame_of(rows),
            traces=_rows(left.trace, numbers),
            factors=_stacked([left.arrays(index) for index in range(len(numbers))]),
        )
        results.remove_checkpoint(own)
        return False

    def _row(self, number: int, made: Made, summary: dict[str, Any]) -> dict[str, Any]:
        row = {"job": number, "run": str(number), "overrides": " ".join(self.jobs[number])}
        return row | results.row_of(made.flat, summary)


def _rows(trace: dict[str, np.ndarray], numbers: Sequence[int]) -> pl.DataFrame:
    """A part's trace by job; where a bound says nothing of a run, as if it had no such column."""
    rows = pl.DataFrame(trace | {"job": np.array(numbers)[trace["run"]]}).sort("job", "iteration")
    bounds = [name for name in rows.columns if name.startswith("bound/")]
    silent = [pl.when(~pl.col(name).is_nan().all().over("job")).then(name).alias(name) for name in bounds]
    rows = rows.with_columns(silent)
    return rows.select("job", pl.exclude("job", "run", *(name for name in bounds if rows[name].is_null().all())))


def _stacked(arrays: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, [runs, ...]; one that is the same for all runs is [1, ...]."""
    stacked = {name: np.stack([each[name] for each in arrays]) for name in arrays[0]}
    return {name: array[:1] if (array == array[:1]).all() else array for name, array in stacked.items()}


def wanted(config: Any, jobs: int, possible: bool) -> bool:
    """Whether a sweep's results go into a table.

    Args:
        config: the sweep's.
        jobs: how many there are.
        possible: whether its launcher and sweeper can; they must where it is asked for.

    Raises:
        ConfigError: it is asked for, and cannot be.
    """
    from rankward.figures import needs_folders

    asked = config.get("results")
    if asked == "folders" or (asked is None and not (possible and jobs >= LEAST)):
        return False
    pictures = [name for name in config.get("figures", []) if needs_folders(name)]
    if asked == "table" and not possible:
        raise ConfigError(
            "results", "table", "folders: only hydra/launcher=batched with hydra/sweeper=grid makes a table"
        )
    if asked == "table" and pictures:
        raise ConfigError("results", "table", f"folders: the figure {pictures[0]} is drawn from runs' own")
    return not pictures
