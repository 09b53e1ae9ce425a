"""Train runs side by side and leave the output contract in each run's folder."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import logging
import platform
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.environments import LightningEnvironment

from rankward import results
from rankward.config import ConfigError, DataError, InputError, RunConfig
from rankward.config.recording import changed_file
from rankward.dynamics import Engine, Status
from rankward.environment import RANKS, hidden
from rankward.loggers.run import LoggerError, LogTarget, RunLog, check_loggers
from rankward.terminal import say
from rankward.training.callbacks import Checkpoints, GracefulInterrupt, LogTrace, ProgressBar
from rankward.training.checkpoints import AtomicCheckpoints, digests, part_of
from rankward.training.devices import accelerator, check_devices, precision
from rankward.training.ensemble import Ensemble, observed, traits
from rankward.training.hints import HINTS, hint
from rankward.training.module import EnsembleModule, final_products

MOST_FAILED = 3  # runs in a row whose loggers fail, before the others of the ensemble are not tried


@dataclass(frozen=True)
class RunResult:
    """What became of one run: its folder and its summary; and `error` where they could not be written or logged."""

    folder: Path
    summary: dict[str, Any]
    error: results.ResultsError | ConfigError | None = None

    @property
    def stands(self) -> bool:
        """Whether the results are written, though a logger may have failed."""
        return self.error is None or isinstance(self.error, LoggerError)

    @property
    def status(self) -> str:
        return str(self.summary["status"])

    @property
    def told(self) -> str:
        """What became of it, in a line."""
        summary = self.summary
        loss = summary["metrics"].get("loss", float("nan"))
        ended = (
            f"{self.status} after {summary['iterations']:,} iterations, "
            f"loss {loss:.3g} ({summary['seconds']:.2f} s, {summary['engine']})"
        )
        return "; ".join([ended, *(summary["notes"][name] for name in HINTS if name in summary["notes"])])

    @property
    def failed(self) -> bool:
        """Whether a logger should call it a failure."""
        return self.status in ("diverged", "interrupted")


def train(
    runs: Sequence[RunConfig],
    targets: Sequence[LogTarget],
    ckpt_path: Path | None = None,
    place: tuple[int, int] | None = None,
    signals: list[int] | None = None,
) -> list[RunResult]:
    """Train runs that share shapes, dtype and engine as one ensemble, and write each one's results.

    A run that diverges is marked and stops alone. After Ctrl-C every unfinished run is written with status
    `interrupted`, and a checkpoint in the first folder holds what `ckpt_path` needs to go on. A run whose folder cannot
    be written, or whose loggers fail, has an `error` in its result; the others' stand. The loggers of the first are
    opened before any training; results of all are written before those of the others are.

    Args:
        runs: at least one.
        targets: each run's folder, config and W&B group.
        ckpt_path: a checkpoint to go on from, to the same bits, of an ensemble with these runs, alone or among others.
        place: how many runs of a sweep are done before these, and how many there are: for the progress bar.
        signals: takes those that end training early; its process will be started again, or the runs by another.

    Raises:
        ConfigError: runs that cannot share an ensemble or cannot start, or a checkpoint of another config.
        DataError: observations that cannot be used.
        ResultsError: a checkpoint that cannot be written.
        LoggerError: a logger of the first run that cannot be opened.
    """
    check_devices(runs[0])
    for target in targets:
        refuse_changed(target.config)
    module = EnsembleModule(Ensemble.of(runs))
    wanted = [target.digest for target in targets]
    checkpoint = _own_checkpoint(targets[0].folder / results.CHECKPOINT, ckpt_path, wanted)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    noted = results.Log([target.folder for target in targets])
    noted.note(_begins(module, ckpt_path))

    logs: list[RunLog] = []  # those that are open
    try:
        logs.append(RunLog(runs[0], targets[0]))
        alone = len(runs) == 1
        seconds = fit(module, wanted, checkpoint, ckpt_path, place, signals, logs if alone else (), noted.note)
        left = EnsembleOutputs(module, wanted, seconds, targets)
        going_on = module.interrupted and signals is not None  # of unfinished runs the checkpoint is all that is left
        done = [not (going_on and result.status == "interrupted") for result in left.results]
        outcomes = [left.write(index) if done[index] else result for index, result in enumerate(left.results)]
        for index, outcome in enumerate(outcomes):
            if outcome.error is None:  # who sees it notes it
                noted.end(index, outcome.told)
        if not module.interrupted and all(outcome.error is None for outcome in outcomes):
            results.remove_checkpoint(checkpoint)
        failed: list[results.ResultsError | ConfigError] = []  # one after the other
        for index, outcome in enumerate(outcomes):
            if outcome.error is not None or not (done[index] or index == 0):
                continue
            if len(failed) == MOST_FAILED:
                outcomes[index] = replace(outcome, error=failed[-1])
                continue
            outcomes[index] = left.log(index, logs.pop() if index == 0 else None, fed=alone)
            failed = [*failed, error] if (error := outcomes[index].error) else []
    finally:
        for log in logs:
            log.close({"status": "failed"}, failed=True)
    return outcomes


def _begins(module: EnsembleModule, ckpt_path: Path | None) -> str:
    """How runs are trained, for their logs."""
    runs = module.ensemble.runs
    with_others = f", {len(runs):,} runs side by side" if len(runs) > 1 else ""
    from_where = "" if ckpt_path is None else f", on from {ckpt_path}"
    return f"trains: engine {module.engine.name}, {runs[0].dtype}{with_others}{from_where}"


def refuse_changed(config: Mapping[str, Any]) -> None:
    """Refuse to train with a data file that is no longer what it was when the config was made.

    Raises:
        DataError: the key and the file.
    """
    observations = config.get("observations", {})
    if key := changed_file(observations):
        raise DataError(f"observations.{key}: {observations[key]!r} has changed or gone since the run was checked")


def _own_checkpoint(place: Path, resumed: Path | None, wanted: Sequence[str]) -> Path:
    """Where an ensemble saves its state: never over a checkpoint that holds other runs as well."""
    if resumed is None or results.last(resumed).absolute() != place.absolute() or digests(resumed) == list(wanted):
        return place
    name = hashlib.sha256(" ".join(wanted).encode()).hexdigest()[:8]
    return place.with_name(f"{place.stem}.{name}{place.suffix}")


def fit(
    module: EnsembleModule,
    digests: list[str],
    checkpoint: Path,
    ckpt_path: Path | None,
    place: tuple[int, int] | None = None,
    signals: list[int] | None = None,
    logs: Sequence[RunLog] = (),
    note: Callable[[str], None] | None = None,
) -> float:
    """Train an ensemble through Lightning; the seconds it took.

    Args:
        module: the ensemble.
        digests: of its runs' configs.
        checkpoint: where the state is saved now and then.
        ckpt_path, place, signals: as for `train`.
        logs: that take rows while a single run trains.
        note: takes a line for each checkpoint.
    """
    runs, started = module.ensemble.runs, time.perf_counter()
    # Rows reach the loggers before a checkpoint may follow them; the bar comes last.
    callbacks = [
        GracefulInterrupt(signals),
        *(LogTrace(log) for log in logs),
        Checkpoints(checkpoint, runs[0].checkpoint.seconds, digests, note),
        ProgressBar(*(place or (0, len(runs)))),
    ]
    trainer = _trainer(runs[0], module.engine, callbacks, AtomicCheckpoints(ckpt_path))
    module.trace.file = results.rows_file(checkpoint)
    module.trace.source = None if ckpt_path is None else results.rows_file(ckpt_path)
    with contextlib.ExitStack() as stack:
        resumed = None if ckpt_path is None else stack.enter_context(part_of(ckpt_path, digests))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")  # Lightning's advice on dataloaders and optimizers, of which there are none
        stack.enter_context(precision(runs[0]))
        trainer.fit(module, ckpt_path=resumed, weights_only=True)
    return time.perf_counter() - started


def check(run: RunConfig, elsewhere: bool = False) -> None:
    """Do all that a run does before its first step, and write nothing.

    Args:
        run: its config.
        elsewhere: whether another machine will train it, so that this one's devices do not matter.

    Raises:
        ConfigError: a run that cannot start.
        DataError: observations that cannot be used.
        LoggerError: a logger that cannot start.
    """
    if not elsewhere:
        check_devices(run)
    EnsembleModule(Ensemble.of([run]))
    check_loggers(run)
    _say_what_was_read(run)
    if run.ckpt_path is not None and not Path(run.ckpt_path).is_file():
        raise ConfigError("ckpt_path", run.ckpt_path, "a checkpoint of Rankward's: there is no such file")


def check_all(runs: Sequence[RunConfig], elsewhere: bool = False) -> dict[int, Exception]:
    """What is wrong with each of many runs, by place: `check` for one of those that differ in seeds and numbers alone.

    Every run's observations are made; starts, metrics and engines of runs that share traits and init are checked once.
    """
    wrong: dict[int, Exception] = {}
    sound: set[object] = set()
    for place, run in enumerate(runs):
        try:
            alike = (traits(run), _kind_of_start(run), str(run.factorization), run.ckpt_path, str(run.logger))
            if alike not in sound:
                check(run, elsewhere)
                sound.add(alike)
            _say_what_was_read(run)
        except (InputError, LoggerError) as error:
            wrong[place] = error
    return wrong


def _say_what_was_read(run: RunConfig) -> None:
    """The note of the run's observations on standard error, once for each file."""
    note, path = observed(run).note, run.observations.file
    if note and path not in _said:
        _said.add(path)
        say(f"rankward: {note}", error=True)


