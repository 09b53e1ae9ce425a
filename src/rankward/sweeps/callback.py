"""What happens when a sweep has ended: one table of its runs, its figures, and where everything lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig


class CheckFirst(Callback):
    """Refuses a single run that cannot start, before Hydra writes its folder (a sweep checks its jobs itself)."""

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Before the run's folder is made."""
        from rankward.sweeps.grid import checked

        try:
            run = checked(config)
            from rankward.training.train import check

            check(run)
        except Exception as error:
            if os.environ.get("RANKWARD_TRACEBACK") == "1":
                raise
            from rankward.cli import CONFIG_FOLDER
            from rankward.config.report import explain

            line, code = explain(error, CONFIG_FOLDER)
            print(f"rankward: {line}", file=sys.stderr)
            raise SystemExit(code) from None  # Hydra turns any other exception of a callback into a warning


class SweepResults(Callback):
    """Gathers `runs.parquet` and draws the figures that the config names."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """After the last job."""
        sweep = Path(config.hydra.sweep.dir)
        if not sweep.is_dir():
            return  # refused before anything was written
        from rankward import results

        if not results.run_folders(sweep):
            return
        table = results.write_runs(sweep)
        pictures: list[Path] = []
        for name in config.get("figures", []):
            from rankward.figures import draw

            pictures += draw(name, sweep)
        for picture in pictures:
            print(f"figure:  {picture}")
        print(f"table:   {table}")
        if (sweep / results.WANDB).is_dir():
            print(f"W&B:     {sweep / results.WANDB}  (upload: wandb sync {sweep / results.WANDB}/offline-run-*)")
