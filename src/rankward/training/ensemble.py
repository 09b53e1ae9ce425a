"""Ensembles: runs that train together; arrays that differ between runs have a leading runs axis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from math import ceil, log, prod
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from rankward.config import ConfigError, RunConfig, build, takes
from rankward.config.checks import ENTRY_BYTES, fits_memory, too_much
from rankward.config.groups import FACTOR_BYTES, SINGULAR_NUMBERS, AdaptiveRate, FlowRate, ScheduledRate
from rankward.config.schema import Protocol
from rankward.dynamics import Adaptive, Engine, Flow, Noise, Plateau, Problem, Progress, Rule, Schedule, choose_engine
from rankward.dynamics.products import Product, product_of
from rankward.dynamics.reference import negative_gradients
from rankward.dynamics.state import BATCH, GRADIENTS, LABELS
from rankward.dynamics.stepping import check_schedule, check_update, state_shapes
from rankward.factorizations import Factorization
from rankward.factorizations.base import Chain, Components, Hierarchy, Spectral
from rankward.factorizations.singular import (
    SingularCoordinates,
    balanced_layers,
    product_of_coordinates,
    without_ties,
)
from rankward.losses import Loss, Squared
from rankward.losses.base import check_value
from rankward.metrics import HeldOutErrors, TraceMetric
from rankward.metrics.collection import measurable_without_product
from rankward.metrics.functional import unbalancedness
from rankward.metrics.functional.conserved import largest_square
from rankward.metrics.functional.entries import is_square, log_determinant, product_sign
from rankward.observations import EntryMask, IndexedEntries, Measurement, Sensing, Units, hold_out, in_units
from rankward.observations.indexed import shortened
from rankward.optimizers import Optimizer, RateSchedule, Scheduled
from rankward.seeding import key_words
from rankward.theory import Certificate, RunContext, infimal_rank
from rankward.training.by_index import NAME as INDEXED
from rankward.training.by_index import PRODUCT, entries_of, listed_or_masked

LISTED_BYTES = 150  # of an entry by index: places, two orders, predictions, slopes and temporary arrays, 8 each
CACHE_BYTES = 2**28  # of observations that are kept for further runs
TRAJECTORY_BYTES = 24  # of a number of a recorded product: 8, times its copies when the runs are sorted and written
STATE_BYTES = 32  # of a number that an optimizer keeps: 8, times the number of its copies in memory
KINDS_OF_NOISE = {"label_noise": LABELS, "gradient_noise": GRADIENTS, "batch": BATCH}  # by key of an optimizer
LARGEST_ORDER = 2**24  # entries that an epoch can put in order
HELDOUT = "error/heldout_rmse"  # column of `HeldOutErrors`
KINDS = ("vector", "matrix", "tensor")  # of products with one, two and more axes
FORMS = {"chain": Chain, "components": Components, "hierarchical": Hierarchy}  # of factors
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Ensemble:
    """Runs that train together.

    Args:
        runs: their configs.
        factorization: shared by all runs, up to numbers that do not change its product.
        factors: initial factors, [runs, *shape] each, in the runs' dtype.
        problem: observations, learning rates and stopping criteria.
        measurements: observations of each run, float64.
        schedule: which iterations are checked and recorded.
    """

    runs: Sequence[RunConfig]
    factorization: Factorization
    factors: list[Tensor]
    problem: Problem
    measurements: Sequence[Measurement]
    schedule: Schedule

    @classmethod
    def of(cls, runs: Sequence[RunConfig]) -> Ensemble:
        """Make the observations and draw the initial factors of every run.

        Raises:
            ConfigError: runs that cannot share an ensemble (shapes, dtype, engine, schedule), or one that cannot start.
            DataError: observations that cannot be used.
        """
        measurements = [measurement_of(run) for run in runs]
        factorizations = [factorization_of(run, m) for run, m in zip(runs, measurements, strict=True)]
        if len(runs) > 1:
            losses = map(_loss, runs)
            _check_alike([_traits(*each) for each in zip(runs, measurements, factorizations, losses, strict=True)])
        dtype = DTYPES[runs[0].dtype]
        starts = [
            factorization.start(build("init", run.init), run.seed)
            for run, factorization in zip(runs, factorizations, strict=True)
        ]
        for run, m in zip(runs, measurements, strict=True):
            if run.stop_heldout is not None and (isinstance(m, Sensing) or m.heldout is None):
                raise ConfigError("stop_heldout", run.stop_heldout, "null: no entries are held out")
        loss = _checked_loss(runs, measurements)
        listed = [m for m in measurements if isinstance(m, IndexedEntries)]
        if listed and runs[0].record.product:
            raise ConfigError("record.product", True, "false: engine=indexed does not write the product down")
        operators, values = _arrays(measurements)
        stops = [protocol_of(run, factorizations[0]) for run in runs]
        for run, stop, m in zip(runs, stops, measurements, strict=True):
            _check_trajectory(run, stop, m)
        means = [run.reduction(factorizations[0].mean_loss) == "mean" for run in runs]
        scales = [loss.in_mean / m.count if mean else 1.0 for mean, m in zip(means, measurements, strict=True)]
        problem = Problem(
            operator=torch.from_numpy(operators).to(dtype),
            values=torch.from_numpy(values).to(dtype),
            eta=torch.tensor([0.0 if isinstance(run.lr, FlowRate) else run.lr.eta for run in runs], dtype=dtype),
            stop_loss=torch.tensor([stop.stop_loss for stop in stops], dtype=torch.float64),
            max_iterations=torch.tensor([stop.max_iterations for stop in stops]),
            loss_scale=torch.tensor(scales, dtype=torch.float64),
            adaptive=_adaptive(runs, dtype),
            flow=_flow(runs),
            rule=_rule(runs, measurements, factorizations[0], dtype),
            loss=loss,
            plateau=_plateau(runs),
            entries=tuple(map(entries_of, listed)) if listed else None,
        )
        record, stop = runs[0].record, stops[0]
        schedule = Schedule(
            stop.check_every, record.every or 0, record.iteration_ratio, record.loss_ratio, stop.stop_checks
        )
        factors = [torch.stack(layer).to(dtype).contiguous() for layer in zip(*starts, strict=True)]
        if isinstance(factorizations[0].form, Spectral):
            factors = _separated(factors, problem)
        return cls(runs, factorizations[0], factors, problem, measurements, schedule)

    def start(self) -> Progress:
        """The progress of the runs before their first step."""
        rule = self.problem.rule
        numbers = None if rule is None else _state_numbers(rule.optimizer, self.factorization)
        return Progress.start(len(self.runs), numbers)

    def engine(self) -> Engine:
        """The engine that the config names, or with `auto` the fastest one for these runs."""
        run = self.runs[0]
        return choose_engine(
            run.engine,
            self.factorization,
            self.schedule,
            problem=self.problem,
            accelerator=run.trainer.accelerator,
            threads=run.trainer.threads,
        )

    def metrics(self) -> tuple[dict[str, TraceMetric], dict[str, str]]:
        """The metrics of the config by name, and what those that are left out need: a form of factors, or a product.

        Raises:
            ConfigError: a metric that cannot measure the products of this factorization.
        """
        wanted, axes = self.runs[0].metrics, len(self.measurements[0].dims)
        kind = KINDS[min(axes, 3) - 1]
        measurable = {"any", kind, "tensor"} if axes > 1 else {"any", kind}  # a matrix is a tensor of order 2
        form = self.factorization.form
        factors = {name: isinstance(form, kind) for name, kind in FORMS.items()}
        metrics: dict[str, TraceMetric] = {}
        inapplicable: dict[str, str] = {}
        for name, column in wanted.columns.items():
            metric = build(f"metrics.columns.{name}", column)
            if not isinstance(metric, TraceMetric):
                allowed = (
                    "a rankward.metrics.TraceMetric, which has a value for each row; a torchmetric has one for all"
                )
                raise ConfigError(f"metrics.columns.{name}", column["_target_"], allowed)
            if not factors.get(metric.kind, True):
                inapplicable[name] = metric.kind
                continue
            if metric.kind not in measurable | factors.keys():
                size = "x".join(map(str, self.measurements[0].dims))
                run = f"{size} {self.factorization_name} run"
                run = f"{self.factorization_name} run of {size} entries" if axes == 1 else run
                raise ConfigError(
                    "metrics",
                    wanted.name,
                    f"{kind}, for a {run}: column {name!r} is of a {metric.kind}",
                )
            thin = isinstance(metric, HeldOutErrors) or measurable_without_product(metric, self.is_chain)
            if self.listed and not thin:
                inapplicable[name] = PRODUCT
                continue
            metrics[name] = metric
        if self.heldout and not any(isinstance(metric, HeldOutErrors) for metric in metrics.values()):
            metrics[HELDOUT] = HeldOutErrors()
        return metrics, inapplicable

    def certificates(self) -> list[Certificate]:
        """The statements that the runs are checked against.

        There are none where only some entries of the product are known, or observations change: no statement allows it.
        """
        if self.listed or any(isinstance(m, EntryMask) and m.first is not None for m in self.measurements):
            return []
        nodes = self.runs[0].metrics.certificates
        return [build(f"metrics.certificates.{name}", node) for name, node in nodes.items()]

    @property
    def listed(self) -> list[IndexedEntries]:
        """Observations of each run by index; empty if the runs have masks or sensing matrices."""
        return [m for m in self.measurements if isinstance(m, IndexedEntries)]

    @property
    def is_chain(self) -> bool:
        """Whether the product is one of matrices W_L ... W_1, the factors."""
        return isinstance(self.factorization.form, Chain)

    @property
    def is_spectral(self) -> bool:
        """Whether the factors are U, ln sigma and V of the product of balanced layers."""
        return isinstance(self.factorization.form, Spectral)

    @cached_property
    def product(self) -> Product:
        """The function from factors [rows, *shape] to products [rows, *dims]; the factorization is traced once."""
        return product_of(self.factorization)

    def infimal_ranks(self) -> tuple[Tensor, list[str]]:
        """The infimal rank of each run's solutions, [runs] float64, NaN if it is not known, and the reasons for NaN."""
        found = {id(m): infimal_rank(m) for m in {id(m): m for m in self.measurements}.values()}
        ranks, why = zip(*(found[id(m)] for m in self.measurements), strict=True)
        return torch.tensor(ranks, dtype=torch.float64), list(why)

    def run_context(self) -> RunContext:
        """Properties of the runs on which certificates depend."""
        product = self.product(self.factors)
        is_matrix, masked = product.ndim == 3, isinstance(self.measurements[0], EntryMask)
        unknown = torch.full((len(product),), torch.nan, dtype=torch.float64)
        chain, form = self.is_chain, self.factorization.form
        spectral = form if isinstance(form, Spectral) else None
        flow, rounding = self.problem.flow, torch.finfo(self.factors[0].dtype).eps
        size = largest_square(
            [factor.reshape(len(factor), 1, -1) for factor in self.factors]
        ).sqrt()  # of the largest factor
        return RunContext(
            depth=len(self.factors) if spectral is None else spectral.depth,
            dynamics=self.problem.dynamics,
            mask=np.stack([m.mask for m in self.measurements if isinstance(m, EntryMask)]) if masked else None,
            values=np.stack([m.values for m in self.measurements]),
            determinant=self._determinant_signs(product).numpy() if is_matrix else unknown.numpy(),
            unbalancedness=(
                torch.zeros_like(unknown)
                if spectral
                else unbalancedness(self.factors) / size.square()
                if chain
                else unknown
            ).numpy(),
            product=product.numpy(),
            tolerance=(
                flow.rtol + flow.atol / size if flow is not None else torch.full_like(unknown, rounding)
            ).numpy(),
            chain=chain or spectral is not None,
            spectral=spectral is not None,
            square=chain and all(is_square(factor) for factor in self.factors),
            rounding=rounding,
            smooth=self.problem.loss.smooth,
            half_sums=(
                1 / self.problem.loss_scale
                if type(self.problem.loss) is Squared
                else torch.full_like(unknown, torch.nan)
            ).numpy(),
            step_size=self.step_sizes(torch.arange(len(product))).numpy(),
            tree=form.tree if isinstance(form, Hierarchy) else None,
            components=isinstance(form, Components),
            decay=None if flow is None or flow.decay is None else flow.decay.numpy(),
            factors=self._initial_chain(),
        )

    def _initial_chain(self) -> list[np.ndarray] | None:
        """The layers at the start, [runs, d_l, d_(l-1)] each; of singular coordinates balanced ones; else None."""
        factors, form = [factor.numpy() for factor in self.factors], self.factorization.form
        if isinstance(form, Spectral):
            return balanced_layers(factors, form.depth) if isinstance(form.depth, int) else None
        return factors if self.is_chain else None

    def _determinant_signs(self, product: Tensor) -> Tensor:
        if self.is_spectral and product.shape[-2] == product.shape[-1]:
            return log_determinant(self.factors)[0]
        return product_sign(product, self.factors if self.is_chain else None)

    def step_sizes(self, run: Tensor) -> Tensor:
        """The step of each of these runs, float64; NaN unless it is gradient descent with a constant one."""
        fixed = self.problem.dynamics == "descent"
        return self.problem.eta[run].double() if fixed else torch.full((len(run),), torch.nan, dtype=torch.float64)

    @property
    def factorization_name(self) -> str:
        """Name of the choice in the config group `factorization`."""
        return self.runs[0].factorization.name

    @property
    def heldout(self) -> list[EntryMask | IndexedEntries]:
        """Held-out entries of each run; empty if the runs have none."""
        return [m.heldout for m in self.measurements if not isinstance(m, Sensing) and m.heldout is not None]

    @cached_property
    def _entries(self) -> tuple[Tensor, dict[str, Tensor]]:
        """The index of each run's observations, [runs], in arrays [distinct observations, *dims]."""
        distinct = list({id(m): m for m in self.measurements if isinstance(m, EntryMask)}.values())
        index = {id(m): place for place, m in enumerate(distinct)}
        pairs = [(m, m.heldout) for m in distinct if m.heldout is not None]
        arrays = {
            "values": [m.values + heldout.values for m, heldout in pairs],  # each is zero where the other is not
            "observed": [m.mask for m, _ in pairs],
            "heldout": [heldout.mask for _, heldout in pairs],
        }
        stacked = {name: torch.from_numpy(np.stack(each)) for name, each in arrays.items()}
        return torch.tensor([index[id(m)] for m in self.measurements]), stacked

    def entries(self, run: Tensor) -> dict[str, Callable[[slice], Tensor]]:
        """Observed and held-out entries of the run of each row, [rows, *dims]; none if the runs hold nothing out.

        They are gathered for the rows that are measured at a time, since all rows of large arrays would not fit.
        """
        if not self.heldout or self.listed:
            return {}
        index, arrays = self._entries
        return {name: partial(_rows, array, index[run]) for name, array in arrays.items()}

    def units(self, run: Tensor) -> dict[str, Tensor]:
        """The scale of the data's units, and the size of the ground truth in them, for the run of each row; or nothing.

        Both are [rows] float64; there is nothing where the runs are trained in the data's own units.
        """
        if not self._units:
            return {}
        sizes = [
            float("nan") if units.own.ground_truth is None else float(np.sqrt(np.nansum(units.own.ground_truth**2)))
            for units in self._units
        ]
        scales = [units.scale for units in self._units]
        found = {"unit": scales, "truth_size": sizes}
        return {name: torch.tensor(values, dtype=torch.float64)[run] for name, values in found.items()}

    @cached_property
    def _units(self) -> list[Units]:
        """Units of each run; empty if the runs are trained in the data's own."""
        return [m.units for m in self.measurements if not isinstance(m, Sensing) and m.units is not None]

    def ground_truth(self) -> Tensor | None:
        """Ground truth of each run, [runs, *dims] float64, or None if the runs have none."""
        truths = [m.ground_truth for m in self.measurements if m.ground_truth is not None]
        return torch.from_numpy(np.stack(truths)) if truths else None