_said: set[str | None] = set()


def _kind_of_start(run: RunConfig) -> tuple[object, ...]:
    return run.init.name, run.init._target_, run.init.determinant


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
            # One process an ensemble, also inside a task of SLURM, which Lightning would take for a part of its own.
            plugins=[LightningEnvironment(), checkpoints],
            max_epochs=1,
            logger=False,  # `LogTrace` feeds them: Lightning would close them before there is a summary
            callbacks=callbacks,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )


class EnsembleOutputs:
    """What a trained ensemble leaves, run by run.

    Args:
        module: after its training.
        digests: of its runs' configs.
        seconds: that training took.
        targets: where each run's results go; none where they go into one table.
    """

    def __init__(
        self, module: EnsembleModule, digests: Sequence[str], seconds: float, targets: Sequence[LogTarget] = ()
    ) -> None:
        self.module, self.digests, self.targets, self.seconds = module, digests, targets, seconds
        self.trace = module.whole_trace()
        self.every_row = {"iteration", "loss", *module.trace.names}  # columns; of last rows alone there may be more
        self.traces = _by_run(self.trace, len(digests))
        for run in torch.nonzero(module.progress.status == Status.RUNNING).flatten().tolist():  # it has no last row
            self.traces[run] = {name: column for name, column in self.traces[run].items() if name in self.every_row}
        self.final = [factor.detach().cpu() for factor in module.factors]
        self.products = final_products(module)
        self.results = [RunResult(target.folder, self.summary(index)) for index, target in enumerate(targets)]

    def rows_before_last(self, index: int) -> dict[str, np.ndarray]:
        """All rows of a run but the last, with the columns that they have when it trains alone."""
        return {name: column[:-1] for name, column in self.traces[index].items() if name in self.every_row}

    def last_row(self, index: int) -> dict[str, np.ndarray]:
        """A run's last row."""
        return {name: column[-1:] for name, column in self.traces[index].items()}

    def write(self, index: int) -> RunResult:
        """Write a run's files; the result has the error where that fails, since the others' folders may be sound.

        Until its loggers have closed, a mark beside them says so: whoever finds it logs the run from its files.
        """
        result = self.results[index]
        try:
            if self.module.ensemble.runs[index].logger:
                result.folder.mkdir(parents=True, exist_ok=True)
                (result.folder / results.UNLOGGED).touch()
            results.write_run(
                result.folder, trace=self.traces[index], factors=self.arrays(index), summary=result.summary
            )
        except results.ResultsError as error:
            return replace(result, error=error)
        except OSError as error:  # of the mark
            return replace(result, error=results.failure("write", result.folder, error))
        return result

    def log(self, index: int, log: RunLog | None, fed: bool) -> RunResult:
        """Log a run whose files are written; the result has the error where that fails.

        Args:
            index: of the run.
            log: its loggers, where they are open already.
            fed: whether these have had the run's rows but the last while it trained.
        """
        result, failed = self.results[index], True
        try:
            log = log or RunLog(self.module.ensemble.runs[index], self.targets[index])
        except (LoggerError, ConfigError) as error:
            return replace(result, error=error)
        try:
            log.rows({} if fed else self.rows_before_last(index))
            log.rows(self.last_row(index))
            failed = result.failed
        finally:
            log.close(result.summary, failed=failed)
        if log.error:
            return replace(result, error=log.error)
        (result.folder / results.UNLOGGED).unlink(missing_ok=True)
        return result

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """What `factors.safetensors` holds of a run."""
        ensemble, measurement = self.module.ensemble, self.module.ensemble.measurements[index]
        arrays = {
            **{f"initial.{i}": f[index].numpy() for i, f in enumerate(ensemble.factors)},
            **{f"final.{i}": f[index].numpy() for i, f in enumerate(self.final)},
            "product": self.products[index].numpy(),
            **measurement.arrays(),
        }
        if measurement.ground_truth is not None:
            arrays["ground_truth"] = measurement.ground_truth
        return arrays

    def summary(self, index: int) -> dict[str, Any]:
        """What `summary.json` holds of a run."""
        module, trace = self.module, self.traces[index]
        read = module.ensemble.measurements[index].note
        hints = hint(module.ensemble, index, self.final, module.progress, trace) if self.targets else {}
        status = Status(int(module.progress.status[index]))
        status = Status.INTERRUPTED if status == Status.RUNNING else status
        return {
            "status": status.name.lower(),
            "iterations": int(module.progress.iteration[index]),
            "seconds": self.seconds,
            "engine": module.engine.name,
            "device": module.trained_on,
            "tf32": module.ensemble.runs[index].trainer.tf32,
            "dtype": module.ensemble.runs[index].dtype,
            "config_hash": self.digests[index],
            "versions": versions(),
            "stop": _stop(module, index),
            "notes": module.notes(index) | ({"observations": read} if read else {}) | hints,
            "certificates": module.verdicts(index, trace) if len(trace["loss"]) else {},
            "metrics": {
                name: float(values[-1]) for name, values in trace.items() if name != "iteration" and len(values)
            },
        }


