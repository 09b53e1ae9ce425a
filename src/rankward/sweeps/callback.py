"""Hydra callback: check a single run before anything is written, and lock its folder until it ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

from rankward.config import RankwardError
from rankward.config.explain import explain

_lock = contextlib.ExitStack()  # of the folder of a single run
_started: list[DictConfig] = []  # the config of the last run or sweep; a folder that gets another name is changed in it


class Refused(SystemExit):
    """The end of the process for an error, which Hydra would turn into a warning. The command line prints the error."""

    def __init__(self, error: Exception) -> None:
        super().__init__(explain(error)[1])
        self.error = error


if TYPE_CHECKING:
    from rankward.training.module import EnsembleModule


class CheckFirst(Callback):
    """Refuses a single run that cannot start, before Hydra creates its folder; a sweep checks its jobs itself.

    The ensemble that was checked is kept for training. The folder is locked until the run ends.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check the run and lock its folder, before Hydra creates it."""
        _started[:] = [config]
        from omegaconf import read_write

        from rankward.config import ConfigError, run_config
        from rankward.config.recording import as_written, closed, open_choices, open_values
        from rankward.config.registry import without_hydra

        with errors_end_process():
            from rankward.loggers import wandb_environment
            from rankward.results.contract import CONFIG
            from rankward.sweeps.directory import is_named, refuse_hidden
            from rankward.sweeps.effects import refuse_unused
            from rankward.sweeps.settings import hydra_resolver, refuse_for_run, refuse_unknown

            refuse_hidden(config)
            refuse_unknown(config)
            with hydra_resolver(config):
                set_environment(config)
                run = run_config(config)
                if run.figures:
                    chosen = config.hydra.runtime.choices.get("experiment")
                    if chosen:
                        allowed = f"a sweep: rankward -m experiment={chosen} (rankward.sweep in Python)"
                        raise ConfigError("experiment", chosen, allowed)
                    allowed = "[] for a single run; of a sweep they are drawn: rankward -m"
                    raise ConfigError("figures", run.figures, allowed)
                refuse_for_run(config)
                wandb_environment.check(run.logger, in_sweep=False)
                from rankward.training.preflight import check, keep_for_training

                checked = check(run)
                task = as_written(config.hydra.overrides.task)
                if not (is_named("hydra.run.dir", config) and (Path(config.hydra.run.dir) / CONFIG).is_file()):
                    refuse_unused(run, task)  # an old run may have such overrides: it is resumed
                if config.hydra.launcher.get("dry_run"):
                    print_plan(config, checked)
                    raise SystemExit(0)
                keep_for_training(checked)
                _lock.enter_context(claim_folder(config))
                values = open_values(without_hydra(config)) | open_choices(task, config.hydra.runtime.choices)
            with read_write(config):
                config.hydra.overrides.task = closed(task, values)  # `resume` uses the same values

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Check settings of the whole sweep, before the sweeper is created, which checks the jobs."""
        _started[:] = [config]
        with errors_end_process():
            from rankward.sweeps.directory import refuse_hidden
            from rankward.sweeps.settings import hydra_resolver, refuse_for_sweep

            refuse_hidden(config)
            with hydra_resolver(config):
                set_environment(config)
            refuse_for_sweep(config)

    def on_run_end(self, *_: Any, **kwargs: Any) -> None:
        """Unlock the folder."""
        unlock()


def unlock() -> None:
    """Unlock the folder of the single run of this process. Hydra does not call `on_run_end` after an interruption."""
    with contextlib.suppress(OSError, RankwardError):  # if the folder is gone, the run has reported it
        _lock.close()


atexit.register(unlock)


def started() -> DictConfig | None:
    """Take the config of the run or sweep that this process has started last; None if there is none."""
    return _started.pop() if _started else None


@contextlib.contextmanager
def errors_end_process() -> Iterator[None]:
    """Raise an error as one that ends the process.

    Raises:
        Refused: for any error.
    """
    try:
        yield
    except Exception as error:
        if os.environ.get("RANKWARD_TRACEBACK") == "1":
            traceback.print_exc()
        raise Refused(error) from None


def set_environment(config: DictConfig) -> None:
    """Set `hydra.job.env_set` in this process, before modules that may read these variables are imported."""
    os.environ.update({str(name): str(value) for name, value in config.hydra.job.env_set.items()})


def print_plan(config: DictConfig, module: EnsembleModule) -> None:
    """Print what a single run would train, after the checks of its folder.

    Args:
        config: of the run, with Hydra's part.
        module: that would train it.

    Raises:
        ConfigError, FolderLocked: as `claim_folder`.
    """
    from rankward.config.recording import resolved
    from rankward.config.registry import without_hydra
    from rankward.sweeps.directory import check_path, is_named, refuse_other_config
    from rankward.sweeps.dry_run import plan_of_run
    from rankward.terminal import say

    folder = check_path(Path(config.hydra.run.dir), "hydra.run.dir")
    if is_named("hydra.run.dir", config):
        refuse_run_of_busy_sweep(folder)
        refuse_other_config(folder, resolved(without_hydra(config)))
    say(*plan_of_run(module, folder))


@contextlib.contextmanager
def claim_folder(config: DictConfig) -> Any:
    """Lock a new folder for the run, or the folder that the command line names, after checking it.

    If the default folder exists, for example because another run started in the same second, the first of
    `<folder>_2`, `<folder>_3`, ... that does not exist is created.

    Raises:
        ConfigError: the folder on the command line holds a run of another config.
        FolderLocked: another process works in that folder, or on its sweep.
        OSError: a folder cannot be created.
    """
    from omegaconf import open_dict, read_write

    from rankward import results
    from rankward.config.recording import resolved
    from rankward.config.registry import without_hydra
    from rankward.sweeps.directory import check_path, create_unique, is_named, refuse_other_config

    folder = check_path(Path(config.hydra.run.dir), "hydra.run.dir")
    if not is_named("hydra.run.dir", config):
        folder = create_unique(folder)
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(folder)
        with results.claimed(folder):
            yield
        return
    refuse_run_of_busy_sweep(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with results.claimed(folder):
        refuse_other_config(folder, resolved(without_hydra(config)))
        yield


def refuse_run_of_busy_sweep(folder: Path) -> None:
    """Refuse a run's folder while another process, or a cluster task, works on its sweep.

    Raises:
        FolderLocked: the sweep.
    """
    from rankward import results
    from rankward.sweeps.directory import SWEEP
    from rankward.sweeps.execution.local import refuse_live_tasks

    sweep = next((parent for parent in folder.absolute().parents if (parent / SWEEP).is_file()), None)
    if sweep is not None:
        if results.is_held(sweep):
            raise results.FolderLocked(f"{sweep} is in use: another process is at work on it")
        refuse_live_tasks(sweep)
