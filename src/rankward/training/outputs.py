"""Outputs of a trained ensemble: each run's trace, factors and summary, written to files and sent to loggers."""

from __future__ import annotations

import functools
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankward import results
from rankward.config import InputError
from rankward.dynamics import Status
from rankward.factorizations.base import Spectral
from rankward.factorizations.singular import balanced_layers
from rankward.loggers.run import RunLog
from rankward.loggers.target import LoggerError, LogTarget
from rankward.observations import Sensing
from rankward.theory.motion import families
from rankward.theory.stages import Stages, stages_of
from rankward.training.ensemble import HELDOUT
from rankward.training.hints import HINTS, hint
from rankward.training.module import EnsembleModule, final_products
from rankward.training.trace import PRODUCT

STAGES = "rank/stages"  # the number of components that have risen


@dataclass(frozen=True)
class RunResult:
    """Result of one run.

    Args:
        folder: of the run.
        summary: what `summary.json` holds.
        error: set if the files could not be written, or a logger failed.
    """

    folder: Path
    summary: dict[str, Any]
    error: results.ResultsError | InputError | None = None

    @property
    def is_written(self) -> bool:
        """Whether the files are written, even if a logger failed."""
        return self.error is None or isinstance(self.error, LoggerError)

    @property
    def status(self) -> str:
        return str(self.summary["status"])

    @property
    def description(self) -> str:
        """Status, iterations, loss and time in one line, with hints."""
        summary = self.summary
        loss, heldout = summary["metrics"].get("loss", float("nan")), ""
        if "heldout" in summary:
            error, mean = summary["metrics"].get(HELDOUT, float("nan")), summary["heldout"]["baselines"]["mean"]
            heldout = f", held-out RMSE {error:.3g} (of the mean {mean:.3g})"
        ended = (
            f"{self.status} after {summary['iterations']:,} iterations, "
            f"loss {loss:.3g}{heldout} ({summary['seconds']:.2f} s, {summary['engine']})"
        )
        return "; ".join([ended, *(summary["notes"][name] for name in HINTS if name in summary["notes"])])

    @property
    def failed(self) -> bool:
        """Whether loggers should mark the run as failed."""
        return self.status in ("diverged", "interrupted")


class EnsembleOutputs:
    """Outputs of a trained ensemble, run by run.

    Args:
        module: after its training.
        digests: config hashes of its runs.
        seconds: duration of the training.
        targets: folder and loggers of each run; empty if the runs are written to one table.
    """

    def __init__(
        self, module: EnsembleModule, digests: Sequence[str], seconds: float, targets: Sequence[LogTarget] = ()
    ) -> None:
        self.module, self.digests, self.targets, self.seconds = module, digests, targets, seconds
        self.trace = module.full_trace()
        self.trajectories = _trajectories(self.trace, len(digests)) if module.ensemble.runs[0].record.product else []
        self.row_columns = {"iteration", "loss", *module.trace.names}  # measured in every row, not in last rows only
        self.traces = _split_by_run(self.trace, len(digests))
        for run in torch.nonzero(module.progress.status == Status.RUNNING).flatten().tolist():  # it has no last row
            self.traces[run] = {name: column for name, column in self.traces[run].items() if name in self.row_columns}
        self.final = [factor.detach().cpu() for factor in module.factors]
        self.products = final_products(module)
        self.results = [RunResult(target.folder, self.summary(index)) for index, target in enumerate(targets)]

    def rows_before_last(self, index: int) -> dict[str, np.ndarray]:
        """All rows of a run but the last, with the columns that are measured in every row."""
        return {name: column[:-1] for name, column in self.traces[index].items() if name in self.row_columns}

    def last_row(self, index: int) -> dict[str, np.ndarray]:
        """The last row of a run, with all columns."""
        return {name: column[-1:] for name, column in self.traces[index].items()}

    def write(self, index: int) -> RunResult:
        """Write the files of one run. A failure is returned in the result, because other folders may be writable.

        A marker file (`results.UNLOGGED`) stays in the folder until the loggers have closed; a later launch that finds
        it logs the run from its files.
        """
        result, measurement = self.results[index], self.module.ensemble.measurements[index]
        ids = None if isinstance(measurement, Sensing) else measurement.ids
        try:
            if self.module.ensemble.runs[index].logger:
                result.folder.mkdir(parents=True, exist_ok=True)
                (result.folder / results.UNLOGGED).touch()
            results.write_run(
                result.folder,
                trace=self.traces[index],
                factors=self.arrays(index),
                summary=result.summary,
                ids=None if ids is None else ids.columns(),
                trajectory=self.trajectory(index),
            )
        except results.ResultsError as error:
            return replace(result, error=error)
        except OSError as error:  # of the marker file
            return replace(result, error=results.io_error("write", result.folder, error))
        return result

    def log(self, index: int, log: RunLog | None, logged_in_training: bool) -> RunResult:
        """Log one run whose files are written. A failure is returned in the result.

        Args:
            index: of the run.
            log: its loggers if they are already open, else None.
            logged_in_training: whether these loggers have received all rows but the last one.
        """
        result, failed = self.results[index], True
        try:
            log = log or RunLog(self.module.ensemble.runs[index], self.targets[index])
        except (LoggerError, InputError) as error:
            return replace(result, error=error)
        try:
            log.rows({} if logged_in_training else self.rows_before_last(index))
            log.rows(self.last_row(index))
            failed = result.failed
        finally:
            log.close(result.summary, failed=failed)
        if log.error:
            return replace(result, error=log.error)
        (result.folder / results.UNLOGGED).unlink(missing_ok=True)
        return result

    def arrays(self, index: int) -> dict[str, np.ndarray]:
        """Contents of `factors.safetensors` of one run: factors, product and observations, without a runs axis.

        There is no product where the observations are listed by index.
        """
        ensemble, measurement = self.module.ensemble, self.module.ensemble.measurements[index]
        arrays = {
            **_named("initial", ensemble.factorization.form, [f[index].numpy() for f in ensemble.factors]),
            **_named("final", ensemble.factorization.form, [f[index].numpy() for f in self.final]),
            **({} if self.products is None else {"product": self.products[index].numpy()}),
            **measurement.arrays(),
        }
        if measurement.ground_truth is not None:
            arrays["ground_truth"] = measurement.ground_truth
        return arrays

    def trajectory(self, index: int) -> dict[str, np.ndarray] | None:
        """Contents of `trajectory.safetensors` of one run; None unless the products are recorded."""
        if not self.trajectories or self.products is None:
            return None
        product, flat = self.products[index].numpy(), self.trajectories[index]
        return {
            "iteration": self.traces[index]["iteration"],
            "product": flat.reshape(len(flat), *product.shape).astype(product.dtype),
        }

    def summary(self, index: int) -> dict[str, Any]:
        """Contents of `summary.json` of one run."""
        module, trace = self.module, self.traces[index]
        read = module.ensemble.measurements[index].note
        hinted = self.targets and module.changes is None  # a hint compares with the observations of the last part
        hints = hint(module.ensemble, index, self.final, module.progress, trace) if hinted else {}
        status = Status(int(module.progress.status[index]))
        if status == Status.RUNNING:
            status = Status.MAX_SECONDS if module.out_of_time and not module.interrupted else Status.INTERRUPTED
        heldout, found = module.heldout(index, trace), _stages(trace)
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
            "stop": _stopping_criterion(module, index),
            "notes": module.notes(index) | ({"observations": read} if read else {}) | hints,
            "certificates": module.verdicts(index, trace) if len(trace["loss"]) else {},
            **({"heldout": heldout} if heldout else {}),
            **({} if found is None else {"stages": found.summary()}),
            "metrics": {
                name: float(values[-1]) for name, values in trace.items() if name != "iteration" and len(values)
            }
            | ({} if found is None else {STAGES: float(len(found.rises))}),
        }