def _by_run(trace: dict[str, np.ndarray], runs: int) -> list[dict[str, np.ndarray]]:
    """Each run's own rows of a trace that has them run after run."""
    if not trace:  # interrupted before the first row
        return [{"iteration": np.zeros(0, np.int64), "loss": np.zeros(0)} for _ in range(runs)]
    ends = np.searchsorted(trace["run"], np.arange(1, runs))
    parts = {name: np.split(column, ends) for name, column in trace.items() if name != "run"}
    return [
        # A bound that says nothing of a run leaves no column: it stands here for another of the ensemble.
        {name: columns[run] for name, columns in parts.items() if not _silent(name, columns[run])}
        for run in range(runs)
    ]


def _silent(name: str, values: np.ndarray) -> bool:
    return name.startswith("bound/") and bool(np.isnan(values).all())


def _stop(module: EnsembleModule, run: int) -> dict[str, float]:
    """The stop that the run had, where its config left that to the paper."""
    schedule, problem = module.ensemble.schedule, module.ensemble.problem
    return {
        "loss": float(problem.stop_loss[run]),
        "checks": schedule.stop_checks,
        "check_every": schedule.stride,
        "max_iterations": int(problem.max_iterations[run]),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Versions of what a run's bits may depend on."""
    packages = ("rankward", "torch", "pytorch_lightning", "numpy", "numba")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
