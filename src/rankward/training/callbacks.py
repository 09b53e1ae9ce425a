"""Lightning callbacks: checkpoints, progress bar, rows for the loggers, graceful interruption."""

from __future__ import annotations

import signal
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
from rankward.terminal import is_inside_program, shows_progress
from rankward.training.checkpoints import HASHES, VERSION
from rankward.training.module import EnsembleModule
from rankward.training.trace import PRODUCT

# Ctrl-C, a request to terminate, a closed terminal, a scheduler's warning.
INTERRUPTING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)


class MaxSeconds(pl.Callback):
    """Ends training after the chunk in which it has taken so many seconds; resumed training has as many again.

    Args:
        seconds: counted from the first chunk on, with the compilation of the kernel.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.started = time.monotonic()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        pl_module.out_of_time |= pl_module.running and time.monotonic() - self.started >= self.seconds


class Checkpoints(pl.Callback):
    """Saves the ensemble's state to one file every `seconds` of training, and when training ends early.

    Lightning's ModelCheckpoint would need more code: it does not save on interruption, and it numbers its files and
    adds their paths to the checkpoint.

    Args:
        path: of the checkpoint; each save replaces it.
        seconds: None saves only when training ends early.
        config_hashes: of the runs; only runs with these configs can resume from the checkpoint.
        note: receives a line for each checkpoint.
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
        self.last_save = time.monotonic()
        self.saved_end = False  # Lightning makes one more step after an early end, which does nothing

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        due = self.seconds is not None and time.monotonic() - self.last_save >= self.seconds
        if (pl_module.ended_early and not self.saved_end) or (due and pl_module.running):
            trainer.save_checkpoint(self.path)
            if self.note is not None:
                self.note(f"checkpoint {self.path}: {int(pl_module.progress.iteration.sum()):,} iterations")
            self.last_save = time.monotonic()
            self.saved_end = pl_module.ended_early

    def on_save_checkpoint(self, trainer: pl.Trainer, pl_module: Any, checkpoint: dict[str, Any]) -> None:
        checkpoint[HASHES] = self.config_hashes
        checkpoint[VERSION] = __version__


class LogTrace(pl.Callback):
    """Sends the rows of a single run to its loggers while it trains; after a resume, all rows from the first one.

    The latest row is held back: if it is the last, it gets more columns, and `train` logs it.
    """

    def __init__(self, log: RunLog) -> None:
        self.run_log = log
        self.latest_row: dict[str, np.ndarray] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: EnsembleModule) -> None:  # type: ignore[override]
        for part in pl_module.trace.parts():
            self._log(part)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: EnsembleModule, *_: Any) -> None:  # type: ignore[override]
        self._log(pl_module.last_rows)

    def _log(self, rows: dict[str, np.ndarray]) -> None:
        """Log the row that was held back and all of these but the last, which is held back in turn."""
        if not rows:
            return
        rows = {name: column for name, column in rows.items() if name != PRODUCT}
        self.run_log.rows(self.latest_row)
        self.run_log.rows({name: column[:-1] for name, column in rows.items()})
        self.latest_row = {name: column[-1:] for name, column in rows.items()}


class ProgressBar(pl.Callback):
    """Shows iterations per second, runs done, the median loss and the longest time left: see `shows_progress`.

    Lightning's TQDMProgressBar is not used: it counts batches, of which there is no known number, so that each of its
    methods would have to be replaced.

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
            disable=not shows_progress(),
            bar_format="{desc} {bar} {rate_fmt} {postfix} at most {remaining} left",
        )

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: EnsembleModule, *_: Any) -> None:  # type: ignore[override]
        if self.bar.disable:
            return
        progress = pl_module.progress
        done = int((progress.status != Status.RUNNING).sum())
        losses = pl_module.last_rows.get("loss", np.array([np.nan]))
        diverged = int((progress.status == Status.DIVERGED).sum())
        suffix = f", {diverged} diverged" if diverged else ""
        self.bar.set_description(f"{self.before + done}/{self.total} runs{suffix}")
        self.bar.set_postfix(loss=f"{np.median(losses[-len(progress.status) :]):.2e}")
        self.bar.update(int(progress.iteration.sum()) - self.bar.n)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.bar.close()

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


class GracefulInterrupt(pl.Callback):
    """Ends training after the current chunk on any of `INTERRUPTING_SIGNALS`; a second Ctrl-C or SIGTERM ends at once.

    In a notebook or another program the second one only does what it did before the training.

    The handlers are installed when training starts, because Lightning installs its own just before. A signal that this
    process ignores stays ignored, for example SIGHUP under `nohup`.

    Args:
        signals: if given, the numbers of received signals are appended to it.
    """

    def __init__(self, signals: list[int] | None = None) -> None:
        self.signals = signals
        self.previous_handlers: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if threading.current_thread() is not threading.main_thread():
            return  # only the main thread may handle signals
        inside = is_inside_program()

        def interrupt(number: int, frame: Any) -> None:
            pl_module.interrupted = True
            if self.signals is not None:
                self.signals.append(number)
            # Closed terminals send SIGHUP twice, and schedulers may warn twice: these are no requests to end at once.
            ends_at_once = number in (signal.SIGINT, signal.SIGTERM)
            second = (self.previous_handlers.get(number) if inside else None) or signal.SIG_DFL
            signal.signal(number, second if ends_at_once else signal.SIG_IGN)

        for number in INTERRUPTING_SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                self.previous_handlers[number] = signal.signal(number, interrupt)

    def on_train_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        while self.previous_handlers:
            signal.signal(*self.previous_handlers.popitem())

    def on_exception(self, trainer: pl.Trainer, pl_module: Any, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)
