"""The typed configuration of a run: its groups, its top-level keys, and the checks that cross them.

Nothing heavy is imported here: a wrong setting is told in a fraction of a second.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, is_dataclass, replace
from itertools import pairwise
from typing import Any

from omegaconf import MISSING

from rankward.config.build import setting
from rankward.config.checks import at_least, enough_components, fits_memory, one_of, positive
from rankward.config.errors import ConfigError
from rankward.config.groups import Checkpoint, Record, as_rate

DTYPES = ("float64", "float32")
FACTOR_BYTES = 128  # of a parameter: 8, times the copies of it that are at work
RESULTS = ("folders", "table")
ENGINES = ("auto", "reference", "fused", "cuda", "batched")


@dataclass(frozen=True)
class Protocol:
    """When a run is looked at, and when it stops: the loss below `stop_loss` at `stop_checks` looks in a row."""

    check_every: int
    stop_checks: int
    stop_loss: float
    max_iterations: int


MATRICES = Protocol(check_every=50, stop_checks=1, stop_loss=1e-4, max_iterations=5_000_000)
FLOW_STEPS = 50_000_000
TENSORS = Protocol(check_every=100, stop_checks=3, stop_loss=1e-6, max_iterations=1_000_000)


def check_multiple(every: int, stride: int) -> None:
    """Refuse a distance between rows at which the loss is not looked at."""
    if every % stride:
        raise ConfigError("record.every", every, f"a multiple of check_every={stride}, or null")


@dataclass
class RunConfig:
    """One run: every group and the top-level keys, checked against each other.

    The groups are `Any` to OmegaConf, since each choice brings a schema of its own.
    """

    factorization: Any = MISSING
    depth: Any = MISSING
    lr: Any = MISSING
    init: Any = MISSING
    observations: Any = MISSING
    metrics: Any = MISSING
    logger: dict[str, Any] = field(default_factory=dict)
    trainer: Any = MISSING
    seed: int = 0
    dtype: str = "float64"
    engine: str = "auto"
    max_iterations: int | None = None
    stop_loss: float | None = None
    stop_checks: int | None = None
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
        for key in ("max_iterations", "stop_checks", "check_every"):
            if getattr(self, key) is not None:
                at_least(key, getattr(self, key), 1)
        if self.stop_loss is not None and not (math.isfinite(self.stop_loss) and self.stop_loss >= 0):
            raise ConfigError("stop_loss", self.stop_loss, "a finite number of at least 0")
        self._check_record()
        if self.checkpoint.seconds is not None:
            positive("checkpoint.seconds", self.checkpoint.seconds)
        for name, node in self.logger.items():
            if not (is_dataclass(node) or isinstance(node, Mapping)):
                raise ConfigError(f"logger.{name}", node, "a logger's settings (logger=none is for no logger)")
        self.lr = as_rate(self.lr)
        self._check_groups()

    @property
    def dynamics(self) -> str:
        """`flow`, `adaptive` or `descent`, by the keys that its learning rate has."""
        if setting(self.lr, "rtol") is not None:
            return "flow"
        return "descent" if setting(self.lr, "beta") is None else "adaptive"

    def protocol(self, mean_loss: bool) -> Protocol:
        """The paper's protocol for matrices, or for tensors (whose loss is a mean), where the config is silent.

        Raises:
            ConfigError: `record.every` that is no multiple of the looks' distance.
        """
        own = {key: getattr(self, key) for key in Protocol.__dataclass_fields__ if getattr(self, key) is not None}
        whole = TENSORS if mean_loss else MATRICES
        if self.dynamics == "flow":  # looks at every step, and its loss never rises again
            whole = replace(whole, check_every=1, stop_checks=1, max_iterations=FLOW_STEPS)
        whole = replace(whole, **own)
        if self.record.every is not None:
            check_multiple(self.record.every, whole.check_every)
        return whole

    def check_memory(self, dims: Sequence[int]) -> None:
        """Refuse factors that this machine cannot hold, before any is drawn.

        Args:
            dims: of the product; those of a file are known when it has been read.

        Raises:
            ConfigError: the key that makes them large, the GiB that they need, and those there are.
        """
        name = setting(self.factorization, "name")
        if name == "tensor":
            components = setting(self.factorization, "components") or enough_components(dims)
            fits_memory("factorization.components", components, FACTOR_BYTES * components * sum(dims))
        elif name in ("matrix", "nonlinear") and len(dims) == 2:
            layers, hidden = setting(self.depth, "layers", 1), setting(self.factorization, "hidden")
            inner = hidden if isinstance(hidden, list) else [hidden or min(dims)] * (layers - 1)
            factors = sum(below * above for below, above in pairwise([dims[1], *inner, dims[0]]))
            key, value = ("depth.layers", layers) if hidden is None else ("factorization.hidden", hidden)
            fits_memory(key, value, FACTOR_BYTES * factors)

    def _check_record(self) -> None:
        if self.record.every is not None:
            at_least("record.every", self.record.every, 1)
            if self.check_every is not None:
                check_multiple(self.record.every, self.check_every)
        if not (math.isfinite(self.record.iteration_ratio) and self.record.iteration_ratio > 1):
            raise ConfigError("record.iteration_ratio", self.record.iteration_ratio, "a finite number above 1")
        if not 0 <= self.record.loss_ratio < 1:
            raise ConfigError("record.loss_ratio", self.record.loss_ratio, "a number from 0 (off) to below 1")

    def _check_groups(self) -> None:
        layers = setting(self.depth, "layers", 1)
        hidden = setting(self.factorization, "hidden")
        if isinstance(hidden, list) and len(hidden) != layers - 1:
            raise ConfigError(
                "factorization.hidden", hidden, f"{layers - 1} sizes, one less than depth.layers={layers}"
            )
        dims = setting(self.observations, "dims")
        dims = dims if isinstance(dims, list) else None  # a choice without this key may have been given one
        sign = setting(self.init, "determinant", "any")
        if (
            setting(self.factorization, "name") == "matrix"
            and sign != "any"
            and dims is not None
            and len(dims) == 2
            and dims[0] != dims[1]
        ):
            raise ConfigError("init.determinant", sign, f"any: a {dims[0]}x{dims[1]} product has no determinant")
        if dims is not None:
            self.check_memory(dims)
        flow = self.dynamics == "flow"
        if flow and self.dtype != "float64":
            raise ConfigError("dtype", self.dtype, "float64: lr=flow is what rounding is compared with")
        if flow and (self.stop_checks or 1) > 1:
            raise ConfigError("stop_checks", self.stop_checks, "1: the loss of lr=flow never rises")
        if setting(self.init, "name") == "identity" and sign == "negative":
            raise ConfigError("init.determinant", sign, "any or positive: the identity's determinant is positive")
