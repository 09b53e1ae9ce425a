"""The ensemble as a LightningModule: one training step is a chunk of many iterations of every run."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from rankward.config import ConfigError
from rankward.dynamics import Engine, Problem, Progress, Rows, SplitEngine, Status, entries_at
from rankward.dynamics.reference import loss, negative_gradients
from rankward.dynamics.sharpness import loss_function
from rankward.dynamics.state import to_host
from rankward.factorizations import Hierarchy
from rankward.metrics import DistanceToInfimalRank, DistanceToSolution, TraceMetric, measure
from rankward.metrics.collection import MetricError, arguments
from rankward.observations import Sensing
from rankward.theory import RunContext
from rankward.training import baselines, by_index, patience
from rankward.training.changes import Changes
from rankward.training.devices import cuda_devices
from rankward.training.ensemble import HELDOUT, Ensemble
from rankward.training.trace import PRODUCT, Trace

CHUNK_SECONDS = 0.25  # an interruption waits as long at most; results do not depend on where chunks end
MOVED = ("operator", "values", "eta")  # tensors of the problem that engines read on the device


class EnsembleModule(pl.LightningModule):
    """Factorizations of many runs, trained by an engine; the factors, [runs, *shape] each, are its parameters.

    Its progress and its problem are registered as buffers, so that Lightning moves them to the device and the progress
    is saved in checkpoints.

    Args:
        ensemble: the runs.

    Raises:
        ConfigError: a metric that cannot measure the initial factors of the first run.
        DataError: a baseline solution that does not exist or cannot be read.
    """

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.ensemble = ensemble
        shares = cuda_devices(ensemble.runs[0])
        engines = [ensemble.engine() for _ in shares]
        self.engine: Engine = SplitEngine(engines, shares) if len(shares) > 1 else engines[0]
        self.factors = nn.ParameterList([nn.Parameter(f.clone(), requires_grad=False) for f in ensemble.factors])
        for name, value in ensemble.start().state_dict().items():
            self.register_buffer(f"progress_{name}", value)
        for name in MOVED:
            self.register_buffer(f"problem_{name}", getattr(ensemble.problem, name), persistent=False)
        if any(run.stop_heldout is not None for run in ensemble.runs):
            for name, value in patience.start(len(ensemble.runs)).items():
                self.register_buffer(f"heldout_{name}", value)
        self.changes = Changes.of(ensemble.measurements, ensemble.problem.values.dtype)
        self.measured_problem = ensemble.problem  # of the rows that are measured, on the CPU
        self.trace_metrics, self.inapplicable = ensemble.metrics()  # no ModuleDict, which refuses some names
        self.product = ensemble.product
        self.length = ensemble.schedule.stride
        self.ground_truth = ensemble.ground_truth()
        self.certificates = ensemble.certificates()
        for name in self.baseline_names:
            baselines.check(name, ensemble.measurements)
        self._check_metrics()
        self.trace = Trace()
        self.last_recorded: np.ndarray | None = None  # iteration of each run's last row so far; None: not known
        self.last_rows: dict[str, np.ndarray] = {}  # of the last chunk; empty if it recorded none
        self.interrupted = False
        self.out_of_time = False
        self.trained_on = "cpu"  # Lightning moves the module back after training

    @property
    def progress(self) -> Progress:
        """Progress of each run; its tensors are the module's buffers."""
        buffers = {field.name: f"progress_{field.name}" for field in fields(Progress)}
        return Progress(**{name: getattr(self, buffer) for name, buffer in buffers.items() if hasattr(self, buffer)})

    @property
    def problem(self) -> Problem:
        """The ensemble's problem on the module's device."""
        return replace(self.ensemble.problem, **{name: getattr(self, f"problem_{name}") for name in MOVED})

    @property
    def running(self) -> bool:
        """Whether a run has not ended, and training has not ended early."""
        return not self.ended_early and len(self.progress.running) > 0

    @property
    def ended_early(self) -> bool:
        """Whether training was interrupted or has taken `max_seconds`; a checkpoint has the runs that had not ended."""
        return self.interrupted or self.out_of_time

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Advance every run by a chunk of iterations, and measure the recorded rows."""
        self.last_rows = {}
        if not self.running:
            return
        self.trained_on = str(self.device)
        before, started = self.progress.iteration.clone(), time.perf_counter()
        problem = self.problem
        if self.changes is not None:
            problem = self.changes.problem(problem, before)
            self.measured_problem = self.changes.problem(self.ensemble.problem, before)
        rows = self.engine.advance(list(self.factors), problem, self.progress, self.length)
        if self.changes is not None:
            self.changes.begin_second_parts(self.progress, before, self.ensemble.schedule)
        seconds = time.perf_counter() - started
        if len(rows.run):
            measured = self._measure(rows)
            self.last_rows = self._until_heldout_stop(rows, measured) if hasattr(self, "heldout_least") else measured
            self.trace.append(self.last_rows)
        self.length = self._next_length(int((self.progress.iteration - before).max()), seconds)

    def _next_length(self, advanced: int, seconds: float) -> int:
        """Number of iterations of the next chunk, at most those left until `max_iterations`.

        A chunk that ended early, because its memory for rows was full, does not make the next one longer.

        Args:
            advanced: iterations of the last chunk, of the run that made most.
            seconds: that it took.
        """
        stride, problem = self.ensemble.schedule.stride, self.ensemble.problem
        left = (problem.max_iterations - self.progress.iteration.cpu())[self.progress.running.cpu()]
        growth = 8.0 if advanced >= self.length else 1.0
        length = int(advanced * min(growth, CHUNK_SECONDS / max(seconds, 1e-6)))
        return max(stride, min(length, int(left.max()) if len(left) else 0) // stride * stride)

    def _measure(self, rows: Rows) -> dict[str, np.ndarray]:
        columns = self._columns(
            {name: metric for name, metric in self.trace_metrics.items() if metric.row_limit is None},
            [to_host(factor) for factor in rows.factors],
            rows.run,
            rows.time,
            loss=rows.loss,
            iteration=rows.iteration,
            **self._baselines(rows.run),
        )
        columns |= self._measure_some(rows)
        time = {"time": rows.time} if self.ensemble.problem.flow is not None else {}
        part = {} if self.changes is None else {"part": self.changes.part(rows.run, rows.iteration)}
        named = {"run": rows.run, "iteration": rows.iteration, **time, "loss": rows.loss, **part, **columns}
        kept = np.copy if self.device.type == "cuda" else np.asarray  # rows of a card lie in page-locked memory
        trace = {name: kept(column.cpu().numpy()) for name, column in named.items()}
        if self.ensemble.listed:
            return trace
        judged = self.run_context.with_half_sums(trace)
        for certificate in self.certificates:
            bounds = {f"bound/{b.column}": b.values for b in certificate.bounds(self.run_context, judged)}
            trace |= bounds
            judged = {**judged, **bounds}
        if self.ensemble.runs[0].record.product:
            trace[PRODUCT] = products(self, [to_host(factor) for factor in rows.factors]).flatten(1).double().numpy()
        return trace

    def _columns(
        self,
        metrics: Mapping[str, TraceMetric],
        factors: list[Tensor],
        run: Tensor,
        time: Tensor,
        taken: Collection[str] = (),
        **more: Any,
    ) -> dict[str, Tensor]:
        """Columns of metrics for factors [rows, *shape] of these runs and times, [rows] float64 each.

        Args:
            metrics: by name.
            factors: on the processor.
            run, time: of each row.
            taken: names of columns that others fill.
            more: of the context, as for `measure`.
        """
        context, ensemble = {**self._context(run, time), **more}, self.ensemble
        if ensemble.listed:
            return by_index.measure_rows(metrics, factors, run, ensemble.factorization, ensemble.listed, context)
        return measure(
            metrics, factors, self.product, ensemble.is_chain, taken, is_spectral=ensemble.is_spectral, **context
        )

    def _until_heldout_stop(self, rows: Rows, measured: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The measured rows without those behind a row at which `stop_heldout` ends a run; that run goes back to it.

        The row, not the end of the chunk, decides, so that a result does not depend on where chunks end.
        """
        limits = np.array([run.stop_heldout or 0 for run in self.ensemble.runs])
        state = {name: getattr(self, f"heldout_{name}").numpy(force=True) for name in patience.FIELDS}
        run, iteration = measured["run"], measured["iteration"]
        stops, after = patience.stops(run, iteration, measured[HELDOUT], limits, state)
        for name, value in after.items():
            getattr(self, f"heldout_{name}").copy_(torch.from_numpy(value))
        if not len(stops):
            return measured
        last = np.append(run[1:] != run[:-1], True)[stops]  # there the run may have ended for another reason
        status = self.progress.status.numpy(force=True)
        stops = stops[~(last & (status[run[stops]] != Status.RUNNING))]
        at, ended = torch.from_numpy(stops), torch.from_numpy(run[stops])
        for factor, recorded in zip(self.factors, rows.factors, strict=True):
            factor[ended.to(factor.device)] = recorded[at.to(recorded.device)].to(factor.device)
        self.progress.put(
            ended, {"iteration": rows.iteration[at], "status": torch.full_like(ended, Status.STOP_HELDOUT)}
        )
        end = np.full(len(limits), np.iinfo(np.int64).max)
        end[run[stops]] = iteration[stops]
        kept = iteration <= end[run]
        return {name: column[kept] for name, column in measured.items()}

    def _measure_some(self, rows: Rows) -> dict[str, Tensor]:
        """Columns of metrics that are measured in some rows of a run, NaN in the others.

        Their last row is measured at the end, see `full_trace`.
        """
        limits = sorted({limit for m in self.trace_metrics.values() if (limit := m.row_limit or 0) > 1})
        if not limits:
            return {}
        run, iteration, columns = rows.run.cpu().numpy(), rows.iteration.cpu().numpy(), {}
        if self.last_recorded is None:
            self.last_recorded = self.trace.last_iterations(self.problem.runs)
        first = np.append(True, run[1:] != run[:-1])
        previous = np.where(first, self.last_recorded[run], np.append(0, iteration[:-1]))
        np.maximum.at(self.last_recorded, run, iteration)
        for limit in limits:
            targets = spread(self.ensemble.problem.max_iterations.numpy(), self.ensemble.schedule.stride, limit)[run]
            chosen = ((targets > previous[:, None]) & (targets <= iteration[:, None])).any(1)
            at = torch.from_numpy(np.flatnonzero(chosen))
            measured = self._columns(
                {name: metric for name, metric in self.trace_metrics.items() if metric.row_limit == limit},
                [to_host(factor)[at] for factor in rows.factors],
                rows.run.cpu()[at],
                rows.time.cpu()[at],
            )
            for name, values in measured.items():
                columns[name] = torch.full((len(run),), torch.nan, dtype=torch.float64)
                columns[name][at] = values
        return columns

    def _context(self, run: Tensor, time: Tensor) -> dict[str, Any]:
        """Arguments of metrics other than the rows, for the run of each row and its time, 0 except of a flow."""
        problem, form = self.measured_problem, self.ensemble.factorization.form
        context: dict[str, Any] = {
            "tree": form.tree if isinstance(form, Hierarchy) else None,
            "ground_truth": None if self.ground_truth is None else self.ground_truth[run],
            "initial": self._initial(run, time),
            "infimal_rank": self.infimal_ranks[0][run] if self._is_argument("infimal_rank") else None,
            "completion": (
                {name: each[run] for name, each in self.completions.items()}
                if self._is_argument("completion")
                else None
            ),
            **self.ensemble.entries(run),
            **self.ensemble.units(run),
        }
        if self._is_argument("loss_function"):
            of_a_run = loss_function(self.ensemble.factorization.product, problem.loss)
            context["loss_function"] = lambda rows: of_a_run
            context["loss_data"] = [problem.operator[run], problem.values[run], problem.loss_scale[run]]
        if self._is_argument("negative_gradient"):
            context["negative_gradient"] = lambda rows: partial(
                negative_gradients,
                run=run.cpu()[rows],
                operator=problem.operator,
                values=problem.values,
                scale=problem.loss_scale,
                of=problem.loss,
            )
        if self._is_argument("step_size"):
            context["step_size"] = self.ensemble.step_sizes(run)
        return context

    def _initial(self, run: Tensor, time: Tensor) -> list[Tensor]:
        """Factors whose differences of squares the row should have: those of the start, times e^(-decay time)."""
        flow, factors = self.ensemble.problem.flow, [factor[run] for factor in self.ensemble.factors]
        if flow is None or flow.decay is None:
            return factors
        left = torch.exp(-flow.decay[run] * time)
        return [factor * left.reshape(-1, *[1] * (factor.ndim - 1)) for factor in factors]

    def _baselines(self, run: Tensor) -> dict[str, Any]:
        return {
            "solutions": {
                name: {key: value[run] for key, value in solution.items()} for name, solution in self.solutions.items()
            }
        }

    def _is_argument(self, name: str) -> bool:
        return any(name in arguments(metric) for metric in self.trace_metrics.values())

    def _check_metrics(self) -> None:
        """Measure the initial factors of the first run, so that a metric that fails is refused before training.

        Metrics that compare with baseline solutions are not checked, because these take long to compute.
        """
        first = torch.zeros(2, dtype=torch.long)  # twice, so that a metric with one value for all rows is refused
        factors, problem = (
            [factor[:1].repeat_interleave(2, 0) for factor in self.ensemble.factors],
            self.ensemble.problem,
        )
        checked = {
            name: metric
            for name, metric in self.trace_metrics.items()
            if metric.tried and "solutions" not in arguments(metric)
        }
        value = self._first_loss()
        rows = {"loss": (problem.loss_scale[:1] * value).expand(2), "iteration": first}
        filled: set[str] = set()
        for some in (False, True):
            chosen = {name: metric for name, metric in checked.items() if (metric.row_limit is not None) == some}
            try:
                if chosen:
                    start = torch.zeros(2, dtype=torch.float64)
                    columns = self._columns(chosen, factors, first, start, taken=filled, **({} if some else rows))
                    filled |= columns.keys()
            except (MetricError, TypeError, ValueError) as error:
                key, _, reason = str(error).partition(": ")
                name = key.removeprefix("metrics.columns.")
                kind = type(self.trace_metrics[name])
                raise ConfigError(
                    key,
                    f"{kind.__module__}.{kind.__qualname__}",
                    f"a metric that can measure this run's start ({reason}); {key}=null leaves it out",
                ) from error

    def _first_loss(self) -> Tensor:
        """The sum of the loss of the first run at its start."""
        problem, factors = self.ensemble.problem, [factor[:1] for factor in self.ensemble.factors]
        if problem.entries is None:
            return loss(self.product(factors)[0], problem.operator[0], problem.values[0], problem.loss)
        entries = problem.entries[0]
        predictions = entries_at(self.ensemble.factorization.form, entries)(factors)[0]
        return loss(predictions, torch.ones_like(predictions), torch.from_numpy(entries.values), problem.loss)

    @property
    def baseline_names(self) -> list[str]:
        """Names of the baseline solutions that metrics compare runs with."""
        return [m.solution for m in self.trace_metrics.values() if isinstance(m, DistanceToSolution)]

    @cached_property
    def run_context(self) -> RunContext:
        """Properties of the runs on which certificates depend; computed when the first row is measured."""
        return self.ensemble.run_context()

    @cached_property
    def solutions(self) -> dict[str, baselines.Solution]:
        """Baseline solutions of each run, by name; computed when the first row is measured."""
        return {name: baselines.solution(name, self.ensemble.measurements) for name in self.baseline_names}

    @cached_property
    def infimal_ranks(self) -> tuple[Tensor, list[str]]:
        """The infimal rank of each run's solutions, [runs] float64, NaN if it is not known, and the reasons for NaN."""
        return self.ensemble.infimal_ranks()

    @cached_property
    def completions(self) -> Mapping[str, Tensor]:
        """The graph of each run's observed entries, and bounds on the least rank of a completion."""
        return baselines.completions(self.ensemble.measurements)

    @cached_property
    def heldout_errors(self) -> list[tuple[dict[str, float], str]]:
        """`baseline_errors` of each run; empty if the runs hold nothing out. Computed when the runs have ended."""
        measurements = [m for m in self.ensemble.measurements if not isinstance(m, Sensing)]
        return baselines.heldout_errors(measurements) if self.ensemble.heldout else []

    def heldout(self, run: int, trace: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """The part of a run's summary on held-out entries; empty if there are none.

        Their number, the errors of simple predictions (`baseline_errors`), and the recorded iteration with the least
        `error/heldout_rmse`, the first of equal ones. That row is chosen on the held-out entries, so its error is no
        estimate of the error on others; it is null, and its error NaN, where no row has a finite error.

        Args:
            run: its index.
            trace: its rows.
        """
        if not self.heldout_errors:
            return {}
        errors, rows = self.heldout_errors[run][0], trace.get(HELDOUT, np.zeros(0))
        finite = np.isfinite(rows)
        best = int(np.argmin(np.where(finite, rows, np.inf))) if finite.any() else None
        return {
            "entries": self.ensemble.heldout[run].count,
            "baselines": errors,
            "best_iteration_chosen_on_heldout": None if best is None else int(trace["iteration"][best]),
            "best_rmse_chosen_on_heldout": float("nan") if best is None else float(rows[best]),
        }

    def notes(self, run: int) -> dict[str, str]:
        """Remarks on the columns of one run, by name."""
        notes: dict[str, str] = {"engine": self.engine.note} if self.engine.note else {}
        others = {name: kind for name, kind in self.inapplicable.items() if kind != by_index.PRODUCT}
        if others:
            named = f"factorization={self.ensemble.factorization_name}"
            source = "lr.coordinates=singular" if self.ensemble.is_spectral else named
            notes["metrics"] = _inapplicable_note(others, source)
        if self.ensemble.listed:
            left_out = [name for name, kind in self.inapplicable.items() if kind == by_index.PRODUCT]
            if made := by_index.note(left_out, list(self.ensemble.runs[0].metrics.certificates)):
                notes["product"] = made
        if self.heldout_errors and (why := self.heldout_errors[run][1]):
            notes["heldout.baselines.least_nuclear"] = why
        if self.changes is not None and self.changes.until[run]:
            notes["part"] = (
                f"losses up to iteration {int(self.changes.until[run]):,} are of the first values, later ones of the "
                "second; errors are against the second ground truth; statements are not checked"
            )
        truth = self.ensemble.measurements[run].ground_truth
        if truth is not None and (known := int((~np.isnan(truth)).sum())) < truth.size:
            notes["ground_truth"] = f"it has {known:,} of its {truth.size:,} entries; errors against it are over these"
        for name, metric in self.trace_metrics.items():
            notes |= metric.notes()
            if (
                isinstance(metric, DistanceToInfimalRank)
                and metric.rank is None
                and (why := self.infimal_ranks[1][run])
            ):
                notes["rank/distance_to_infimal"] = (
                    f"NaN: the infimal rank of the solutions has no closed form here ({why}); where you know it, "
                    f"metrics.columns.{name}.rank=R"
                )
        return notes

    def verdicts(self, run: int, trace: dict[str, np.ndarray]) -> dict[str, Any]:
        """Verdict on each statement that one run is checked against.

        Args:
            run: its index.
            trace: its rows, without the column `run`.
        """
        if self.ensemble.listed:
            return {}
        context = self.run_context.of(run)
        rows = context.with_half_sums({**trace, "run": np.zeros(len(trace["loss"]), np.int64)})
        verdicts: dict[str, Any] = {}
        for certificate in self.certificates:
            verdicts |= certificate.verdicts(context, rows)
        return verdicts

    def full_trace(self) -> dict[str, np.ndarray]:
        """All rows so far, sorted by run.

        Columns that are only measured in some rows are NaN in the other rows; unfinished runs have no last row.
        """
        trace = self.trace.by_run()
        last = {name: metric for name, metric in self.trace_metrics.items() if metric.row_limit is not None}
        done = torch.nonzero(self.progress.status != Status.RUNNING).flatten()
        if not (trace and last and len(done)):
            return trace
        if self.changes is not None:
            self.measured_problem = self.changes.problem(self.ensemble.problem, self.progress.iteration)
        final = [factor.detach().cpu()[done] for factor in self.factors]
        columns = self._columns(last, final, done, self.progress.time.cpu()[done])
        rows = np.searchsorted(trace["run"], done.numpy(), side="right") - 1
        for name, values in columns.items():
            trace[name] = np.array(trace[name]) if name in trace else np.full(len(trace["run"]), np.nan)
            trace[name][rows] = values.numpy()
        return trace

    def configure_optimizers(self) -> None:
        """None: the engine makes the steps."""

    def train_dataloader(self) -> DataLoader[int]:
        """Chunk numbers, until all runs have ended."""
        return DataLoader(_Chunks(self), batch_size=None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the trace to factors and progress; remove Lightning's count of chunks, which depends on timing."""
        checkpoint.pop("loops", None)
        checkpoint |= self.trace.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Restore the trace. A checkpoint of an older version has no marks of a plateau: the first one is set next."""
        start = self.ensemble.start()
        marks = {f"progress_{name}": getattr(start, name) for name in ("marked", "marked_loss")}
        checkpoint["state_dict"] = marks | checkpoint["state_dict"]
        self.trace.load(checkpoint)
        self.last_recorded = None


def _inapplicable_note(columns: Mapping[str, str], source: str) -> str:
    """A note on columns, by name and kind, that measure factors of another form."""
    forms = {
        "chain": "a chain of matrices",
        "components": "the components of a CP factorization",
        "hierarchical": "a hierarchical factorization",
    }
    parts = [
        f"{', '.join(name for name, each in columns.items() if each == kind)}: of {forms[kind]}"
        for kind in dict.fromkeys(columns.values())
    ]
    return f"left out, since {source} has other factors: {'; '.join(parts)}"


def spread(max_iterations: np.ndarray, stride: int, rows: int) -> np.ndarray:
    """Iterations at or after which a row is measured: 0, and `rows` - 2 between the first check and `max_iterations`.

    They are evenly spaced in the logarithm, and multiples of the stride. The last row makes them `rows`.

    Args:
        max_iterations: [runs].
        stride: iterations between two checks.
        rows: at least 2.

    Returns:
        [runs, rows - 1].

    Example:
        >>> spread(np.array([500_000]), 50, 6).tolist()
        [[0, 300, 2000, 12550, 79250]]
    """
    share = np.arange(1, rows - 1) / (rows - 1)
    between = np.power(np.maximum(max_iterations[:, None] / stride, 1.0), share)
    return np.concatenate([np.zeros((len(max_iterations), 1)), np.rint(between) * stride], axis=1).astype(np.int64)


class _Chunks(IterableDataset[int]):
    def __init__(self, module: EnsembleModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        chunk = 0
        while self.module.running:
            yield chunk
            chunk += 1


def final_products(module: EnsembleModule) -> Tensor | None:
    """Product of each run's current factors, [runs, *dims], in the runs' dtype; None for entries listed by index."""
    if module.ensemble.listed:
        return None
    return products(module, [factor.detach().cpu() for factor in module.factors])


def products(module: EnsembleModule, factors: Sequence[Tensor]) -> Tensor:
    """Products of factors, [rows, *shape] each, as files hold them: [rows, *dims], in the runs' dtype."""
    return module.product(factors).to(factors[0].dtype)