def _arrays(measurements: Sequence[Measurement]) -> tuple[np.ndarray, np.ndarray]:
    """Masks or sensing matrices of the runs, and their values, runs axis first; both empty for entries by index."""
    if isinstance(measurements[0], IndexedEntries):
        return np.zeros((len(measurements), 0)), np.zeros((len(measurements), 0))
    pairs = [(m.mask if isinstance(m, EntryMask) else m.matrices, m.values)
             for m in measurements if not isinstance(m, IndexedEntries)]  # fmt: skip
    operators, values = zip(*pairs, strict=True)
    return np.stack(operators), np.stack(values)


def _rows(array: Tensor, index: Tensor, rows: slice) -> Tensor:
    return array[index[rows]]


def _adaptive(runs: Sequence[RunConfig], dtype: torch.dtype) -> Adaptive | None:
    rates = [run.lr for run in runs if isinstance(run.lr, AdaptiveRate)]
    if not rates:
        return None
    beta, eps = zip(*((rate.beta, rate.eps) for rate in rates), strict=True)
    return Adaptive(torch.tensor(beta, dtype=dtype), torch.tensor(eps, dtype=dtype))


def _plateau(runs: Sequence[RunConfig]) -> Plateau | None:
    stops = [run.stop_plateau for run in runs]
    if not any(stop.window for stop in stops):
        return None
    return Plateau(
        torch.tensor([stop.window or 0 for stop in stops]),
        torch.tensor([stop.tolerance or 0.0 for stop in stops], dtype=torch.float64),
    )


