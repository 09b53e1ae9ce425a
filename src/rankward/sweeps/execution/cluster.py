"""Executor that submits a sweep's jobs as tasks of a job array, through submitit."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import OmegaConf
from tqdm import tqdm

from rankward import results
from rankward.config import ConfigError, RankwardError, RunConfig
from rankward.config.checks import at_least, positive
from rankward.config.extras import require
from rankward.environment import hidden
from rankward.sweeps.execution.ensembles import Job, grouped
from rankward.sweeps.execution.sbatch import conflicting_variables
from rankward.sweeps.execution.scheduler import SUBMITTED, SchedulerUnavailable, Tasks, errors_path
from rankward.terminal import say, shows_progress

RUNS_PER_TASK = 1000


class TaskFailed(RankwardError):
    """A run was not completed by its task."""


class ClusterExecutor:
    """Executor of SLURM tasks, or of processes on this machine that submitit starts.

    Args:
        cluster: `slurm` or `local`.
        runs_per_task: the largest number of runs in a task.
        tasks: the largest number of tasks, as an alternative to `runs_per_task`; runs that cannot share an ensemble
            are in different tasks all the same.
        wait: whether to wait until every task has ended.
        poll: seconds between two queries of the tasks' states.
        parameters: of submitit's executor, with submitit's names.

    Raises:
        ConfigError: settings out of range.
    """

    def __init__(
        self,
        cluster: str,
        runs_per_task: int | None,
        tasks: int | None,
        wait: bool,
        poll: float,
        parameters: Mapping[str, Any],
    ) -> None:
        for key, value in (("runs_per_task", runs_per_task), ("tasks", tasks)):
            if value is not None:
                at_least(f"hydra.launcher.{key}", value, 1)
        if runs_per_task is not None and tasks is not None:
            raise ConfigError("hydra.launcher.tasks", tasks, f"null, because runs_per_task={runs_per_task} is set")
        positive("hydra.launcher.poll", poll)
        positive("hydra.launcher.timeout_min", parameters["timeout_min"])
        self.cluster, self.runs_per_task, self.tasks = cluster, runs_per_task, tasks
        self.wait, self.poll = wait, poll
        self.parameters = _without_null(parameters)
        self.remote = cluster == "slurm"

    def check(self) -> None:
        """Refuse SLURM on a machine without it, before anything is written.

        Raises:
            ConfigError: `sbatch` or `srun` is missing.
        """
        require("cluster", f"hydra/launcher={'slurm' if self.cluster == 'slurm' else 'submitit_local'}")
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ConfigError("hydra/launcher", "slurm", "batched or submitit_local: there is no sbatch and srun")

    def ensure_free(self, sweep: Path) -> None:
        """Accept: `run` submits no run that a live task has."""

    def max_runs(self, jobs: Sequence[Job]) -> Callable[[RunConfig], int]:
        """Limit a task to `runs_per_task`, or to the smallest number with which `tasks` tasks are enough."""
        if self.tasks is None:
            return lambda config: self.runs_per_task or RUNS_PER_TASK
        groups = [len(group) for group in grouped(jobs, lambda config: len(jobs))]
        tasks = max(self.tasks, len(groups))
        size = next(size for size in range(1, len(jobs) + 1) if sum(-(-n // size) for n in groups) <= tasks)
        return lambda config: size

    def run(self, jobs: list[Job], returns: list[JobReturn], sweep: Path) -> bool:
        """Submit the jobs that no live task has; with `wait`, return when all tasks have ended.

        Returns:
            Whether the tasks may still be running.

        Raises:
            FolderLocked: live tasks of another kind of cluster train the sweep.
            KeyboardInterrupt: interrupted while waiting; tasks of SLURM continue.
        """
        tasks = Tasks.read(sweep, self.cluster)
        live = tasks.live()
        if live and tasks.cluster != self.cluster:
            raise results.FolderLocked(f"{sweep} is in use: tasks {', '.join(live)} are at work on it")
        tasks.cluster = self.cluster
        in_tasks = {run for task in live for run in tasks.runs[task]}
        waiting = [job for job in jobs if job.target.run not in in_tasks]
        if waiting:
            batches = grouped(waiting, self.max_runs(waiting))
            try:
                ids = self._submit(batches, sweep)
            except Exception as error:  # submitit wraps the message of sbatch in several types
                _fail(waiting, returns, TaskFailed(f"sbatch: {_last_line(error)}"))
                return False
            tasks.runs |= {task: [job.target.run for job in b] for task, b in zip(ids, batches, strict=True)}
            tasks.write()
            say(f"tasks:   {', '.join(ids)}: {len(waiting)} runs; logs in {sweep / SUBMITTED}")
        if not self.wait:
            return True
        try:
            self._wait(tasks, jobs)
        except KeyboardInterrupt:
            state = "its tasks go on" if self.cluster == "slurm" else "its tasks were interrupted as well"
            raise KeyboardInterrupt(f"interrupted; {state}: rankward status {sweep}") from None
        _collect(tasks, jobs, returns)
        return False

    def _submit(self, batches: Sequence[list[Job]], sweep: Path) -> list[str]:
        """Submit a task for each batch; the tasks' ids."""
        import submitit

        from rankward.sweeps.execution.cluster_task import ClusterTask

        parameters = dict(self.parameters)
        timeouts = parameters.pop("max_num_timeout", 3)
        folder = sweep.resolve() / SUBMITTED
        executor: submitit.Executor
        if self.cluster == "local":  # AutoExecutor passes no signal_delay_s on to it
            executor = submitit.LocalExecutor(folder, max_num_timeout=timeouts)
            executor.update_parameters(**parameters)
        else:
            executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            shared = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name", "stderr_to_stdout")
            names = {key: key if key in shared else f"slurm_{key}" for key in parameters}
            executor.update_parameters(**{names[key]: parameters[key] for key in parameters})
        memory = parameters.get("mem_gb")
        options = [*parameters, *parameters.get("additional_parameters", {})]
        with hidden(*(conflicting_variables(options) if self.cluster == "slurm" else ())), executor.batch():
            submitted = [
                executor.submit(ClusterTask(sweep.resolve(), _resolved(b), Path.cwd(), memory)) for b in batches
            ]
        return [job.job_id for job in submitted]

    def _wait(self, tasks: Tasks, jobs: Sequence[Job]) -> None:
        """Wait until no task is live, with a progress bar of runs on a terminal."""
        left = [job.target.folder for job in jobs]
        with tqdm(total=len(left), unit="run", leave=False, disable=not shows_progress()) as bar:
            while True:
                try:
                    live = tasks.live()
                except SchedulerUnavailable as error:  # the scheduler may be restarting; tasks go on
                    live = dict.fromkeys(tasks.runs, f"unknown ({error})")
                left = [folder for folder in left if not results.is_complete(folder)]
                bar.update(len(jobs) - len(left) - bar.n)
                states = list(live.values())
                bar.set_postfix({state: states.count(state) for state in dict.fromkeys(states)})
                if not live:
                    return
                time.sleep(self.poll)


