"""What happens before a single run: it is checked while nothing has been written."""

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
        except Exception as error:
            if os.environ.get("RANKWARD_TRACEBACK") == "1":
                traceback.print_exc()
            from rankward.config.report import tell

            raise SystemExit(tell(error)) from None  # Hydra turns any other exception of a callback into a warning
