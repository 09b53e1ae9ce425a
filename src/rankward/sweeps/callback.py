"""What happens before a single run: it is checked while nothing has been written, and gets a folder of its own."""

from __future__ import annotations

import os
import traceback
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class CheckFirst(Callback):
    """Refuses a single run that cannot start, before Hydra writes its folder (a sweep checks its jobs itself)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the run's folder is made."""
        from rankward.config import ConfigError, run_config

        try:
            run = run_config(config)
            if run.figures:
                raise ConfigError("figures", run.figures, "[] for a single run; of a sweep they are drawn: rankward -m")
            from rankward.training.train import check

            check(run)
            claim_folder(config)
        except Exception as error:
            if os.environ.get("RANKWARD_TRACEBACK") == "1":
                traceback.print_exc()
            from rankward.config.report import tell

            raise SystemExit(tell(error)) from None  # Hydra turns any other exception of a callback into a warning


def claim_folder(config: DictConfig) -> None:
    """Give the run a new folder of its own, or check the one that the command line names.

    Where the default folder stands already, as of a run that started in the same second, it is the first of
    `<folder>_2`, `<folder>_3`, ... that does not.

    Raises:
        ConfigError: the folder that was named holds results of another config.
        OSError: a folder cannot be made.
    """
    from pathlib import Path

    from omegaconf import open_dict, read_write

    from rankward.sweeps.folders import fresh

    if any(override.startswith("hydra.run.dir=") for override in config.hydra.overrides.hydra):
        refuse_others_results(config)
        return
    wanted = Path(config.hydra.run.dir)
    folder = fresh(wanted)
    if folder != wanted:
        with read_write(config), open_dict(config):
            config.hydra.run.dir = str(folder)


def refuse_others_results(config: DictConfig) -> None:
    """Refuse a folder with results of another config, whose config Hydra would replace.

    Raises:
        ConfigError: the folder, and what differs.
    """
    from pathlib import Path

    from omegaconf import OmegaConf

    from rankward import results
    from rankward.config.registry import without_hydra
    from rankward.sweeps.folders import refuse_other

    folder = Path(config.hydra.run.dir)
    if (folder / results.SUMMARY).is_file() or results.checkpoints(folder):
        resolved = OmegaConf.to_container(without_hydra(config), resolve=True)
        assert isinstance(resolved, dict)
        refuse_other(folder, {str(key): value for key, value in resolved.items()}, "hydra.run.dir")
