"""Train runs as one ensemble and write the results of each run to its folder."""

from __future__ import annotations

import contextlib
import logging
import signal
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning.plugins.environments import LightningEnvironment

from rankward import results
from rankward.config import InputError, RunConfig
from rankward.dynamics import Engine
from rankward.environment import RANKS, hidden
from rankward.loggers.run import RunLog
from rankward.loggers.target import LogTarget
from rankward.training.callbacks import Checkpoints, GracefulInterrupt, LogTrace, MaxSeconds, ProgressBar
from rankward.training.checkpoints import AtomicCheckpoints, checkpoint_of_runs
from rankward.training.devices import accelerator, precision
from rankward.training.module import EnsembleModule
from rankward.training.outputs import EnsembleOutputs, RunResult
from rankward.training.preflight import prepare, refuse_changed
from rankward.training.resume import checkpoint_path

MAX_LOGGER_FAILURES = 3  # failures in a row after which the loggers of the ensemble's other runs are not tried


def train(
    runs: Sequence[RunConfig],
    targets: Sequence[LogTarget],
    ckpt_path: Path | None = None,
    progress_offset: tuple[int, int] | None = None,
    signals: list[int] | None = None,
) -> list[RunResult]:
    """Train runs that share shapes, dtype and engine as one ensemble, and write the results of each.

    A run that diverges stops alone; the others continue. After `max_seconds` every unfinished run is written with this
    status. After Ctrl-C every unfinished run is written with status
    `interrupted`, and a checkpoint in the first folder holds what `ckpt_path` needs to resume. If the folder of a run
    cannot be written, or its loggers fail, its result has an `error`; the others are not affected. The loggers of the
    first run are opened before training; those of the others are opened after all results are written.

    Args:
        runs: at least one.
        targets: folder, config and W&B group of each run.
        ckpt_path: a checkpoint to resume from, to the same bits; it may hold other runs too.
        progress_offset: number of runs of the sweep that are done before these, and the total, for the progress bar.
        signals: if given, the numbers of received signals are appended to it, and interrupted runs are not written
            because their process, or another one, will resume them.

    Raises:
        ConfigError: runs that cannot share an ensemble or cannot start, or a checkpoint of another config.
        DataError: observations that cannot be used.
        ResultsError: a checkpoint that cannot be written.
        LoggerError: a logger of the first run that cannot be opened.
    """
    for target in targets:
        refuse_changed(target.config)
    module = prepare(runs)
    digests = [target.digest for target in targets]
    checkpoint = checkpoint_path(targets[0].folder / results.CHECKPOINT, ckpt_path, digests)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    run_logs = results.Log([target.folder for target in targets])
    run_logs.note(_first_line(module, ckpt_path))

    single = len(runs) == 1
    open_logs: list[RunLog] = []
    try:
        open_logs.append(RunLog(runs[0], targets[0]))
        seconds = fit(
            module, digests, checkpoint, ckpt_path, progress_offset, signals, open_logs if single else (), run_logs.note
        )
        outputs = EnsembleOutputs(module, digests, seconds, targets)
        resumes = module.interrupted and signals is not None  # then unfinished runs leave nothing but the checkpoint
        ended = [not (resumes and result.status == "interrupted") for result in outputs.results]
        outcomes = [outputs.write(index) if ended[index] else result for index, result in enumerate(outputs.results)]
        for index, outcome in enumerate(outcomes):
            if outcome.error is None:  # the caller writes errors to the log
                run_logs.end(index, outcome.description)
        if not module.ended_early and all(outcome.error is None for outcome in outcomes):
            results.remove_checkpoint(checkpoint)
        failures: list[results.ResultsError | InputError] = []  # in a row
        for index, outcome in enumerate(outcomes):
            if outcome.error is not None or not (ended[index] or index == 0):
                continue
            if len(failures) == MAX_LOGGER_FAILURES:
                outcomes[index] = replace(outcome, error=failures[-1])
                continue
            outcomes[index] = outputs.log(index, open_logs.pop() if index == 0 else None, logged_in_training=single)
            failures = [*failures, error] if (error := outcomes[index].error) else []
    finally:
        for log in open_logs:
            log.close({"status": "failed"}, failed=True)
    return outcomes


def _first_line(module: EnsembleModule, ckpt_path: Path | None) -> str:
    """The line of a run's log that says how it is trained."""
    runs = module.ensemble.runs
    together = f", {len(runs):,} runs side by side" if len(runs) > 1 else ""
    resumed = "" if ckpt_path is None else f", resumed from {ckpt_path}"
    return f"trains: engine {module.engine.name}, {runs[0].dtype}{together}{resumed}"


def fit(
    module: EnsembleModule,
    digests: list[str],
    checkpoint: Path,
    ckpt_path: Path | None,
    progress_offset: tuple[int, int] | None = None,
    signals: list[int] | None = None,
    logs: Sequence[RunLog] = (),
    note: Callable[[str], None] | None = None,
) -> float:
    """Train an ensemble through Lightning; return the seconds that it took.

    Args:
        module: the ensemble.
        digests: config hashes of its runs.
        checkpoint: where the state is saved now and then.
        ckpt_path, progress_offset, signals: as for `train`.
        logs: loggers that receive rows while a single run trains.
        note: receives a line for each checkpoint.
    """
    runs, started = module.ensemble.runs, time.perf_counter()
    # Rows reach the loggers before the checkpoint that follows them is saved; the progress bar comes last.
    callbacks = [
        GracefulInterrupt(signals),
        *([] if runs[0].max_seconds is None else [MaxSeconds(runs[0].max_seconds)]),
        *(LogTrace(log) for log in logs),
        Checkpoints(checkpoint, runs[0].checkpoint.seconds, digests, note),
        ProgressBar(*(progress_offset or (0, len(runs)))),
    ]
    module.trace.file = results.rows_file(checkpoint)
    module.trace.source = None if ckpt_path is None else results.rows_file(ckpt_path)
    with contextlib.ExitStack() as stack:
        resumed = None if ckpt_path is None else stack.enter_context(checkpoint_of_runs(ckpt_path, digests))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # Lightning's advice on dataloaders and optimizers, and on a GPU left idle
        stack.enter_context(precision(runs[0]))
        trainer = _trainer(runs[0], module.engine, callbacks, AtomicCheckpoints(ckpt_path))
        with _interruptible():
            trainer.fit(module, ckpt_path=resumed, weights_only=True)
    return time.perf_counter() - started


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt as it is: Lightning would ignore all further ones, and end the process."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, KeyboardInterrupt):
            raise end.__context__ from None
        raise
    finally:
        if handler is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, handler)


def _trainer(
    run: RunConfig,
    engine: Engine,
    callbacks: list[pl.Callback],
    checkpoints: AtomicCheckpoints,
) -> pl.Trainer:
    for name in ("pytorch_lightning", "lightning.pytorch", "pytorch_lightning.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.ERROR)
    with hidden(*RANKS):
        return pl.Trainer(
            accelerator=accelerator(run, engine),
            devices=1,
            # One process per ensemble, also in a SLURM task, which Lightning would join to a distributed job.
            plugins=[LightningEnvironment(), checkpoints],
            max_epochs=1,
            logger=False,  # `LogTrace` feeds the loggers: Lightning would close them before there is a summary
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
