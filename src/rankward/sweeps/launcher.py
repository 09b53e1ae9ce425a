"""A multirun as a few ensembles: jobs that can share one train side by side, and each leaves what it would alone.

Hydra makes every job's folder as its basic launcher does. Then, instead of training there, the jobs are gathered,
grouped by what an ensemble shares (shapes, dtype, engine, schedule, metrics), and trained group by group.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus, configure_log, run_job, setup_globals
from omegaconf import DictConfig, open_dict

from rankward import results
from rankward.config import RankwardError, RunConfig, run_config
from rankward.sweeps import is_ours
from rankward.sweeps.compose import Slim
from rankward.sweeps.directory import drop_checkpoints, is_numbered, refuse_other, refuse_shared, run_names
from rankward.sweeps.execution.ensembles import TOLD, Job, find_checkpoints, grouped
from rankward.sweeps.execution.local import Executor
from rankward.terminal import say


class EnsembleLauncher:
    """What `hydra/launcher=batched` does, apart from being a plugin.

    Args:
        crew: trains the jobs: `LocalExecutor`, or tasks of a cluster.
    """

    def __init__(self, crew: Executor) -> None:
        self.crew = crew

    def setup(self, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Take what Hydra hands to a launcher."""
        self.context, self.task_function, self.config = hydra_context, task_function, config
        self.own_program = is_ours(task_function)
        # By overrides, where a sweeper has composed and checked the jobs already.
        self.composed: dict[tuple[str, ...], tuple[Slim, RunConfig]] = {}

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Make every job's folder, train the jobs in groups, and return what became of each, in order.

        Raises:
            KeyboardInterrupt: training was interrupted; what was done is saved.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        if self.own_program and not self.composed:  # another sweeper's jobs: ours has looked already
            refuse_shared(
                run_names(self.context.config_loader, self.config, job_overrides, initial_job_idx), job_overrides
            )
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        returns: list[JobReturn] = []
        jobs: list[Job] = []
        self.digests: set[str] = set()  # of this launch's configs
        self.keys = results.read_varying_keys(Path(self.config.hydra.sweep.dir))
        self.told = len(job_overrides) <= TOLD
        # Where a job's folder, and what Hydra leaves there, are the defaults, they are made without Hydra.
        plain = self.own_program and is_numbered(self.config)
        for number, overrides in enumerate(job_overrides):
            begin = self._begin_fast if plain and tuple(overrides) in self.composed else self._begin
            try:
                returns.append(begin(number, initial_job_idx + number, list(overrides), jobs))
            except (OSError, RankwardError) as error:  # a folder that cannot be made or is another's; the others go on
                failed = JobReturn(overrides=list(overrides), status=JobStatus.FAILED)
                failed.return_value = _in_one_line(error)
                returns.append(failed)
        if not self.told and (kept := sum(each.return_value is not None for each in returns if _completed(each))):
            say(f"{self.config.hydra.sweep.dir}: {kept:,} of {len(returns):,} runs complete, kept")
        self._train(jobs, returns)
        return returns

    def _begin_fast(self, number: int, index: int, overrides: list[str], jobs: list[Job]) -> JobReturn:
        composed, run = self.composed.pop(tuple(overrides))
        if composed.template is None:
            return self._begin(number, index, overrides, jobs)
        folder = Path(self.config.hydra.sweep.dir) / str(index)
        refuse_other(folder, composed.resolved, "hydra.sweep.dir", folder.parent)
        if not (results.is_complete(folder) and results.read_overrides(folder) == overrides):
            (folder / ".hydra").mkdir(parents=True, exist_ok=True)
            for name, text in composed.files(index, folder).items():
                (folder / ".hydra" / name).write_text(text, encoding="utf-8")
        made = JobReturn(overrides=overrides, working_dir=str(Path.cwd()), status=JobStatus.COMPLETED)
        made.return_value = self._join(number, index, run, folder, composed.resolved, overrides, jobs)
        return made

    def _begin(self, number: int, index: int, overrides: list[str], jobs: list[Job]) -> JobReturn:
        """A job's folder and Hydra's files in it, by Hydra; the job joins `jobs` where there is something to train."""
        config = self.context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id = index
            config.hydra.job.num = index

        def task(cfg: DictConfig) -> Any:
            if not self.own_program:
                return self.task_function(cfg)  # somebody else's program with this launcher
            from rankward.training.job import record_config

            folder = Path(HydraConfig.get().runtime.output_dir)
            plain = record_config(cfg, folder)
            return self._join(number, index, run_config(cfg), folder, plain, overrides, jobs)

        made = run_job(
            hydra_context=self.context,
            task_function=task,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        return made

    def _join(
        self,
        number: int,
        index: int,
        run: RunConfig,
        folder: Path,
        plain: Any,
        overrides: Sequence[str],
        jobs: list[Job],
    ) -> float | None:
        """The last loss of a complete run, kept; or None, and the job waits for its turn."""
        from rankward.loggers.run import log_from_files
        from rankward.training.job import log_header, sweep_target
        from rankward.training.resume import completed_loss

        target = sweep_target(run, folder, plain, overrides, Path(self.config.hydra.sweep.dir), index, self.keys)
        self.digests.add(target.digest)
        done = completed_loss(folder, target.digest, self.told)
        if done is None:
            results.note(folder, log_header(target))
            jobs.append(Job(number, run, target))
        else:
            log_from_files(run, target)
        return done

    def _train(self, jobs: list[Job], returns: list[JobReturn]) -> None:
        folder = Path(self.config.hydra.sweep.dir)
        find_checkpoints(jobs, results.run_checkpoints(folder))
        self.crew.work(jobs, returns, folder)
        if self.crew.away or not self.own_program or any(job.status == JobStatus.FAILED for job in returns):
            return
        drop_checkpoints(folder, self.digests)

    def plan(self, jobs: Sequence[Sequence[str]]) -> str:
        """What a launch of these jobs, which a sweeper has composed, would do."""
        from rankward.sweeps.summary import plan

        waiting = [Job(number, self.composed[tuple(job)][1], None) for number, job in enumerate(jobs)]
        return plan([[job.config for job in batch] for batch in grouped(waiting, self.crew.most(waiting))])


def _completed(returned: JobReturn) -> bool:
    return returned.status == JobStatus.COMPLETED


def _in_one_line(error: OSError | RankwardError) -> Exception:
    if isinstance(error, OSError) and error.filename is not None:
        return results.io_error("write", Path(str(error.filename)), error)
    return error
