"""From a sweep's jobs to its folder: checked before, launched, and gathered after, whatever failed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from rankward import results
from rankward.config import ConfigError, RankwardError, RunConfig
from rankward.config.errors import SweepError
from rankward.config.explain import explain
from rankward.config.overrides import unquoted
from rankward.figures import check_name
from rankward.loggers import wandb_environment
from rankward.sweeps import is_ours
from rankward.sweeps.compose import Composer, Slim
from rankward.sweeps.compose_fast import QuickComposer
from rankward.sweeps.directory import (
    SWEEP,
    fresh,
    is_named,
    own,
    refuse_other,
    refuse_shared,
    run_names,
    usable,
)
from rankward.sweeps.execution.ensembles import TOLD
from rankward.sweeps.execution.local import LocalExecutor, refuse_live
from rankward.sweeps.finish import finish
from rankward.sweeps.partitioned import Table, wanted
from rankward.sweeps.settings import refuse_job_callbacks, refuse_two_sweeps
from rankward.terminal import say


class SweepRunner:
    """What every sweeper of ours does with jobs.

    Args:
        context: Hydra's.
        launcher: of Hydra's or ours.
        config: the sweep's.
        task_function: what runs a job. Of another program, which may use our sweepers, jobs are launched and no more.
    """

    def __init__(self, context: Any, launcher: Any, config: DictConfig, task_function: Any) -> None:
        self.launcher, self.config, self.callbacks = launcher, config, context.callbacks.callbacks
        self.own_program = is_ours(task_function)
        self.composer = Composer(context.config_loader, config)
        self.quick = QuickComposer(self.composer)
        self.batches = getattr(launcher, "batches", None)  # the batched launcher's core, or None with another
        self.dry_run = bool(config.hydra.launcher.get("dry_run", False))
        self.jobs: Sequence[Sequence[str]] = ()  # launched so far
        self.known: Sequence[Sequence[str]] = ()  # checked so far: of a sweep in batches all, while some are launched
        self.failed: dict[str, list[int]] = {}  # jobs by what went wrong
        self.folders_only = False  # for sweepers that look into runs' folders
        self.table: Table | None = None  # where results go into a table
        self.names: list[str] = []  # of the folders of all jobs that were launched, and of those checked last
        self.checked: list[tuple[Sequence[str], dict[str, Any]]] = []  # the jobs of the last check, and their configs

    def check(self, jobs: Sequence[Sequence[str]]) -> None:
        """Compose and check every job before the first starts.

        Raises:
            SweepError: jobs that cannot run, a line each.
        """
        if self.batches is not None and not self.dry_run:
            self.batches.crew.check()
        if not self.own_program:
            return
        for name in self.config.get("figures", []):
            check_name(name)
        refuse_two_sweeps(self.config, self.composer.loader.repository)
        wandb_environment.check(self.config.get("logger") or {}, in_sweep=True)
        if self.batches is not None:
            refuse_job_callbacks(self.config, self.callbacks)
        self.known = [*self.known, *jobs] if self.known else jobs
        if self._makes_table(len(jobs)):
            self._refuse(self._table().check(jobs), jobs)
            return
        launched = len(self.jobs)
        self.names[launched:] = run_names(self.composer.loader, self.config, jobs, launched)
        refuse_shared(self.names, [*self.jobs, *jobs] if launched else jobs)
        wrong: dict[int, str] = {}
        runs: list[RunConfig] = []
        composed: list[Slim] = []
        for number, job in enumerate(jobs):
            try:
                made = self.quick.make(job)
                runs.append(made.run)
                composed.append(made.composed)
            except Exception as error:  # whatever composing meets is the user's to read
                wrong[number] = explain(error)[0]
        if not wrong:  # only now what imports torch: observations are made, and starts drawn
            from rankward.training.preflight import check_all

            elsewhere = self.batches is not None and self.batches.crew.elsewhere
            wrong = {number: explain(error)[0] for number, error in check_all(runs, elsewhere).items()}
        self._refuse(wrong, jobs)
        self.checked = [(job, each.resolved) for job, each in zip(jobs, composed, strict=True)]
        if self.batches is not None:
            self.batches.composed = {tuple(job): both for job, *both in zip(jobs, composed, runs, strict=True)}

    def _makes_table(self, jobs: int) -> bool:
        possible = self.batches is not None and isinstance(self.batches.crew, LocalExecutor) and not self.folders_only
        return wanted(self.config, jobs, possible)

    def _table(self) -> Table:
        if self.table is None:
            assert self.batches is not None
            self.table = Table(self.quick, self.batches.crew.memory)
        return self.table

    @staticmethod
    def _refuse(wrong: Mapping[int, str], jobs: Sequence[Sequence[str]]) -> None:
        if not wrong:
            return
        whys: dict[str, list[int]] = {}
        for number, why in wrong.items():
            whys.setdefault(why, []).append(number)
        lines = [_told(numbers, jobs) + why for why, numbers in list(whys.items())[:TOLD]]
        more = sum(map(len, list(whys.values())[TOLD:]))
        raise SweepError([*lines, f"and {more:,} jobs more"] if more > 0 else lines)

    def plan(self, jobs: Sequence[Sequence[str]]) -> str:
        """What launching these jobs would do."""
        if self.table is not None:
            return self.table.plan(jobs)
        return f"{len(jobs)} jobs" if self.batches is None else str(self.batches.plan(jobs))

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """The sweep's folder, held for this process; one named on the command line may hold a sweep to go on with.

        Raises:
            ConfigError, FolderLocked: as `own` and `claimed`.
        """
        wanted = Path(self.config.hydra.sweep.dir)
        folder = own(wanted) if is_named("hydra.sweep.dir", self.config) else fresh(usable(wanted, "hydra.sweep.dir"))
        if folder != wanted:  # another sweep has begun in the same second
            with read_write(self.config), open_dict(self.config):
                self.config.hydra.sweep.dir = str(folder)
                self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder}")
            if self.batches is not None:
                self.batches.composed.clear()  # they have the other folder in their files
        with results.claimed(folder):
            if self.table is None and results.is_table(folder):
                raise ConfigError("results", "folders", f"table, which {folder} holds")
            # Before the folder's file says that another launcher, or another config, goes on.
            (refuse_live if self.batches is None else self.batches.crew.claim)(folder)
            self._refuse_other(folder)
            results.write_atomic(folder / SWEEP, lambda path: OmegaConf.save(self.config, path))
            yield folder

    def _refuse_other(self, folder: Path) -> None:
        """Refuse a folder with runs of another config, while its own config stands."""
        if self.table is not None:
            self.table.refuse_other(folder)
            return
        wrong: dict[int, str] = {}
        for number, (_, resolved) in enumerate(self.checked):
            try:
                refuse_other(self.run_folder(folder, number), resolved, "hydra.sweep.dir", folder)
            except ConfigError as error:
                wrong[number] = str(error)
        self._refuse(wrong, [job for job, _ in self.checked])

    def run_folder(self, sweep: Path, number: int) -> Path:
        """The folder of a job that was checked."""
        return sweep / (self.names[number] if self.names else str(number))

    def launch(self, jobs: Sequence[list[str]]) -> Sequence[JobReturn]:
        """Run jobs, numbered on from those before; failures are kept for the end."""
        first = len(self.jobs)
        self.jobs = [*self.jobs, *jobs] if first else jobs
        if self.own_program:
            results.write_job_list(Path(self.config.hydra.sweep.dir), len(self.jobs), self._varying())
        batch: Sequence[JobReturn]
        if self.table is not None:
            batch = self.table.launch(jobs, Path(self.config.hydra.sweep.dir))
        else:
            batch = self.launcher.launch([*jobs], initial_job_idx=first)
        for number, job in enumerate(batch, start=first):
            if job.status == JobStatus.FAILED:
                error = replace(job, status=JobStatus.COMPLETED).return_value  # a failed job would raise it, and print
                line, _ = explain(error)
                self.failed.setdefault(line, []).append(number)
        return batch

    def _varying(self) -> list[str]:
        """Keys that vary between the sweep's jobs, those that a later round of a refinement changes among them."""
        refined = list((self.config.hydra.sweeper.get("refine") or {}).get("factors", {}))
        return [*(key for key in results.varying_keys(self.known) if key not in refined), *refined]

    def finish(self, folder: Path, tables: Mapping[str, pl.DataFrame] | None = None) -> None:
        """Gather what the jobs left.

        Raises:
            SweepError: jobs that failed, or a table or figure that could not be made.
        """
        lines = [_told(numbers, self.jobs) + line for line, numbers in self.failed.items()]
        if gone := self._gone(folder):
            lines.append(_told(gone, self.jobs) + "the folder was deleted or moved before the sweep ended")
        try:
            if self.batches is not None and self.batches.crew.away:
                say(f"submitted; rankward status {folder} tells how far they are, and gathers what they leave")
            elif self.own_program:
                wandb = self.config.get("logger", {}).get("wandb")
                finish(folder, self.config.get("figures", []), wandb, tables, self._configs())
        except (OSError, RankwardError) as error:
            lines.append(explain(error)[0])
        if lines:
            raise SweepError(lines, exit_code=1)

    def _gone(self, folder: Path) -> list[int]:
        """Jobs that have not failed, and whose folder is not there or has lost its config."""
        if not self.own_program or self.table is not None:
            return []
        failed = {number for numbers in self.failed.values() for number in numbers}
        there = {results.run_name(folder, path) for path in results.run_folders(folder)}
        names = self.names[: len(self.jobs)]
        return [number for number, name in enumerate(names) if number not in failed and name not in there]

    def _configs(self) -> results.KnownRuns:
        """Overrides and configs of the jobs by their folders, where all of them were checked at once."""
        if self.folders_only or len(self.checked) != len(self.jobs):
            return {}
        return dict(zip(self.names, self.checked, strict=True))


def _told(numbers: Sequence[int], jobs: Sequence[Sequence[str]]) -> str:
    """Which jobs a line is about: one with its overrides, or many by number."""
    if len(numbers) == 1:
        return f"job {numbers[0]} ({' '.join(map(unquoted, jobs[numbers[0]]))}): "
    shown = ", ".join(map(str, numbers[:8])) + (f" and {len(numbers) - 8} more" if len(numbers) > 8 else "")
    return f"jobs {shown}: "