def _flow(runs: Sequence[RunConfig]) -> Flow | None:
    rates = [run.lr for run in runs if isinstance(run.lr, FlowRate)]
    if not rates:
        return None
    tolerances = [(rate.rtol, rate.atol, rate.max_time) for rate in rates]
    decays = [run.optimizer.arguments()["weight_decay"] for run in runs if not run.optimizer.is_plain]
    rtol, atol, max_time = (
        torch.tensor([torch.inf if value is None else value for value in column], dtype=torch.float64)
        for column in zip(*tolerances, strict=True)
    )
    return Flow(rtol, atol, max_time, torch.tensor(decays, dtype=torch.float64) if decays else None)


def _rule(
    runs: Sequence[RunConfig], measurements: Sequence[Measurement], factorization: Factorization, dtype: torch.dtype
) -> Rule | None:
    made = [_optimizer(run, factorization) for run in runs]
    optimizers = [each for each in made if each is not None]
    if not optimizers:
        return None
    if isinstance(optimizers[0], Scheduled):
        check_schedule(optimizers[0].schedule, runs[0].lr.name)
    check_update(optimizers[0], runs[0].optimizer.name, factorization.shapes)
    numbers = [
        [*optimizer.numbers, *(value for key, value in run.optimizer.noise.items() if KINDS_OF_NOISE[key] != BATCH)]
        for run, optimizer in zip(runs, optimizers, strict=True)
    ]
    return Rule(optimizers[0], torch.tensor(numbers, dtype=dtype), _noise(runs, measurements))


