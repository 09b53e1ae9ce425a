"""A sweep on a cluster: its ensembles cut into chunks, one task of a job array each, submitted through submitit."""

from __future__ import annotations

import json
import shutil
import sys
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
from rankward.sweeps.execution.sbatch import misleading
from rankward.sweeps.execution.scheduler import SUBMITTED, SchedulerUnavailable, Tasks, wrong_path
from rankward.terminal import say

RUNS_PER_TASK = 1000


class TaskFailed(RankwardError):
    """A run that its task has not completed."""


class ClusterExecutor:
    """Tasks of SLURM, or of this machine.

    Args:
        cluster: `slurm` or `local`.
        runs_per_task: runs of a chunk at most.
        tasks: chunks at most, in place of `runs_per_task`; a sweep has one for each kind of ensemble at least.
        wait: whether to stay until every task has ended.
        poll: seconds between two questions for the tasks' states.
        parameters: of submitit's executor, named as there.

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
            raise ConfigError("hydra.launcher.tasks", tasks, f"null: runs_per_task={runs_per_task} says how many")
        positive("hydra.launcher.poll", poll)
        positive("hydra.launcher.timeout_min", parameters["timeout_min"])
        self.cluster, self.runs_per_task, self.tasks = cluster, runs_per_task, tasks
        self.wait, self.poll = wait, poll
        self.parameters = _set(parameters)
        self.elsewhere, self.away = cluster == "slurm", False

    def check(self) -> None:
        """Refuse to submit without submitit, and SLURM where there is none.

        Raises:
            ConfigError: told before anything is written.
        """
        require("cluster", f"hydra/launcher={'slurm' if self.cluster == 'slurm' else 'submitit_local'}")
        if self.cluster == "slurm" and not (shutil.which("sbatch") and shutil.which("srun")):
            raise ConfigError("hydra/launcher", "slurm", "batched or submitit_local: sbatch and srun are not here")

    def claim(self, sweep: Path) -> None:
        """Nobody is disturbed: runs of live tasks are left to them."""

    def most(self, jobs: Sequence[Job]) -> Callable[[RunConfig], int]:
        """`runs_per_task`, or the fewest with which so many tasks are enough."""
        if self.tasks is None:
            return lambda config: self.runs_per_task or RUNS_PER_TASK
        groups = [len(group) for group in grouped(jobs, lambda config: len(jobs))]
        tasks = max(self.tasks, len(groups))
        size = next(size for size in range(1, len(jobs) + 1) if sum(-(-n // size) for n in groups) <= tasks)
        return lambda config: size

    def work(self, jobs: list[Job], returns: list[JobReturn], sweep: Path) -> None:
        """Submit a task for each chunk of the jobs that no live task has, and wait for all where asked to.

        Raises:
            ConfigError: the folder's tasks are of another kind of cluster.
            KeyboardInterrupt: while waiting; tasks of SLURM go on.
        """
        tasks = Tasks.read(sweep, self.cluster)
        live = tasks.live()
        if live and tasks.cluster != self.cluster:
            raise results.FolderLocked(f"{sweep} is in use: tasks {', '.join(live)} are at work on it")
        tasks.cluster = self.cluster
        theirs = {run for task in live for run in tasks.runs[task]}
        chunks = grouped(waiting, self.most(waiting)) if (waiting := _without(jobs, theirs)) else []
        if chunks:
            try:
                ids = self._submit(chunks, sweep)
            except Exception as error:  # what sbatch said, whatever submitit has wrapped it in
                _fail(waiting, returns, TaskFailed(f"sbatch: {_last_line(error)}"))
                return
            tasks.runs |= {task: [j.target.run for j in c] for task, c in zip(ids, chunks, strict=True)}
            tasks.write()
            say(f"tasks:   {', '.join(ids)}: {len(waiting)} runs; logs in {sweep / SUBMITTED}")
        if not self.wait:
            self.away = True
            return
        try:
            self._wait(tasks, jobs)
        except KeyboardInterrupt:
            told = "its tasks go on" if self.cluster == "slurm" else "its tasks were interrupted as well"
            raise KeyboardInterrupt(f"interrupted; {told}: rankward status {sweep}") from None
        _collect(tasks, jobs, returns)

    def _submit(self, chunks: Sequence[list[Job]], sweep: Path) -> list[str]:
        """Tasks' ids, a task a chunk."""
        import submitit

        from rankward.sweeps.execution.cluster_task import ClusterTask

        own = dict(self.parameters)
        timeouts = own.pop("max_num_timeout", 3)
        folder = sweep.resolve() / SUBMITTED
        executor: submitit.Executor
        if self.cluster == "local":  # AutoExecutor passes no signal_delay_s on to it
            executor = submitit.LocalExecutor(folder, max_num_timeout=timeouts)
            executor.update_parameters(**own)
        else:
            executor = submitit.AutoExecutor(folder, cluster="slurm", slurm_max_num_timeout=timeouts)
            shared = ("timeout_min", "cpus_per_task", "gpus_per_node", "mem_gb", "name", "stderr_to_stdout")
            executor.update_parameters(**{key if key in shared else f"slurm_{key}": own[key] for key in own})
        memory = own.get("mem_gb")
        options = [*own, *own.get("additional_parameters", {})]
        with hidden(*(misleading(options) if self.cluster == "slurm" else ())), executor.batch():
            submitted = [
                executor.submit(ClusterTask(sweep.resolve(), _resolved(c), Path.cwd(), memory)) for c in chunks
            ]
        return [job.job_id for job in submitted]

    def _wait(self, tasks: Tasks, jobs: Sequence[Job]) -> None:
        """Until no task lives; a bar of runs on a terminal."""
        left = [job.target.folder for job in jobs]
        with tqdm(total=len(left), unit="run", leave=False, disable=not sys.stderr.isatty()) as bar:
            while True:
                try:
                    live = tasks.live()
                except SchedulerUnavailable as error:  # schedulers restart; tasks go on
                    live = dict.fromkeys(tasks.runs, f"unknown ({error})")
                left = [folder for folder in left if not results.is_complete(folder)]
                bar.update(len(jobs) - len(left) - bar.n)
                states = list(live.values())
                bar.set_postfix({state: states.count(state) for state in dict.fromkeys(states)})
                if not live:
                    return
                time.sleep(self.poll)