def _named(when: str, form: object, factors: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """The factors of one run by number; of singular coordinates the balanced layers, if their number is an integer."""
    if not isinstance(form, Spectral):
        return {f"{when}.{i}": factor for i, factor in enumerate(factors)}
    layers = balanced_layers(factors, form.depth) if isinstance(form.depth, int) else []
    coordinates = zip(("left", "log_singular_values", "right"), factors, strict=True)
    return {f"{when}.{i}": layer for i, layer in enumerate(layers)} | {f"{when}.{name}": f for name, f in coordinates}


def _stages(trace: dict[str, np.ndarray]) -> Stages | None:
    """The stages of a run whose components' motion is measured, else None."""
    staged = stages_of(trace) if families(trace) else None
    return None if staged is None else staged.stages


def _split_by_run(trace: dict[str, np.ndarray], runs: int) -> list[dict[str, np.ndarray]]:
    """The rows of each run, from a trace sorted by run."""
    if not trace:  # interrupted before the first row
        return [{"iteration": np.zeros(0, np.int64), "loss": np.zeros(0)} for _ in range(runs)]
    parts = {name: _split(column, trace["run"], runs) for name, column in trace.items() if name != "run"}
    return [
        # A bound that is NaN throughout applies to another run of the ensemble; the run gets no such column.
        {name: columns[run] for name, columns in parts.items() if not _is_undefined_bound(name, columns[run])}
        for run in range(runs)
    ]


def _trajectories(trace: dict[str, np.ndarray], runs: int) -> list[np.ndarray]:
    """Take the products, [rows, entries], out of a trace sorted by run: those of each run."""
    products = trace.pop(PRODUCT, np.zeros((0, 0)))
    return _split(products, trace["run"], runs) if trace else [products] * runs


def _split(column: np.ndarray, run: np.ndarray, runs: int) -> list[np.ndarray]:
    """The rows of each run; `run` is the run of each row, sorted."""
    return np.split(column, np.searchsorted(run, np.arange(1, runs)))


def _is_undefined_bound(name: str, values: np.ndarray) -> bool:
    return name.startswith("bound/") and bool(np.isnan(values).all())


def _stopping_criterion(module: EnsembleModule, run: int) -> dict[str, Any]:
    """The stopping criterion of a run, with the defaults that its config left open."""
    schedule, problem = module.ensemble.schedule, module.ensemble.problem
    config = module.ensemble.runs[run]
    limits = {"max_seconds": config.max_seconds, "heldout": config.stop_heldout}
    plateau = config.stop_plateau
    return {
        "loss": float(problem.stop_loss[run]),
        "checks": schedule.stop_checks,
        "check_every": schedule.stride,
        "max_iterations": int(problem.max_iterations[run]),
        **{name: value for name, value in limits.items() if value is not None},
        **({} if plateau.window is None else {"plateau": {"window": plateau.window, "tolerance": plateau.tolerance}}),
    }


@functools.cache
def versions() -> dict[str, str]:
    """Versions of the packages on which the bits of a run may depend."""
    packages = ("rankward", "torch", "pytorch_lightning", "numpy", "numba")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}}