def _noise(runs: Sequence[RunConfig], measurements: Sequence[Measurement]) -> Noise | None:
    if not runs[0].optimizer.noise:
        return None
    for run, measurement in zip(runs, measurements, strict=True):
        batch, count = run.optimizer.batch, measurement.count
        if batch is not None and batch > count:
            allowed = f"at most {count:,}, the number of observed entries or measurements"
            raise ConfigError("optimizer.batch", batch, allowed)
        if batch is not None and measurement.values.size > LARGEST_ORDER:
            raise ConfigError("optimizer.batch", batch, f"null for arrays of more than {LARGEST_ORDER:,} entries")
    return Noise(
        tuple(KINDS_OF_NOISE[key] for key in runs[0].optimizer.noise),
        torch.tensor([key_words(run.seed, "noise") for run in runs]),
        torch.tensor([run.optimizer.batch or 0 for run in runs]),
        torch.tensor([measurement.count for measurement in measurements]),
    )


def _optimizer(run: RunConfig, factorization: Factorization) -> Optimizer | None:
    """A run's optimizer, with its schedule; None for a flow and where `Problem.steps` knows it."""
    if isinstance(run.lr, FlowRate) or (run.optimizer.is_plain and not isinstance(run.lr, ScheduledRate)):
        return None
    optimizer = build("optimizer", run.optimizer)
    if not isinstance(optimizer, Optimizer):
        allowed = "a class that inherits from rankward.optimizers.Optimizer"
        raise ConfigError("optimizer._target_", run.optimizer._target_, allowed)
    if not isinstance(run.lr, ScheduledRate):
        return optimizer
    schedule = build("lr", run.lr, max_iterations=protocol_of(run, factorization).max_iterations)
    if not isinstance(schedule, RateSchedule):
        allowed = "a class that inherits from rankward.optimizers.RateSchedule"
        raise ConfigError("lr._target_", run.lr._target_, allowed)
    return Scheduled(optimizer, schedule)


