"""Launcher that trains the jobs of a sweep as ensembles; results are the same as if each job were trained alone.

Hydra's files are written into every job's folder, as its basic launcher does. Then the jobs that are not complete are
grouped by what an ensemble shares (shapes, dtype, engine, schedule, metrics), and an executor trains the groups. If
jobs differ only in settings without effect, this process trains the first one, and the others get its results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from omegaconf import DictConfig, open_dict

from rankward import results
from rankward.config import RankwardError, RunConfig, run_config
from rankward.sweeps import is_ours
from rankward.sweeps.compose import ComposedJob
from rankward.sweeps.directory import drop_checkpoints, is_numbered, refuse_other_config, refuse_shared, run_names
from rankward.sweeps.dry_run import plan
from rankward.sweeps.effects import effective
from rankward.sweeps.execution.ensembles import (
    MAX_LISTED,
    Job,
    JobOutcome,
    failed_outcome,
    find_checkpoints,
    grouped,
)
from rankward.sweeps.execution.local import Executor, LocalExecutor, record
from rankward.terminal import say

ComposedJobs = dict[tuple[str, ...], ComposedJob]  # by overrides


class EnsembleLauncher:
    """Implementation of the launcher plugins.

    Args:
        executor: that trains the jobs.
    """

    def __init__(self, executor: Executor) -> None:
        self.executor = executor
        self.sources: dict[str, Path] = {}  # folders of jobs with results, by `effective`

    def setup(self, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Receive Hydra's context, the function that runs a job, and the sweep's config."""
        self.context, self.task_function, self.config = hydra_context, task_function, config

    def launch(
        self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int, composed: ComposedJobs | None = None
    ) -> tuple[list[JobReturn], bool]:
        """Make every job's folder and train the jobs that are not complete.

        Args:
            job_overrides: of each job.
            initial_job_idx: number of the first job.
            composed: jobs that the sweeper has checked, removed one by one to free their memory; None if a sweeper
                does not check jobs.

        Returns:
            The outcome of each job in order, and whether jobs are still running on a cluster.

        Raises:
            KeyboardInterrupt: training was interrupted; results and checkpoints are saved.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        launch = _Launch(self, initial_job_idx, len(job_overrides))
        if launch.is_ours and composed is None:
            names = run_names(self.context.config_loader, self.config, job_overrides, initial_job_idx)
            refuse_shared(names, job_overrides)
        launch.sweep.mkdir(parents=True, exist_ok=True)
        for overrides in job_overrides:
            launch.add(list(overrides), composed.pop(tuple(overrides), None) if composed else None)
        return launch.returns, launch.train()

    def plan(self, jobs: Sequence[ComposedJob]) -> str:
        """Format the plan of a launch of these jobs."""
        waiting: dict[object, Job] = {}
        for number, job in enumerate(jobs):
            key = self.effective(job.run, job.resolved) or number
            waiting.setdefault(key, Job(number, job.run, None))
        trained = list(waiting.values())
        batches = grouped(trained, self.executor.max_runs(trained))
        return plan([[job.config for job in batch] for batch in batches], len(jobs) - len(trained))

    def effective(self, run: RunConfig, resolved: dict[str, Any]) -> str:
        """As the function of this name; empty with a cluster, whose tasks may still run when this process ends."""
        return effective(run, resolved) if isinstance(self.executor, LocalExecutor) else ""


class _Launch:
    """One launch: jobs are added, then trained.

    Args:
        launcher: with Hydra's context.
        first: number of the first job.
        total: number of jobs.
    """

    def __init__(self, launcher: EnsembleLauncher, first: int, total: int) -> None:
        self.launcher, self.config, self.first = launcher, launcher.config, first
        self.sweep = Path(self.config.hydra.sweep.dir)
        self.is_ours = is_ours(launcher.task_function)
        self.listed = total <= MAX_LISTED
        self.varying_keys = results.read_varying_keys(self.sweep)
        self.is_numbered = is_numbered(self.config)
        self.returns: list[JobReturn] = []
        self.waiting: list[Job] = []
        self.digests: set[str] = set()

    def add(self, overrides: list[str], composed: ComposedJob | None) -> None:
        """Make a job's folder; the job waits for training if it is not complete."""
        try:
            # Folder and files can be made without Hydra if they have their default names and contents.
            if self.is_ours and self.is_numbered and composed is not None and composed.base is not None:
                returned = self._make_folder(overrides, composed)
            else:
                returned = self._run_hydra(overrides)
        except (OSError, RankwardError) as error:  # the other jobs go on
            returned = JobReturn(overrides=overrides, status=JobStatus.FAILED)
            returned.return_value = _in_one_line(error)
        self.returns.append(returned)

    def _make_folder(self, overrides: list[str], job: ComposedJob) -> JobReturn:
        number = self.first + len(self.returns)
        folder = self.sweep / str(number)
        refuse_other_config(folder, job.resolved, "hydra.sweep.dir", self.sweep)
        if not (results.is_complete(folder) and results.read_overrides(folder) == overrides):
            (folder / ".hydra").mkdir(parents=True, exist_ok=True)
            for name, text in job.hydra_files(number, folder).items():
                (folder / ".hydra" / name).write_text(text, encoding="utf-8")
        returned = JobReturn(overrides=overrides, working_dir=str(Path.cwd()), status=JobStatus.COMPLETED)
        returned.return_value = self._enqueue(job.run, folder, job.resolved, overrides)
        return returned

    def _run_hydra(self, overrides: list[str]) -> JobReturn:
        """Let Hydra make the folder; the job of another program is run at once."""
        launcher = self.launcher
        config = launcher.context.config_loader.load_sweep_config(self.config, overrides)
        number = self.first + len(self.returns)
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number

        def task(cfg: DictConfig) -> Any:
            if not self.is_ours:
                return launcher.task_function(cfg)
            from rankward.training.job import record_config

            folder = Path(HydraConfig.get().runtime.output_dir)
            resolved = record_config(cfg, folder)
            return self._enqueue(run_config(cfg), folder, resolved, overrides)

        returned = run_job(
            hydra_context=launcher.context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return returned

    def _enqueue(
        self, run: RunConfig, folder: Path, resolved: dict[str, Any], overrides: Sequence[str]
    ) -> float | None:
        """The last loss of a run that is complete; None if the job waits for training."""
        from rankward.loggers.run import log_from_files
        from rankward.training.job import log_header, sweep_target
        from rankward.training.resume import completed_loss

        index = len(self.returns)
        target = sweep_target(run, folder, resolved, overrides, self.sweep, self.first + index, self.varying_keys)
        self.digests.add(target.digest)
        loss = completed_loss(folder, target.digest, self.listed)
        if loss is None:
            results.note(folder, log_header(target))
            self.waiting.append(Job(index, run, target))
        else:
            log_from_files(run, target)
            if key := self.launcher.effective(run, resolved):
                self.launcher.sources.setdefault(key, folder)
        return loss

    def train(self) -> bool:
        """Train the waiting jobs; whether some are still running on a cluster."""
        complete = sum(each.status == JobStatus.COMPLETED and each.return_value is not None for each in self.returns)
        if not self.listed and complete:
            say(f"{self.sweep}: {complete:,} of {len(self.returns):,} runs complete, kept")
        distinct, equal = self._distinct()
        find_checkpoints(distinct, results.run_checkpoints(self.sweep))
        detached = self.launcher.executor.run(distinct, self.returns, self.sweep)
        self._copy(distinct, equal)
        failed = any(job.status == JobStatus.FAILED for job in self.returns)
        if self.is_ours and not detached and not failed:
            drop_checkpoints(self.sweep, self.digests - self._out_of_time())
        return detached

    def _out_of_time(self) -> set[str]:
        """Config hashes of jobs that have ended at `max_seconds`."""
        limited = [job.target for job in self.waiting if job.config.max_seconds is not None]
        return {target.digest for target in limited if not results.is_complete(target.folder)}

    def _distinct(self) -> tuple[list[Job], list[tuple[Job, Path]]]:
        """The jobs to be trained, and those that are equal to another one, with the other one's folder."""
        distinct: list[Job] = []
        equal: list[tuple[Job, Path]] = []
        for job in self.waiting:
            key = self.launcher.effective(job.config, job.target.config)
            source = self.launcher.sources.setdefault(key, job.target.folder) if key else job.target.folder
            if source == job.target.folder:
                distinct.append(job)
            else:
                equal.append((job, source))
        if equal:
            total = f"{self.sweep}: {len(equal):,} of {len(self.returns):,} jobs"
            say(f"{total} are equal to another in all that has effect: they get its results (equal_to in summary.json)")
        return distinct, equal

    def _copy(self, distinct: Sequence[Job], equal: Sequence[tuple[Job, Path]]) -> None:
        """Give the jobs that are equal to another one its results, or its error."""
        trained = {job.target.folder: self.returns[job.number] for job in distinct}
        for job, source in equal:
            of_source = trained.get(source)
            # A job whose loggers failed has results all the same.
            if of_source is None or of_source.status == JobStatus.COMPLETED or results.is_complete(source):
                record([_copied(job, source)], self.returns)
            else:
                error: Any = replace(of_source, status=JobStatus.COMPLETED).return_value  # a failed job would raise it
                record([failed_outcome(job, error)], self.returns)
        kept = {key: path for key, path in self.launcher.sources.items() if path not in trained}
        self.launcher.sources = kept | {k: p for k, p in self.launcher.sources.items() if results.is_complete(p)}


def _copied(job: Job, source: Path) -> JobOutcome:
    """The outcome of a job that gets the results of an equal one."""
    target = job.target
    try:
        first = results.read_summary(source).get("equal_to", results.run_name(target.shared, source))
        summary = results.copy_run(source, target.folder, {"config_hash": target.digest, "equal_to": first})
    except results.ResultsError as error:
        return failed_outcome(job, error)
    results.note(target.folder, f"equal to job {first} in all that has effect: its results")
    (target.folder / results.FAILURE).unlink(missing_ok=True)  # of an earlier attempt
    return JobOutcome(job.number, float(summary["metrics"].get("loss", float("nan"))))


def _in_one_line(error: OSError | RankwardError) -> Exception:
    if isinstance(error, OSError) and error.filename is not None:
        return results.io_error("write", Path(str(error.filename)), error)
    return error
