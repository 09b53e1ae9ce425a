"""The ensemble as a LightningModule: one training step is a chunk of many iterations of every run."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from functools import cached_property
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from rankward.config import ConfigError
from rankward.dynamics import Engine, Problem, Progress, Rows, SplitEngine, Status
from rankward.dynamics.reference import loss
from rankward.metrics import DistanceToInfimalRank, DistanceToSolution, measure
from rankward.metrics.collection import MetricError, arguments
from rankward.theory import RunContext
from rankward.training import baselines
from rankward.training.devices import cards
from rankward.training.ensemble import Ensemble
from rankward.training.trace import Trace

CHUNK_SECONDS = 0.25  # how long an interruption may wait; results do not depend on where chunks end


class EnsembleModule(pl.LightningModule):
    """Deep factorizations of many runs, trained by an engine; factors [runs, *shape] are its parameters.

    Args:
        ensemble: the runs.

    Raises:
        ConfigError: a metric that cannot measure the start of the first run.
        DataError: a rival solution that cannot be had.
    """

    progress_iteration: Tensor
    progress_status: Tensor
    progress_next_record: Tensor
    progress_lowest_loss: Tensor
    progress_below: Tensor
    progress_mean_square: Tensor
    progress_weight: Tensor
    progress_time: Tensor
    progress_step: Tensor
    progress_error: Tensor
    progress_closing: Tensor
    problem_operator: Tensor
    problem_values: Tensor
    problem_eta: Tensor

    def __init__(self, ensemble: Ensemble) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.ensemble = ensemble
        shares = cards(ensemble.runs[0])
        engines = [ensemble.engine() for _ in shares]
        self.engine: Engine = SplitEngine(engines, shares) if len(shares) > 1 else engines[0]
        self.factors = nn.ParameterList([nn.Parameter(f.clone(), requires_grad=False) for f in ensemble.factors])
        for name, value in Progress.start(len(ensemble.runs)).state_dict().items():
            self.register_buffer(f"progress_{name}", value)
        for name in ("operator", "values", "eta"):
            self.register_buffer(f"problem_{name}", getattr(ensemble.problem, name), persistent=False)
        self.trace_metrics, self.left_out = ensemble.metrics()  # by name, and any name will do: no ModuleDict
        self.product = ensemble.product
        self.length = ensemble.schedule.stride
        self.ground_truth = ensemble.ground_truth()
        self.certificates = ensemble.certificates()
        for name in self.rival_names:
            baselines.check(name, ensemble.measurements)
        self._try_metrics()
        self.trace = Trace()
        self.last_rows: dict[str, np.ndarray] = {}  # of the last chunk; empty where it has recorded none
        self.interrupted = False
        self.trained_on = "cpu"  # Lightning brings the module back before it is asked

    @property
    def progress(self) -> Progress:
        """How far each run is; the tensors are the module's own buffers."""
        return Progress(**{field.name: getattr(self, f"progress_{field.name}") for field in fields(Progress)})

    @property
    def problem(self) -> Problem:
        """The ensemble's problem on the module's device."""
        return replace(
            self.ensemble.problem, operator=self.problem_operator, values=self.problem_values, eta=self.problem_eta
        )

    @property
    def running(self) -> bool:
        """Whether a run still goes on and nobody has asked to stop."""
        return not self.interrupted and len(self.progress.running) > 0

    def training_step(self, batch: Any, batch_idx: int) -> None:
        """Advance every run by a chunk, and measure what was recorded."""
        self.last_rows = {}
        if not self.running:
            return
        self.trained_on = str(self.device)
        before, started = self.progress.iteration.clone(), time.perf_counter()
        rows = self.engine.advance(list(self.factors), self.problem, self.progress, self.length)
        seconds = time.perf_counter() - started
        if len(rows.run):
            self.last_rows = self._measured(rows)
            self.trace.append(self.last_rows)
        self.length = self._next_length(int((self.progress.iteration - before).max()), seconds)

    def _next_length(self, advanced: int, seconds: float) -> int:
        """Iterations of the next chunk, from those that this one has advanced a run, at most, and the seconds it took.

        A chunk that ended early, since its room for rows was full, says how long the next one can be, not that it
        should be longer. No chunk is longer than what is left of `max_iterations`.
        """
        stride, problem = self.ensemble.schedule.stride, self.ensemble.problem
        left = (problem.max_iterations - self.progress.iteration.cpu())[self.progress.running.cpu()]
        growth = 8.0 if advanced >= self.length else 1.0
        wanted = int(advanced * min(growth, CHUNK_SECONDS / max(seconds, 1e-6)))
        return max(stride, min(wanted, int(left.max()) if len(left) else 0) // stride * stride)

    def _measured(self, rows: Rows) -> dict[str, np.ndarray]:
        columns = measure(
            {name: metric for name, metric in self.trace_metrics.items() if not metric.last_row_only},
            [factor.cpu() for factor in rows.factors],
            self.product,
            self.ensemble.is_chain,
            loss=rows.loss,
            iteration=rows.iteration,
            **self._context(rows.run),
            **self._rivals(rows.run),
        )
        time = {"time": rows.time} if self.ensemble.problem.flow is not None else {}
        named = {"run": rows.run, "iteration": rows.iteration, **time, "loss": rows.loss, **columns}
        trace = {name: column.cpu().numpy() for name, column in named.items()}
        for certificate in self.certificates:
            trace |= {f"bound/{b.column}": b.values for b in certificate.bounds(self.facts, trace)}
        return trace

    def _context(self, run: Tensor) -> dict[str, Any]:
        """What metrics may ask for of the runs that rows belong to, beside the rows themselves."""
        return {
            "ground_truth": None if self.ground_truth is None else self.ground_truth[run],
            "initial": [factor[run] for factor in self.ensemble.factors],
            "infimal_rank": self.infimal_ranks[0][run] if self._asked("infimal_rank") else None,
        }

    def _rivals(self, run: Tensor) -> dict[str, Any]:
        return {
            "solutions": {name: {key: each[run] for key, each in of.items()} for name, of in self.solutions.items()}
        }

    def _asked(self, name: str) -> bool:
        return any(name in arguments(metric) for metric in self.trace_metrics.values())

    def _try_metrics(self) -> None:
        """Measure the start of the first run, so that a metric that cannot is refused before training.

        Rival solutions take long to find: metrics that ask for them are not tried.
        """
        first = torch.zeros(1, dtype=torch.long)
        factors, problem = [factor[:1] for factor in self.ensemble.factors], self.ensemble.problem
        tried = {
            name: metric
            for name, metric in self.trace_metrics.items()
            if metric.tried and "solutions" not in arguments(metric)
        }
        rows = {"loss": problem.loss_scale[:1] * loss(self.product(factors)[0], problem.operator[0], problem.values[0])}
        rows["iteration"] = first
        for last in (False, True):
            chosen = {name: metric for name, metric in tried.items() if metric.last_row_only == last}
            try:
                if chosen:
                    measure(
                        chosen,
                        factors,
                        self.product,
                        self.ensemble.is_chain,
                        **self._context(first),
                        **({} if last else rows),
                    )
            except (MetricError, TypeError, ValueError) as error:
                key, _, what = str(error).partition(": ")
                name = key.removeprefix("metrics.columns.")
                kind = type(self.trace_metrics[name])
                raise ConfigError(
                    key,
                    f"{kind.__module__}.{kind.__qualname__}",
                    f"a metric that can measure this run's start ({what}); {key}=null leaves it out",
                ) from error

    @property
    def rival_names(self) -> list[str]:
        """Solutions that metrics compare runs with."""
        return [m.solution for m in self.trace_metrics.values() if isinstance(m, DistanceToSolution)]

    @cached_property
    def facts(self) -> RunContext:
        """What certificates ask of the runs; found when the first row is measured."""
        return self.ensemble.facts()

    @cached_property
    def solutions(self) -> dict[str, baselines.Solution]:
        """Those solutions, for each run; found when the first row is measured."""
        return {name: baselines.solution(name, self.ensemble.measurements) for name in self.rival_names}

    @cached_property
    def infimal_ranks(self) -> tuple[Tensor, list[str]]:
        """The infimal rank of each run's solutions, NaN where it is not known, and why."""
        return self.ensemble.infimal_ranks()

    def notes(self, run: int) -> dict[str, str]:
        """How columns of one run are to be read, by name."""
        found: dict[str, str] = {"engine": self.engine.note} if self.engine.note else {}
        if self.left_out:
            found["metrics"] = _left_out(self.left_out, self.ensemble.factorization_name)
        for name, metric in self.trace_metrics.items():
            found |= metric.notes()
            if (
                isinstance(metric, DistanceToInfimalRank)
                and metric.rank is None
                and (why := self.infimal_ranks[1][run])
            ):
                found["rank/distance_to_infimal"] = (
                    f"NaN: the infimal rank of the solutions has no closed form here ({why}); where you know it, "
                    f"metrics.columns.{name}.rank=R"
                )
        return found

    def verdicts(self, run: int, trace: dict[str, np.ndarray]) -> dict[str, Any]:
        """What became in one run of each statement that it is checked against, from its whole trace."""
        facts, own = self.facts.of(run), {**trace, "run": np.zeros(len(trace["loss"]), np.int64)}
        found: dict[str, Any] = {}
        for certificate in self.certificates:
            found |= certificate.verdicts(facts, own)
        return found

    def whole_trace(self) -> dict[str, np.ndarray]:
        """Every row so far, run after run, with what is measured of finished runs' last rows alone (else NaN)."""
        trace = self.trace.by_run()
        last = {name: metric for name, metric in self.trace_metrics.items() if metric.last_row_only}
        done = torch.nonzero(self.progress.status != Status.RUNNING).flatten()
        if not (trace and last and len(done)):
            return trace
        columns = measure(
            last,
            [factor.detach().cpu()[done] for factor in self.factors],
            self.product,
            self.ensemble.is_chain,
            **self._context(done),
        )
        rows = np.searchsorted(trace["run"], done.numpy(), side="right") - 1
        for name, values in columns.items():
            trace[name] = np.full(len(trace["run"]), np.nan)
            trace[name][rows] = values.numpy()
        return trace

    def configure_optimizers(self) -> None:
        """None: the engine makes the steps."""

    def train_dataloader(self) -> DataLoader[int]:
        """Chunk numbers for as long as a run goes on."""
        return DataLoader(_Chunks(self), batch_size=None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the trace so far beside factors and progress; drop Lightning's count of chunks, which says nothing."""
        checkpoint.pop("loops", None)
        checkpoint |= self.trace.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take up the trace of the run that is resumed."""
        self.trace.load(checkpoint)


def _left_out(columns: Mapping[str, str], factorization: str) -> str:
    """A note on columns that measure factors of another form, by name and kind."""
    forms = {"chain": "a chain of matrices", "components": "the components of a CP factorization"}
    parts = [
        f"{', '.join(name for name, each in columns.items() if each == kind)}: of {forms[kind]}"
        for kind in dict.fromkeys(columns.values())
    ]
    return f"left out, since factorization={factorization} has other factors: {'; '.join(parts)}"


class _Chunks(IterableDataset[int]):
    def __init__(self, module: EnsembleModule) -> None:
        self.module = module

    def __iter__(self) -> Iterator[int]:
        chunk = 0
        while self.module.running:
            yield chunk
            chunk += 1


def final_products(module: EnsembleModule) -> Tensor:
    """Each run's product, from its final factors, in the runs' dtype."""
    factors = [factor.detach().cpu() for factor in module.factors]
    return module.product(factors).to(factors[0].dtype)