def _checked_loss(runs: Sequence[RunConfig], measurements: Sequence[Measurement]) -> Loss:
    """The loss of the runs, which is defined for all that they observe."""
    loss, name = _loss(runs[0]), runs[0].loss.name
    try:
        check_value(loss)
    except ValueError as error:
        raise ConfigError("loss", name, str(error)) from error
    if isinstance(runs[0].lr, FlowRate) and not loss.smooth:
        raise ConfigError("loss", name, "one with a continuous derivative: lr=flow cannot follow another")
    for measurement in {id(m): m for m in measurements}.values():
        _check_domain(loss, name, measurement)
    return loss


def _check_domain(loss: Loss, name: str, measurement: Measurement) -> None:
    """Refuse the first observed value that a loss does not allow."""
    if type(loss).allows is Loss.allows:  # finite numbers, which all observations are
        return
    values = torch.from_numpy(measurement.values)
    seen = torch.from_numpy(measurement.mask) if isinstance(measurement, EntryMask) else torch.ones_like(values) > 0
    refused = torch.nonzero(seen & ~loss.allows(values))
    if len(refused):
        place = tuple(refused[0].tolist())
        where = ", ".join(map(str, place))
        if isinstance(measurement, IndexedEntries):
            where = shortened(", ".join(map(str, measurement.index[place[0]].tolist())))
        shown = f"at ({where}) is {float(values[place]):g}"
        raise ConfigError("loss", name, f"another one: its observed values are {loss.expected}, and that {shown}")


