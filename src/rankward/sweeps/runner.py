"""Run a sweep's jobs, for all sweepers: check them, open the sweep's folder, launch them, and finish the sweep."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig, open_dict, read_write

from rankward import results
from rankward.config import ConfigError, RankwardError
from rankward.config.errors import SweepError
from rankward.config.explain import explain
from rankward.config.overrides import unquoted
from rankward.config.recording import plain_values, without_unset
from rankward.figures import check_name
from rankward.loggers import wandb_environment
from rankward.sweeps import is_ours
from rankward.sweeps.compose import ComposedJob, Composer
from rankward.sweeps.compose_fast import QuickComposer
from rankward.sweeps.directory import (
    SWEEP,
    check_path,
    create_unique,
    is_named,
    open_or_create,
    refuse_other_config,
    refuse_shared,
    run_names,
)
from rankward.sweeps.effects import unused_overrides
from rankward.sweeps.execution.local import LocalExecutor, refuse_live_tasks
from rankward.sweeps.launcher import EnsembleLauncher
from rankward.sweeps.partitioned import PartitionedSweep, uses_table
from rankward.sweeps.settings import refuse_job_callbacks, refuse_two_sweeps
from rankward.sweeps.summary import finish
from rankward.terminal import say

MAX_ERRORS = 100  # lines of errors
MAX_NUMBERS = 8  # jobs in such a line


class SweepRunner:
    """Checks, launches and finishes the jobs of a sweep.

    Args:
        context: Hydra's context.
        launcher: Hydra's or Rankward's.
        config: of the sweep.
        task_function: that runs a job. The jobs of another program are launched without checks.
        needs_folders: whether the sweeper reads the runs' folders, so that results cannot go into a table.
    """

    def __init__(
        self, context: Any, launcher: Any, config: DictConfig, task_function: Any, needs_folders: bool = False
    ) -> None:
        self.launcher, self.config, self.callbacks = launcher, config, context.callbacks.callbacks
        self.is_ours, self.needs_folders = is_ours(task_function), needs_folders
        self.composer = Composer(context.config_loader, config)
        self.quick_composer = QuickComposer(self.composer)
        core = getattr(launcher, "core", None)
        self.ensembles = core if isinstance(core, EnsembleLauncher) else None  # None with Hydra's launchers
        self.dry_run = bool(config.hydra.launcher.get("dry_run", False))
        self.jobs: Sequence[Sequence[str]] = ()  # launched so far
        self.all_checked: Sequence[Sequence[str]] = ()  # checked so far
        self.failed: dict[str, list[int]] = {}  # numbers of failed jobs by their error
        self.detached = False  # whether jobs are still running on a cluster
        self.partitioned: PartitionedSweep | None = None  # with results=table
        self.names: list[str] = []  # folders of the jobs that were launched, and of those that were checked last
        self.checked: list[tuple[Sequence[str], dict[str, Any]]] = []  # jobs of the last check and their configs
        self.composed: dict[tuple[str, ...], ComposedJob] = {}  # jobs of the last check that were not launched

    def check(self, jobs: Sequence[Sequence[str]]) -> None:
        """Compose and check every job before the first one starts.

        Raises:
            SweepError: jobs that cannot run, a line for each error.
        """
        if self.ensembles is not None and not self.dry_run:
            self.ensembles.executor.check()
        if not self.is_ours:
            return
        for name in self.config.get("figures", []):
            check_name(name)
        refuse_two_sweeps(self.config, self.composer.loader.repository)
        wandb_environment.check(self.config.get("logger") or {}, in_sweep=True)
        if self.ensembles is not None:
            refuse_job_callbacks(self.config, self.callbacks)
        self.all_checked = [*self.all_checked, *jobs] if self.all_checked else jobs
        if partitioned := self._partitioned(len(jobs)):
            self._refuse(partitioned.check(jobs, self._resumes()), jobs)
            return
        launched = len(self.jobs)
        self.names[launched:] = run_names(self.composer.loader, self.config, jobs, launched)
        refuse_shared(self.names, [*self.jobs, *jobs] if launched else jobs)
        errors: dict[int, str] = {}
        composed: list[ComposedJob] = []
        for number, job in enumerate(jobs):
            try:
                composed.append(self.quick_composer.compose(job))
            except Exception as error:  # composing can raise anything; the user reads it in a line
                errors[number] = explain(error)[0]
        if not errors:  # only now is torch imported: the check makes observations and draws initial factors
            from rankward.training.preflight import check_all

            remote = self.ensembles is not None and self.ensembles.executor.remote
            found: Mapping[int, Exception] = check_all([job.run for job in composed], remote)
            if not found and not self._resumes():
                found = unused_overrides([(job.run, job.overrides) for job in composed])
            errors = {number: explain(error)[0] for number, error in found.items()}
        self._refuse(errors, jobs)
        self.checked = [(job, each.resolved) for job, each in zip(jobs, composed, strict=True)]
        self.composed = {tuple(job): each for job, each in zip(jobs, composed, strict=True)}

    def _resumes(self) -> bool:
        """Whether the command line names the folder of a sweep; an old one may have settings without effect."""
        return is_named("hydra.sweep.dir", self.config) and (Path(self.config.hydra.sweep.dir) / SWEEP).is_file()

    def _partitioned(self, jobs: int) -> PartitionedSweep | None:
        """The sweep's `PartitionedSweep` if its results go into a table."""
        executor = None if self.ensembles is None or self.needs_folders else self.ensembles.executor
        if not uses_table(self.config, jobs, isinstance(executor, LocalExecutor)):
            return None
        if self.partitioned is None:
            assert isinstance(executor, LocalExecutor)
            self.partitioned = PartitionedSweep(self.quick_composer, executor.memory)
        return self.partitioned

    @staticmethod
    def _refuse(errors: Mapping[int, str], jobs: Sequence[Sequence[str]]) -> None:
        if not errors:
            return
        by_error: dict[str, list[int]] = {}
        for number, error in errors.items():
            by_error.setdefault(error, []).append(number)
        lines = [_format_jobs(numbers, jobs) + error for error, numbers in list(by_error.items())[:MAX_ERRORS]]
        more = sum(map(len, list(by_error.values())[MAX_ERRORS:]))
        raise SweepError([*lines, f"and {more:,} jobs more"] if more > 0 else lines)

    def plan(self, jobs: Sequence[Sequence[str]]) -> str:
        """Format the plan of a launch of these jobs, which were checked last."""
        if self.partitioned is not None:
            return self.partitioned.plan(jobs)
        if self.ensembles is None or not self.is_ours:
            return f"{len(jobs)} jobs"
        return self.ensembles.plan([self.composed[tuple(job)] for job in jobs])

    @contextlib.contextmanager
    def folder(self) -> Iterator[Path]:
        """Open the sweep's folder and lock it for this process.

        A folder that the command line names may be that of a sweep, which is then resumed.

        Raises:
            ConfigError: as `open_or_create`, or the folder has runs of another config.
            FolderLocked: another process or a task trains the sweep.
        """
        path = Path(self.config.hydra.sweep.dir)
        if is_named("hydra.sweep.dir", self.config):
            folder = open_or_create(path)
        else:
            folder = create_unique(check_path(path, "hydra.sweep.dir"))
        if folder != path:  # another sweep has started in the same second
            with read_write(self.config), open_dict(self.config):
                self.config.hydra.sweep.dir = str(folder)
                self.config.hydra.overrides.hydra.append(f"hydra.sweep.dir={folder}")
            self.composed.clear()  # the files of these jobs would name the other folder
        with results.claimed(folder):
            if self.partitioned is None and results.is_table(folder):
                raise ConfigError("results", "folders", f"table, which {folder} holds")
            # These checks come before multirun.yaml is written, which is the config of the sweep in this folder.
            (refuse_live_tasks if self.ensembles is None else self.ensembles.executor.ensure_free)(folder)
            self._refuse_other_config(folder)
            text = results.to_yaml(without_unset(plain_values(self.config)))
            results.write_atomic(folder / SWEEP, lambda path: path.write_text(text, encoding="utf-8"))
            yield folder

    def _refuse_other_config(self, folder: Path) -> None:
        if self.partitioned is not None:
            self.partitioned.refuse_other_config(folder)
            return
        errors: dict[int, str] = {}
        for number, (_, resolved) in enumerate(self.checked):
            try:
                refuse_other_config(self.run_folder(folder, number), resolved, "hydra.sweep.dir", folder)
            except ConfigError as error:
                errors[number] = str(error)
        self._refuse(errors, [job for job, _ in self.checked])

    def run_folder(self, sweep: Path, number: int) -> Path:
        """Folder of a job that was checked."""
        return sweep / (self.names[number] if self.names else str(number))

    def launch(self, jobs: Sequence[list[str]]) -> Sequence[JobReturn]:
        """Run jobs, numbered after those launched before; errors are recorded for `finish`."""
        first = len(self.jobs)
        self.jobs = [*self.jobs, *jobs] if first else jobs
        sweep = Path(self.config.hydra.sweep.dir)
        if self.is_ours:
            results.write_job_list(sweep, len(self.jobs), self._varying_keys())
        returns: Sequence[JobReturn]
        if self.partitioned is not None:
            returns = self.partitioned.launch(jobs, sweep)
        elif self.ensembles is not None:
            returns, detached = self.ensembles.launch(jobs, first, self.composed)
            self.detached |= detached
        else:
            returns = self.launcher.launch([*jobs], initial_job_idx=first)
        for number, job in enumerate(returns, start=first):
            if job.status == JobStatus.FAILED:
                error = replace(job, status=JobStatus.COMPLETED).return_value  # a failed job would raise it, and print
                line, _ = explain(error)
                self.failed.setdefault(line, []).append(number)
        return returns

    def _varying_keys(self) -> list[str]:
        """Keys that vary between jobs, with those that a later round of a refinement changes."""
        refined = list((self.config.hydra.sweeper.get("refine") or {}).get("factors", {}))
        return [*(key for key in results.varying_keys(self.all_checked) if key not in refined), *refined]

    def finish(self, folder: Path, tables: Mapping[str, pl.DataFrame] | None = None) -> None:
        """Make the sweep's table, figures and summaries, and report the errors.

        Raises:
            SweepError: jobs have failed, or a table or figure could not be made.
        """
        lines = [_format_jobs(numbers, self.jobs) + line for line, numbers in self.failed.items()]
        if missing := self._without_folder(folder):
            lines.append(_format_jobs(missing, self.jobs) + "the folder was deleted or moved before the sweep ended")
        try:
            if self.detached:
                say(f"submitted; rankward status {folder} shows the progress, and makes the table at the end")
            elif self.is_ours:
                wandb = self.config.get("logger", {}).get("wandb")
                finish(folder, self.config.get("figures", []), wandb, tables, self._configs())
        except (OSError, RankwardError) as error:
            lines.append(explain(error)[0])
        if lines:
            raise SweepError(lines, exit_code=1)

    def _without_folder(self, folder: Path) -> list[int]:
        """Jobs that have not failed, and whose folder is missing or has no config."""
        if not self.is_ours or self.partitioned is not None:
            return []
        failed = {number for numbers in self.failed.values() for number in numbers}
        existing = {results.run_name(folder, path) for path in results.run_folders(folder)}
        names = self.names[: len(self.jobs)]
        return [number for number, name in enumerate(names) if number not in failed and name not in existing]

    def _configs(self) -> results.KnownRuns:
        """Overrides and configs of the jobs by their folders; empty if not all jobs were in the last check."""
        if self.needs_folders or len(self.checked) != len(self.jobs):
            return {}
        return dict(zip(self.names, self.checked, strict=True))


def _format_jobs(numbers: Sequence[int], jobs: Sequence[Sequence[str]]) -> str:
    """Beginning of a line about jobs: one job with its overrides, or the numbers of several."""
    if len(numbers) == 1:
        return f"job {numbers[0]} ({' '.join(map(unquoted, jobs[numbers[0]]))}): "
    more = f" and {len(numbers) - MAX_NUMBERS} more" if len(numbers) > MAX_NUMBERS else ""
    return f"jobs {', '.join(map(str, numbers[:MAX_NUMBERS]))}{more}: "
