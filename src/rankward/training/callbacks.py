"""Lightning callbacks: checkpoints, the progress bar, rows to the loggers, and an orderly end when interrupted."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
from tqdm import tqdm

from rankward import __version__
from rankward.dynamics import Status
from rankward.loggers.run import RunLog
from rankward.training.checkpoints import HASHES, VERSION
from rankward.training.module import EnsembleModule

# Ctrl-C, a request to end, a terminal that closes, a scheduler's warning.
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


class Checkpoints(pl.Callback):
    """Saves the ensemble's state to one file every `seconds` of training, and when it is interrupted.

    Args:
        path: of the checkpoint, replaced each time.
        seconds: None for saving on interruption only.
        config_hashes: of the runs; a checkpoint goes on only with the configs that wrote it.
        note: takes a line for each.
    """

    def __init__(
        self,
        path: Path,
        seconds: float | None,
        config_hashes: list[str],
        note: Callable[[str], None] | None = None,
    ) -> None:
        self.note = note
        self.path = path
        self.seconds = seconds
        self.config_hashes = config_hashes
        self.last = time.monotonic()
        self.ended = False  # Lightning has one step more, which does nothing, after an interruption

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        due = self.seconds is not None and time.monotonic() - self.last >= self.seconds
        if (pl_module.interrupted and not self.ended) or (due and pl_module.running):
            trainer.save_checkpoint(self.path)
            if self.note is not None:
                self.note(f"checkpoint {self.path}: {int(pl_module.progress.iteration.sum()):,} iterations")
            self.last = time.monotonic()
            self.ended = pl_module.interrupted

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[HASHES] = self.config_hashes
        checkpoint[VERSION] = __version__


class LogTrace(pl.Callback):
    """Feeds a single run's rows to its loggers while it trains; after a resume, from the first row on.

    The latest row waits: if it is the last, more is measured of it, and `train` logs it.
    """

    def __init__(self, log: RunLog) -> None:
        self.run_log = log
        self.waiting: dict[str, np.ndarray] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: EnsembleModule) -> None:  # type: ignore[override]
        for part in pl_module.trace.parts():
            self._log(part)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: EnsembleModule, *_: Any) -> None:  # type: ignore[override]
        self._log(pl_module.last_rows)

    def _log(self, rows: dict[str, np.ndarray]) -> None:
        """Log what waits and all of these rows but the last, which waits: it may be the run's, with more columns."""
        if not rows:
            return
        self.run_log.rows(self.waiting)
        self.run_log.rows({name: column[:-1] for name, column in rows.items()})
        self.waiting = {name: column[-1:] for name, column in rows.items()}


class ProgressBar(pl.Callback):
    """Iterations a second, runs done, the median of the last losses, the longest it can take; quiet when piped.

    Args:
        before: runs of the sweep that were done earlier.
        total: runs of the sweep.
    """

    def __init__(self, before: int, total: int) -> None:
        self.before, self.total = before, total

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        limit = int(pl_module.ensemble.problem.max_iterations.sum())
        self.bar = tqdm(
            total=limit,
            initial=int(pl_module.progress.iteration.sum()),
            unit="it",
            unit_scale=True,
            leave=False,
            disable=not sys.stderr.isatty(),
            bar_format="{desc} {bar} {rate_fmt} {postfix} at most {remaining} left",
        )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: EnsembleModule, *_: Any) -> None:  # type: ignore[override]
        if self.bar.disable:
            return
        progress = pl_module.progress
        done = int((progress.status != Status.RUNNING).sum())
        losses = pl_module.last_rows.get("loss", np.array([np.nan]))
        diverged = int((progress.status == Status.DIVERGED).sum())
        told = f", {diverged} diverged" if diverged else ""
        self.bar.set_description(f"{self.before + done}/{self.total} runs{told}")
        self.bar.set_postfix(loss=f"{np.median(losses[-len(progress.status) :]):.2e}")
        self.bar.update(int(progress.iteration.sum()) - self.bar.n)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


class GracefulInterrupt(pl.Callback):
    """Signals that ask for an end (see `ENDING`) end training after the current chunk; a second Ctrl-C or
    SIGTERM ends it at once.

    Installed when training starts, since Lightning sets handlers of its own just before. A signal that this process
    ignores, as SIGHUP under `nohup`, stays ignored.

    Args:
        signals: takes the numbers of those that came.
    """

    def __init__(self, signals: list[int] | None = None) -> None:
        self.signals = signals
        self.before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread is told of signals

        def interrupt(number: int, frame: Any) -> None:
            pl_module.interrupted = True
            if self.signals is not None:
                self.signals.append(number)
            # A terminal that closes sends SIGHUP twice, and a scheduler may warn twice: that is no wish to hurry.
            again = number in (signal.SIGINT, signal.SIGTERM)
            signal.signal(number, signal.SIG_DFL if again else signal.SIG_IGN)

        for number in ENDING:
            if signal.getsignal(number) != signal.SIG_IGN:
                self.before[number] = signal.signal(number, interrupt)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        while self.before:
            signal.signal(*self.before.popitem())

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
