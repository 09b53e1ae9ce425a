"""Loggers of a run: opened with its config, fed the rows of its trace, closed with its summary.

They implement Lightning's `Logger`. Rows are logged directly and not with `log_dict`, which takes one row per training
step: a step of ours, a chunk of iterations, has many.
"""

from __future__ import annotations

import contextlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from pytorch_lightning.loggers import Logger

from rankward.config import ConfigError, RunConfig
from rankward.config.extras import require
from rankward.loggers import wandb_environment
from rankward.loggers.target import LoggerError, LogTarget, logger_errors
from rankward.loggers.wandb import WandbRunLogger, check_wandb, open_run
from rankward.results import FAILURE, UNLOGGED, read_summary, read_trace

ROWS_PER_SAVE = 10_000
METHODS = ("log_hyperparams", "log_metrics", "save", "finalize")  # that a logger must have


class RunLog:
    """The loggers of one run. Close it in a `finally`: a W&B run must not stay open.

    A logger that fails is closed and receives nothing more; the others continue, and `error` has the first failure.

    Raises:
        LoggerError, ConfigError: a logger that cannot be opened.
    """

    def __init__(self, run: RunConfig, target: LogTarget) -> None:
        self.loggers: dict[str, Logger] = {}
        self.error: LoggerError | None = None
        self.unsaved = 0  # rows since the last save
        try:
            for name, node in _enabled(run):
                with logger_errors(name), warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # Lightning's, about replacing the logs of an earlier attempt
                    self.loggers[name] = _open(name, node, run, target)
                    self.loggers[name].log_hyperparams(target.config)
        except BaseException:
            self.close({}, failed=True)
            raise

    def rows(self, trace: Mapping[str, np.ndarray]) -> None:
        """Log every row of a trace; its iteration is the step.

        A bound that is NaN is not logged, so that the columns of a run do not depend on other runs of its ensemble.
        """
        names = [name for name in trace if name not in ("run", "iteration")]
        count = len(trace["iteration"]) if trace else 0
        for first in range(0, count, ROWS_PER_SAVE):  # as Python numbers, rows take many times the memory of arrays
            part = slice(first, first + ROWS_PER_SAVE)
            self._rows(names, trace["iteration"][part].tolist(), [trace[name][part].tolist() for name in names])

    def _rows(self, names: Sequence[str], steps: Sequence[int], columns: Sequence[list[Any]]) -> None:
        def log(logger: Logger) -> None:
            for step, *values in zip(steps, *columns, strict=True):
                row = dict(zip(names, values, strict=True))
                logger.log_metrics(
                    {name: x for name, x in row.items() if x == x or not name.startswith("bound/")}, step=step
                )

        self._each(log)
        self.unsaved += len(steps)
        if self.unsaved >= ROWS_PER_SAVE:  # loggers that hold rows in memory write them
            self._each(lambda logger: logger.save())
            self.unsaved = 0

    def _each(self, act: Callable[[Logger], None]) -> None:
        """Call a function with every logger; a logger that fails is closed and removed."""
        for name, logger in list(self.loggers.items()):
            try:
                with logger_errors(name):
                    act(logger)
            except LoggerError as error:
                self.error = self.error or error
                del self.loggers[name]
                with contextlib.suppress(Exception, SystemExit):  # it may be too broken to be closed
                    _close(logger, {"status": "failed"}, True)

    def close(self, summary: Mapping[str, Any], *, failed: bool) -> None:
        """Close every logger; W&B gets the summary, and a non-zero exit code if the run failed."""
        self._each(lambda logger: _close(logger, summary, failed))
        self.loggers = {}


def _close(logger: Logger, summary: Mapping[str, Any], failed: bool) -> None:
    if isinstance(logger, WandbRunLogger):
        logger.log_summary(summary)
    logger.finalize("failed" if failed else "success")


def log_from_files(run: RunConfig, target: LogTarget) -> None:
    """Log a complete run from its files if its loggers did not close: it was killed, or a logger failed.

    Raises:
        LoggerError, ConfigError: a logger that fails again.
        ResultsError: files that cannot be read.
    """
    marker = target.folder / UNLOGGED
    if not (run.logger and marker.is_file()):
        return
    frame, summary = read_trace(target.folder), read_summary(target.folder)
    last_only = [name for name in frame.columns if frame[name][:-1].is_nan().all()] if len(frame) > 1 else []
    log = RunLog(run, target)
    try:
        log.rows({name: frame[name][:-1].to_numpy() for name in frame.columns if name not in last_only})
        log.rows({name: frame[name][-1:].to_numpy() for name in frame.columns})
    finally:
        log.close(summary, failed=summary["status"] == "diverged")
    if log.error:
        raise log.error
    marker.unlink()
    (target.folder / FAILURE).unlink(missing_ok=True)


def check_loggers(run: RunConfig) -> None:
    """Check that the loggers of a run can be opened, once per logger and its settings; no W&B run is opened.

    Raises:
        ConfigError: settings that a logger refuses; W&B online without a login, or a server that does not answer.
        LoggerError: a logger that cannot be opened, for example because a package is missing.
    """
    for name, node in _enabled(run):
        if (name, repr(node)) in _checked:
            continue
        with logger_errors(name), tempfile.TemporaryDirectory() as folder:
            if name == "wandb":
                check_wandb(node)
            else:
                target = LogTarget(Path(folder), Path(folder), None, "", {})
                logger = _open(name, node, run, target)
                if missing := [method for method in METHODS if not callable(getattr(logger, method, None))]:
                    raise ConfigError(
                        f"logger.{name}", type(logger).__name__, f"a logger of Lightning's: no {missing[0]}"
                    )
        _checked.add((name, repr(node)))


_checked: set[tuple[str, str]] = set()


def _enabled(run: RunConfig) -> Iterator[tuple[str, Any]]:
    """The loggers of a run, without W&B if the environment disables it."""
    for name, node in run.logger.items():
        if name != "wandb" or wandb_environment.is_on(run.logger):
            yield name, node


def _open(name: str, node: Any, run: RunConfig, target: LogTarget) -> Any:
    if name == "wandb":
        return open_run(node, run, target)
    if name == "tensorboard":
        require("tensorboard", "logger=tensorboard")
        from pytorch_lightning.loggers import TensorBoardLogger

        version = re.sub(r"[^\w.,=+ -]", "_", target.settings)[:200]  # TensorBoard names a run by its folders
        return TensorBoardLogger(save_dir=target.folder, name="tensorboard", version=version)
    if name == "csv":
        from pytorch_lightning.loggers import CSVLogger

        return CSVLogger(save_dir=target.folder, name="csv", version="", flush_logs_every_n_steps=10**6)
    from rankward.config import build

    return build(f"logger.{name}", node, save_dir=target.folder)