def _loss(run: RunConfig) -> Loss:
    loss = build("loss", run.loss)
    if not isinstance(loss, Loss):
        allowed = "a class that inherits from rankward.losses.Loss"
        raise ConfigError("loss._target_", run.loss._target_, allowed)
    return loss


def protocol_of(run: RunConfig, factorization: Factorization) -> Protocol:
    """The stopping criterion of a run; `max_iterations` with the iterations of a first part (`FirstPart`).

    Raises:
        ConfigError: `record.every`, or the end of a first part, that is no multiple of `check_every`; a flow of
            observations that change.
    """
    protocol = run.protocol(factorization.mean_loss, factorization.tensor_stops)
    measurement = measurement_of(run)
    if not isinstance(measurement, EntryMask) or measurement.first is None:
        return protocol
    if isinstance(run.lr, FlowRate):
        allowed = f"another one: observations={run.observations.name} change at an iteration, and a flow has a time"
        raise ConfigError("lr", run.lr.name, allowed)
    until = measurement.first.until
    if until % protocol.check_every:
        raise ConfigError("observations.schedule.until", until, f"a multiple of check_every={protocol.check_every}")
    return replace(protocol, max_iterations=protocol.max_iterations + until)


def _state_numbers(optimizer: Optimizer, factorization: Factorization) -> int:
    """Numbers that an optimizer keeps between two steps of a run."""
    return sum(map(prod, state_shapes(optimizer, factorization.shapes)))


def traits(run: RunConfig) -> tuple[tuple[str, object], ...]:
    """Properties that runs must share to train in one ensemble, by key; hashable.

    Raises:
        ConfigError, DataError: as `Ensemble.of`.
    """
    measurement, loss = measurement_of(run), _loss(run)
    _check_domain(loss, run.loss.name, measurement)
    return _traits(run, measurement, factorization_of(run, measurement), loss)


def _traits(
    run: RunConfig, measurement: Measurement, factorization: Factorization, loss: Loss
) -> tuple[tuple[str, object], ...]:
    protocol = protocol_of(run, factorization)
    optimizer = _optimizer(run, factorization)
    shared = {
        "factorization": (type(factorization).__name__, tuple(factorization.shapes), _settings(run)),
        "observations": (
            type(measurement).__name__,
            measurement.dims if isinstance(measurement, IndexedEntries) else measurement.values.shape,
        ),
        "heldout": not isinstance(measurement, Sensing) and measurement.heldout is not None,  # likewise
        "ground truth": measurement.ground_truth is not None,  # there are columns for it
        "units": not isinstance(measurement, Sensing) and measurement.units is not None,
        "changes": isinstance(measurement, EntryMask) and measurement.first is not None,
        "dtype": run.dtype,
        "engine": run.engine,
        "lr": (run.lr.dynamics, run.lr.coordinates) if isinstance(run.lr, FlowRate) else run.lr.dynamics,
        "optimizer": optimizer and (*optimizer.constants, *run.optimizer.noise),
        "loss": loss.constants,
        "stop_heldout": run.stop_heldout is not None,  # their checkpoints have more
        "check_every": protocol.check_every,
        "stop_checks": protocol.stop_checks,
        "record": str(run.record),
        "metrics": str(run.metrics),
        "checkpoint": str(run.checkpoint),
        "max_seconds": run.max_seconds,
        "trainer": str(run.trainer),
    }
    return tuple(shared.items())


