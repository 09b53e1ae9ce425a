"""What happens before a single run: it is checked while nothing has been written, and gets a folder of its own."""

from __future__ import annotations

import atexit
import contextlib
import os
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class CheckFirst(Callback):
    """Refuses a single run that cannot start, before Hydra writes its folder (a sweep checks its jobs itself).

    From then until the run ends, its folder is held for this process.
    """

    def __init__(self) -> None:
        self.hold = contextlib.ExitStack()

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the run's folder is made."""
        from omegaconf import read_write

        from rankward.config import ConfigError, run_config
        from rankward.config.recording import as_written, closed, open_choices, open_values
        from rankward.config.registry import without_hydra

        with told_here():
            from rankward.loggers import wandb_environment
            from rankward.sweeps.directory import refuse_hidden
            from rankward.sweeps.settings import hydra_resolver, refuse_for_run, refuse_unknown

            refuse_hidden(config)
            refuse_unknown(config)
            with hydra_resolver(config):
                set_environment(config)
                run = run_config(config)
                if run.figures:
                    allowed = "[] for a single run; of a sweep they are drawn: rankward -m"
                    raise ConfigError("figures", run.figures, allowed)
                refuse_for_run(config)
                wandb_environment.check(run.logger, in_sweep=False)
                from rankward.training.train import check

                check(run)
                atexit.register(self.on_run_end)  # an interrupted run has no other end
                self.hold.enter_context(claim_folder(config))
                task = as_written(config.hydra.overrides.task)
                values = open_values(without_hydra(config)) | open_choices(task, config.hydra.runtime.choices)
            with read_write(config):
                config.hydra.overrides.task = closed(task, values)  # `resume` goes on with what is used now

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the sweeper is made: it checks the jobs."""
        with told_here():
            from rankward.sweeps.directory import refuse_hidden
            from rankward.sweeps.settings import hydra_resolver, refuse_for_sweep

            refuse_hidden(config)
            with hydra_resolver(config):
                set_environment(config)
            refuse_for_sweep(config)

    def on_run_end(self, *_: Any, **kwargs: Any) -> None:
        """The folder is free again."""
        with contextlib.suppress(OSError):  # a folder that is gone: the run has said so
            self.hold.close()


@contextlib.contextmanager
def told_here() -> Iterator[None]:
    """End the process with an error's line: Hydra turns any exception of a callback into a warning."""
    try:
        yield
    except Exception as error:
        if os.environ.get("RANKWARD_TRACEBACK") == "1":
            traceback.print_exc()
        from rankward.config.explain import tell

        raise SystemExit(tell(error)) from None


def set_environment(config: DictConfig) -> None:
    """`hydra.job.env_set`, for this process and those that it starts, before what may read it is imported."""
    os.environ.update({str(name): str(value) for name, value in config.hydra.job.env_set.items()})


@contextlib.contextmanager
def claim_folder(config: DictConfig) -> Any:
    """Hold a new folder for the run, or the one that the command line names, which is checked.

    Where the default folder stands already, as of a run that started in the same second, it is the first of
    `<folder>_2`, `<folder>_3`, ... that does not.

    Raises:
        ConfigError: the folder that was named holds a run of another config.
        FolderLocked: another process is at work in that folder, or on the sweep that it belongs to.
        OSError: a folder cannot be made.
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
    """Refuse a run's folder while another process, or a task of a cluster, is at work on its sweep.

    Raises:
        FolderLocked: the sweep.
    """
    from rankward import results
    from rankward.sweeps.directory import SWEEP
    from rankward.sweeps.execution.local import refuse_live_tasks

    sweep = next((each for each in folder.absolute().parents if (each / SWEEP).is_file()), None)
    if sweep is not None:
        if results.is_held(sweep):
            raise results.FolderLocked(f"{sweep} is in use: another process is at work on it")
        refuse_live_tasks(sweep)
