"""The typed configuration of a run: its groups, its top-level keys, and the checks across them.

This imports nothing heavy, so that a wrong setting is reported in a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any

from omegaconf import MISSING

from rankward.config import groups
from rankward.config.checks import at_least, not_negative, one_of, positive
from rankward.config.errors import ConfigError
from rankward.config.groups import Checkpoint, Record, StopPlateau

DTYPES = ("float64", "float32")
RESULTS = ("folders", "table")
ENGINES = ("auto", "reference", "fused", "indexed", "cuda", "batched")


@dataclass(frozen=True)
class Protocol:
    """Stopping criterion: a loss below `stop_loss` at `stop_checks` checks in a row, `check_every` iterations apart.

    By default `stop_loss` is that of the run's reduction, a half sum or a mean; the others are those of its
    factorization.
    """

    check_every: int
    stop_checks: int
    stop_loss: float
    max_iterations: int


MATRICES = Protocol(check_every=50, stop_checks=1, stop_loss=1e-4, max_iterations=5_000_000)
FLOW_STEPS = 50_000_000
NOISE_ITERATIONS = 2**32
TENSORS = Protocol(check_every=100, stop_checks=3, stop_loss=1e-6, max_iterations=1_000_000)


def check_multiple(every: int, stride: int) -> None:
    """Refuse a distance between rows that is no multiple of the distance between checks of the loss."""
    if every % stride:
        raise ConfigError("record.every", every, f"a multiple of check_every={stride}, or null")


if TYPE_CHECKING:
    AnyFactorization = groups.Factorization
    AnyDepth = groups.Depth
    AnyRate = groups.ConstantRate | groups.AdaptiveRate | groups.FlowRate | groups.ScheduledRate
    AnyOptimizer = groups.Optimizer | groups.OwnOptimizer
    AnyLoss = groups.Loss | groups.OwnLoss
    AnyInit = groups.Init | groups.OwnInit
    AnyObservations = groups.Observations
    AnyMetrics = groups.Metrics
    AnyTrainer = groups.Trainer
    AnyLogger = groups.WandbLogger | groups.FileLogger | Mapping[str, Any]
else:  # OmegaConf does not know unions of dataclasses, and it would refuse the keys of a user's own YAML
    AnyFactorization = AnyDepth = AnyRate = AnyInit = AnyObservations = AnyMetrics = AnyTrainer = AnyLogger = Any
    AnyOptimizer = AnyLoss = Any


@dataclass
class RunConfig:
    """One run: every group and the top-level keys, checked against each other.

    A group's choice is a mapping where it comes from a user's YAML that names no schema; it becomes a dataclass here.
    """

    factorization: AnyFactorization = MISSING
    depth: AnyDepth = MISSING
    lr: AnyRate = MISSING
    optimizer: AnyOptimizer = MISSING
    loss: AnyLoss = MISSING
    init: AnyInit = MISSING
    observations: AnyObservations = MISSING
    metrics: AnyMetrics = MISSING
    logger: dict[str, AnyLogger] = field(default_factory=dict)
    trainer: AnyTrainer = MISSING
    seed: int = 0
    dtype: str = "float64"
    engine: str = "auto"
    max_iterations: int | None = None
    max_seconds: float | None = None
    stop_loss: float | None = None
    stop_checks: int | None = None
    stop_heldout: int | None = None
    stop_plateau: StopPlateau = field(default_factory=StopPlateau)
    check_every: int | None = None
    record: Record = field(default_factory=Record)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    ckpt_path: str | None = None
    figures: list[str] = field(default_factory=list)
    results: str | None = None

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        one_of("dtype", self.dtype, DTYPES)
        one_of("engine", self.engine, ENGINES)
        if self.results is not None:
            one_of("results", self.results, RESULTS)
        for key in ("max_iterations", "stop_checks", "stop_heldout", "check_every"):
            if getattr(self, key) is not None:
                at_least(key, getattr(self, key), 1)
        if self.stop_loss is not None:
            not_negative("stop_loss", self.stop_loss)
        if self.max_seconds is not None:
            positive("max_seconds", self.max_seconds)
        self._check_record()
        if self.checkpoint.seconds is not None:
            positive("checkpoint.seconds", self.checkpoint.seconds)
        for name, node in self.logger.items():
            if not (is_dataclass(node) or isinstance(node, Mapping)):
                raise ConfigError(f"logger.{name}", node, "a logger's settings (logger=none is for no logger)")
        self._type_groups()
        self._check_groups()

    def _type_groups(self) -> None:
        self.factorization = groups.own(groups.OwnFactorization, "factorization", self.factorization)
        self.depth = groups.typed(groups.Depth, "depth", self.depth)
        self.lr = groups.as_rate(self.lr)
        self.optimizer = groups.own(groups.OwnOptimizer, "optimizer", self.optimizer)
        self.loss = groups.own(groups.OwnLoss, "loss", self.loss)
        self.init = groups.own(groups.OwnInit, "init", self.init)
        self.observations = groups.own(groups.OwnObservations, "observations", self.observations)
        self.metrics = groups.typed(groups.Metrics, "metrics", self.metrics)
        self.trainer = groups.typed(groups.Trainer, "trainer", self.trainer)
        if "wandb" in self.logger:
            self.logger["wandb"] = groups.typed(groups.WandbLogger, "logger.wandb", self.logger["wandb"])

    def reduction(self, mean_loss: bool) -> str:
        """`half_sum` or `mean`: how the run's loss follows from its values at the observed entries.

        Args:
            mean_loss: `Factorization.mean_loss`, which decides where the config is silent.
        """
        return str(self.loss.reduction or ("mean" if mean_loss else "half_sum"))

    def protocol(self, mean_loss: bool, tensor_stops: bool) -> Protocol:
        """The stopping criterion of the config, with the paper's values for keys that are null.

        Args:
            mean_loss, tensor_stops: properties of the factorization.

        Raises:
            ConfigError: `record.every` that is no multiple of `check_every`.
        """
        given = {key: getattr(self, key) for key in Protocol.__dataclass_fields__ if getattr(self, key) is not None}
        protocol = TENSORS if tensor_stops else MATRICES
        of_reduction = TENSORS if self.reduction(mean_loss) == "mean" else MATRICES
        protocol = replace(protocol, stop_loss=of_reduction.stop_loss)
        if self.lr.dynamics == "flow":  # it checks every step, and its loss never rises
            protocol = replace(protocol, check_every=1, stop_checks=1, max_iterations=FLOW_STEPS)
        protocol = replace(protocol, **given)
        if self.record.every is not None:
            check_multiple(self.record.every, protocol.check_every)
        return protocol

    def _check_record(self) -> None:
        if self.record.every is not None:
            at_least("record.every", self.record.every, 1)
            if self.check_every is not None:
                check_multiple(self.record.every, self.check_every)
        if not (math.isfinite(self.record.iteration_ratio) and self.record.iteration_ratio > 1):
            raise ConfigError("record.iteration_ratio", self.record.iteration_ratio, "a finite number above 1")
        if not 0 <= self.record.loss_ratio < 1:
            raise ConfigError("record.loss_ratio", self.record.loss_ratio, "a number from 0 (off) to below 1")

    def _check_singular(self) -> None:
        """Refuse what a flow in singular coordinates does not have."""
        key = "lr.coordinates"
        if self.factorization._target_ != groups.MATRIX:
            raise ConfigError(
                key, "singular", f"factors: factorization={self.factorization.name} has no balanced layers"
            )
        hidden = getattr(self.factorization, "hidden", None)
        if hidden is not None:
            raise ConfigError("factorization.hidden", hidden, "null: lr.coordinates=singular has min(d, d') of them")
        if self.loss._target_ != groups.SQUARED:
            raise ConfigError(key, "singular", f"factors, or loss=squared: loss={self.loss.name} has no such kernel")
        if self.engine not in ("auto", "fused"):
            raise ConfigError("engine", self.engine, "auto or fused: lr.coordinates=singular has no other engine")

    def _check_groups(self) -> None:
        singular = isinstance(self.lr, groups.FlowRate) and self.lr.coordinates == "singular"
        if singular:
            self._check_singular()
        elif not isinstance(self.depth.layers, int):
            allowed = "an integer: only lr=flow with lr.coordinates=singular has depths in between"
            raise ConfigError("depth.layers", self.depth.layers, allowed)
        self.factorization.check_layers(self.depth.layers)
        dims, sign = self.observations.known_dims, self.init.determinant
        if dims is not None:
            is_rectangle = len(dims) == 2 and dims[0] != dims[1]
            if self.factorization.name == "matrix" and sign != "any" and is_rectangle:
                raise ConfigError("init.determinant", sign, f"any: a {dims[0]}x{dims[1]} product has no determinant")
            self.factorization.check_memory(dims, math.ceil(self.depth.layers))
        flow = self.lr.dynamics == "flow"
        if flow and self.dtype != "float64":
            raise ConfigError("dtype", self.dtype, "float64: lr=flow is the reference for rounding")
        if flow and (self.stop_checks or 1) > 1:
            raise ConfigError("stop_checks", self.stop_checks, "1: the loss of lr=flow never rises")
        decays = flow and isinstance(self.optimizer, groups.Optimizer) and self.optimizer.is_decaying_descent
        endless = isinstance(self.lr, groups.FlowRate) and self.lr.max_time is None and self.max_iterations is None
        if decays and endless:
            why = "a flow with optimizer.weight_decay may end at a fixed point above stop_loss"
            raise ConfigError("lr.max_time", None, f"a positive finite number, or max_iterations: {why}")
        if isinstance(self.lr, groups.ScheduledRate):
            self.lr.check_steps(self.max_iterations, self.dtype)
        elif self.lr.dynamics != "descent" and not (self.optimizer.is_plain or decays):
            why = f"lr={self.lr.name} makes its own steps"
            for key, value in self.optimizer.noise.items():
                raise ConfigError(f"optimizer.{key}", value, f"{'null' if key == 'batch' else 0}: {why}")
            if isinstance(self.optimizer, groups.Optimizer) and self.optimizer.name == "descent":
                raise ConfigError("optimizer.weight_decay", self.optimizer.weight_decay, f"0: {why}")
            raise ConfigError("optimizer", self.optimizer.name, f"descent: {why}")
        if self.optimizer.noise and (self.max_iterations or 0) > NOISE_ITERATIONS:
            allowed = f"at most {NOISE_ITERATIONS:,} with noise or minibatches: their numbers would begin again"
            raise ConfigError("max_iterations", self.max_iterations, allowed)
        if self.init.name == "identity" and sign == "negative":
            raise ConfigError("init.determinant", sign, "any or positive: the identity's determinant is positive")