def _settings(run: RunConfig) -> tuple[object, ...]:
    """Arguments of the factorization's class other than `dims`; its product may depend on them."""
    layers = run.depth.layers if takes(run.factorization, "layers") else None
    return str(run.factorization), layers


def bytes_per_run(run: RunConfig) -> int:
    """Estimated memory of one run: its arrays, working copies, and rows that are not measured yet."""
    measurement = measurement_of(run)
    factorization = factorization_of(run, measurement)
    if isinstance(measurement, IndexedEntries):
        return _listed_bytes(run, measurement, factorization)
    factors = sum(prod(shape) for shape in factorization.shapes)
    optimizer = _optimizer(run, factorization)
    state = 0 if optimizer is None else _state_numbers(optimizer, factorization)
    operator = 0 if isinstance(measurement, EntryMask) else measurement.matrices.size
    if run.optimizer.noise:  # at most the numbers of a step and the ranks of all entries
        state += factors + 3 * measurement.values.size
    products = TRAJECTORY_BYTES * trajectory_numbers(run, protocol_of(run, factorization), measurement)
    arrays = FACTOR_BYTES * factors + STATE_BYTES * state + ENTRY_BYTES * prod(measurement.dims) + 16 * operator
    return arrays + products + 800_000


def trajectory_numbers(run: RunConfig, stop: Protocol, measurement: Measurement) -> int:
    """Numbers of the products that `record.product` keeps of a run that reaches `max_iterations`; 0 if it keeps none.

    The logarithmic schedule has at most a row for each step by `iteration_ratio`, and for each fall of the loss by
    `loss_ratio`, here over sixteen orders of magnitude.
    """
    record = run.record
    if not record.product:
        return 0
    checks = stop.max_iterations // stop.check_every + 2
    if record.every is not None:
        rows = stop.max_iterations // record.every + 2
    else:
        grown = 1 / (record.iteration_ratio - 1) + log(checks) / log(record.iteration_ratio)
        rows = ceil(grown + (log(1e16) / -log(record.loss_ratio) if record.loss_ratio else 0))
    return min(checks, rows) * prod(measurement.dims)


def _check_trajectory(run: RunConfig, stop: Protocol, measurement: Measurement) -> None:
    if numbers := trajectory_numbers(run, stop, measurement):
        rows = numbers // prod(measurement.dims)
        if why := too_much(TRAJECTORY_BYTES * numbers):
            allowed = f"false, a lower max_iterations or a larger record.every: up to {rows:,} rows, and {why}"
            raise ConfigError("record.product", run.record.product, allowed)


def _listed_bytes(run: RunConfig, measurement: IndexedEntries, factorization: Factorization) -> int:
    """Estimated memory of one run whose entries are listed: nothing has the size of the array."""
    factors = sum(prod(shape) for shape in factorization.shapes)
    optimizer = _optimizer(run, factorization)
    state = 0 if optimizer is None else _state_numbers(optimizer, factorization)
    kept = 0 if measurement.heldout is None else measurement.heldout.count
    entries = LISTED_BYTES * (measurement.count + kept) + 2 * measurement.nbytes
    return FACTOR_BYTES * factors + STATE_BYTES * state + entries + 800_000