def _without_null(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that are not null, as plain values.

    Raises:
        ConfigError: an option with a line break, after which the job's script would run the rest of it.
    """
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(parameters)), resolve=True)
    more = {key: value for key, value in (plain.pop("additional_parameters", None) or {}).items() if value is not None}
    plain = {key: value for key, value in plain.items() if value is not None}
    additional = {f"additional_parameters.{key}": value for key, value in more.items()}
    for key, value in (plain | additional).items():
        if key != "setup" and "\n" in str(value):
            raise ConfigError(f"hydra.launcher.{key}", value, "one line")
    return plain | ({"additional_parameters": more} if more else {})


def _resolved(jobs: Sequence[Job]) -> list[Job]:
    """Jobs with absolute paths: a node may have another working directory."""
    from dataclasses import replace

    return [
        replace(
            job,
            target=replace(job.target, folder=job.target.folder.resolve(), shared=job.target.shared.resolve()),
            checkpoint=None if job.checkpoint is None else job.checkpoint.resolve(),
        )
        for job in jobs
    ]


def _collect(tasks: Tasks, jobs: Sequence[Job], returns: Sequence[JobReturn]) -> None:
    """Write the outcomes of jobs whose tasks have ended into `returns`."""
    last = {run: task for task, runs in tasks.runs.items() for run in runs}
    for job in jobs:
        folder = job.target.folder
        if _has_ended(job) and not (folder / results.UNLOGGED).is_file():
            loss = results.read_summary(folder)["metrics"].get("loss", float("nan"))
            returns[job.number].return_value = float(loss)
            continue
        _fail([job], returns, TaskFailed(failure_in_task(tasks, last[job.target.run], job.target.run)))


def _has_ended(job: Job) -> bool:
    """Whether a job has results, those at `max_seconds` included."""
    folder = job.target.folder
    if results.is_complete(folder):
        return True
    limited = job.config.max_seconds is not None and (folder / results.SUMMARY).is_file()
    return limited and results.read_summary(folder).get("status") == "max_seconds"


def failure_in_task(tasks: Tasks, task: str, run: str) -> str:
    """Why a run is not complete although its task has ended. No file is unpickled, since it may not be trusted."""
    try:
        errors = dict(json.loads(results.read_text(errors_path(tasks.sweep, task))))
    except (OSError, ValueError, TypeError, RecursionError):  # missing or torn
        errors = {}
    if run in errors:
        return str(errors[run])
    if "" in errors:
        return f"task {task}: {errors['']}"
    return f"task {task} ended before the run was complete; its log is {tasks.log(task)}"


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("sbatch: error")), lines[-1] if lines else repr(error))


def _fail(jobs: Sequence[Job], returns: Sequence[JobReturn], error: Exception) -> None:
    for job in jobs:
        returns[job.number].status = JobStatus.FAILED
        returns[job.number].return_value = error