def _set(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters that are not null, as plain values.

    Raises:
        ConfigError: an option with a line break, after which the job's script would run the rest.
    """
    plain: Any = OmegaConf.to_container(OmegaConf.create(dict(parameters)), resolve=True)
    more = {key: value for key, value in (plain.pop("additional_parameters", None) or {}).items() if value is not None}
    plain = {key: value for key, value in plain.items() if value is not None}
    beside = {f"additional_parameters.{key}": value for key, value in more.items()}
    for key, value in {**plain, **beside}.items():
        if key != "setup" and "\n" in str(value):
            raise ConfigError(f"hydra.launcher.{key}", value, "one line")
    return plain | ({"additional_parameters": more} if more else {})


def _without(jobs: Sequence[Job], runs: set[str]) -> list[Job]:
    return [job for job in jobs if job.target.run not in runs]


def _resolved(jobs: Sequence[Job]) -> list[Job]:
    """Jobs whose folders are named from the root: a node may start elsewhere."""
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
    """What became of jobs whose tasks have ended."""
    last = {run: task for task, runs in tasks.runs.items() for run in runs}
    for job in jobs:
        folder = job.target.folder
        if results.is_complete(folder) and not (folder / results.UNLOGGED).is_file():
            loss = results.read_summary(folder)["metrics"].get("loss", float("nan"))
            returns[job.number].return_value = float(loss)
            continue
        _fail([job], returns, TaskFailed(told(tasks, last[job.target.run], job.target.run)))


def told(tasks: Tasks, task: str, run: str) -> str:
    """Why a run of a task that has ended is not complete. Nothing is unpickled: the folder may be somebody else's."""
    try:
        known = dict(json.loads(results.read_text(wrong_path(tasks.sweep, task))))
    except (OSError, ValueError, TypeError, RecursionError):  # none, or torn
        known = {}
    if run in known:
        return str(known[run])
    if "" in known:
        return f"task {task}: {known['']}"
    return f"task {task} ended before the run was complete; its log is {tasks.log(task)}"


def _last_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if line.startswith("sbatch: error")), lines[-1] if lines else repr(error))


def _fail(jobs: Sequence[Job], returns: Sequence[JobReturn], error: Exception) -> None:
    for job in jobs:
        returns[job.number].status = JobStatus.FAILED
        returns[job.number].return_value = error