def measurement_of(run: RunConfig) -> Measurement:
    """The run's observations; runs with equal configs share one object.

    Raises:
        ConfigError, DataError: observations that cannot be made or read.
    """
    state = _state(run.observations.file), _state(run.observations.holdout)  # a file that has changed is read again
    key = repr(run.observations), state

    def make() -> Measurement:
        made: Measurement = build("observations", run.observations)
        return made if isinstance(made, IndexedEntries) else _prepared(run, made)

    made = _cache.get(key, make)
    if not isinstance(made, IndexedEntries) and run.engine != INDEXED:
        return made

    def chosen() -> Measurement:
        found = listed_or_masked(run, made, partial(factorization_of, run))
        return _prepared(run, found) if isinstance(made, IndexedEntries) else found

    depends = (
        run.engine,
        isinstance(run.lr, FlowRate),
        run.trainer.accelerator,
        repr(run.factorization),
        repr(run.depth),
    )
    return _cache.get((*key, *depends), chosen)


def _prepared(run: RunConfig, made: Measurement) -> Measurement:
    """The observations with some held out, centred and scaled, as the config says."""
    holdout, center, scale = run.observations.holdout, run.observations.center, run.observations.scale
    made = made if holdout is None else hold_out(made, holdout, run.observations.holdout_seed or 0)
    return made if center is None and scale is None else in_units(made, center, scale)


def _state(path: object) -> object:
    """Time and size of a file; None for anything else."""
    if not (isinstance(path, str) and Path(path).is_file()):
        return None
    found = Path(path).stat()
    return found.st_mtime_ns, found.st_size


class ObservationCache:
    """Observations by their config; the oldest are dropped when all take more than `CACHE_BYTES`."""

    def __init__(self) -> None:
        self.measurements: dict[object, Measurement] = {}
        self.bytes = 0

    def get(self, key: object, make: Callable[[], Measurement]) -> Measurement:
        if key not in self.measurements:
            measurement = self.measurements[key] = make()
            self.bytes += _bytes(measurement)
            while self.bytes > CACHE_BYTES and len(self.measurements) > 1:
                self.bytes -= _bytes(self.measurements.pop(next(iter(self.measurements))))
        return self.measurements[key]


_cache = ObservationCache()


def _bytes(measurement: Measurement) -> int:
    truth = measurement.ground_truth
    arrays = sum(array.nbytes for array in measurement.arrays().values()) + (0 if truth is None else truth.nbytes)
    return arrays + 2000  # bytes of the objects themselves


def factorization_of(run: RunConfig, measurement: Measurement) -> Factorization:
    """The factorization of a run with these observations.

    Raises:
        ConfigError, InputError: one that does not fit them, or the machine's memory.
    """
    layers = run.depth.layers
    if isinstance(run.lr, FlowRate) and run.lr.coordinates == "singular":
        return _singular(measurement.dims, layers)
    run.factorization.check_memory(measurement.dims, layers)
    factorization: Factorization = build("factorization", run.factorization, dims=measurement.dims, layers=layers)
    fits_memory(
        "factorization", run.factorization.name, FACTOR_BYTES * sum(prod(shape) for shape in factorization.shapes)
    )
    return factorization


def _singular(dims: Sequence[int], layers: float) -> Factorization:
    made = SingularCoordinates(dims, layers)
    if (numbers := sum(map(prod, made.shapes))) > SINGULAR_NUMBERS:
        size = f"{dims[0]}x{dims[1]}"
        allowed = f"factors: U, ln sigma and V of a {size} matrix have {numbers:,} numbers, above {SINGULAR_NUMBERS:,}"
        raise ConfigError("lr.coordinates", "singular", allowed)
    return made


def _separated(factors: Sequence[Tensor], problem: Problem) -> list[Tensor]:
    """The start of runs in singular coordinates, with vectors of equal singular values as flow parts them."""
    every = torch.arange(problem.runs)
    pull = negative_gradients(
        product_of_coordinates(factors), every, problem.operator, problem.values, problem.loss_scale, problem.loss
    )
    left, logs, right = (factor.numpy() for factor in factors)
    runs = [without_ties(left[run], logs[run], right[run], -pull[run].numpy()) for run in range(problem.runs)]
    return [torch.from_numpy(np.stack(each)) for each in zip(*runs, strict=True)]


def _check_alike(traits: Sequence[tuple[tuple[str, object], ...]]) -> None:
    for other in traits[1:]:
        for (key, value), (_, expected) in zip(other, traits[0], strict=True):
            if value != expected:
                raise ConfigError(key, value, f"what the ensemble's first run has, {expected}")
