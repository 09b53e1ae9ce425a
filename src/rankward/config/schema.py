"""The typed configuration: one dataclass a config group, checked when it is built.

Nothing heavy is imported here: a wrong setting is told in a fraction of a second.
`__post_init__` holds the checks of one group, `RunConfig` those that cross groups.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from rankward.config.errors import ConfigError

DTYPES = ("float64", "float32")
ENGINES = ("auto", "reference", "fused")
DETERMINANTS = ("any", "positive", "negative")


def _positive(key: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(key, value, "a positive finite number")


def _finite(key: str, value: float) -> None:
    if not math.isfinite(value):
        raise ConfigError(key, value, "a finite number")


def _at_least(key: str, value: int, least: int) -> None:
    if value < least:
        raise ConfigError(key, value, f"an integer of at least {least}")


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    from rankward.config.errors import nearest

    if value not in allowed:
        raise ConfigError(key, value, "one of " + ", ".join(allowed), nearest(value, allowed))


def _dims(key: str, dims: list[int], least: int = 1) -> None:
    if len(dims) != 2 or min(dims) < least:
        raise ConfigError(key, list(dims), f"two integers of at least {least}")


# ---------------------------------------------------------------- factorization and depth


@dataclass
class Factorization:
    """What is trained."""

    name: str = MISSING
    _target_: str = MISSING


@dataclass
class MatrixFactorization(Factorization):
    """Equation 3: W = W_L ... W_1. `hidden` is one size for all hidden layers, a list of L-1, or null: min(d, d')."""

    hidden: Any = None

    def __post_init__(self) -> None:
        sizes = self.hidden if isinstance(self.hidden, list) else [] if self.hidden is None else [self.hidden]
        if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
            raise ConfigError("factorization.hidden", self.hidden, "null, an integer of at least 1, or a list of them")


@dataclass
class Depth:
    """Number of factors L of Equation 3."""

    name: Any = MISSING
    layers: int = MISSING

    def __post_init__(self) -> None:
        _at_least("depth.layers", self.layers, 1)


# ---------------------------------------------------------------- learning rate


@dataclass
class ConstantRate:
    """Gradient descent with a fixed step (Equation 4, discretised)."""

    name: str = MISSING
    eta: float = MISSING

    def __post_init__(self) -> None:
        _positive("lr.eta", self.eta)


# ---------------------------------------------------------------- initialisation


@dataclass
class Init:
    """Where the factors start. `scale` and `determinant` are explained beside each choice in `conf/init/`."""

    name: str = MISSING
    _target_: str = MISSING
    scale: float = MISSING
    determinant: str = "any"

    def __post_init__(self) -> None:
        _positive("init.scale", self.scale)
        _one_of("init.determinant", self.determinant, DETERMINANTS)


# ---------------------------------------------------------------- observations


@dataclass
class Observations:
    """Which entries are seen, and their values."""

    name: str = MISSING
    _target_: str = MISSING


@dataclass
class TwoByTwo(Observations):
    """Equation 6 and its relatives: three observed entries of a 2x2 matrix."""

    b_12: float = 1.0
    b_21: float = 1.0
    b_22: float = 0.0
    unobserved: list[int] = field(default_factory=lambda: [0, 0])

    def __post_init__(self) -> None:
        for key in ("b_12", "b_21", "b_22"):
            _finite(f"observations.{key}", getattr(self, key))
        for key in ("b_12", "b_21"):
            if getattr(self, key) == 0:
                raise ConfigError(f"observations.{key}", getattr(self, key), "a number other than 0 (Theorem 2)")
        if len(self.unobserved) != 2 or not set(self.unobserved) <= {0, 1}:
            raise ConfigError("observations.unobserved", list(self.unobserved), "a row and a column, each 0 or 1")


@dataclass
class Dimensions(Observations):
    """Appendix E: ones at (1,2), (2,1) and (i,i) for i >= 3, zeros elsewhere, all observed but (1,1)."""

    dims: list[int] = MISSING

    def __post_init__(self) -> None:
        _dims("observations.dims", self.dims, least=2)


@dataclass
class RandomMatrix(Observations):
    """`count` entries, drawn without replacement, of a random ground truth of the given rank."""

    dims: list[int] = MISSING
    rank: int = MISSING
    count: int = MISSING
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        _dims("observations.dims", self.dims)
        least = min(self.dims)
        if not 1 <= self.rank <= least:
            raise ConfigError("observations.rank", self.rank, f"an integer from 1 to {least}, the smaller dimension")
        self._check_count()
        if not (math.isfinite(self.noise) and self.noise >= 0):
            raise ConfigError("observations.noise", self.noise, "a finite number of at least 0")
        _at_least("observations.seed", self.seed, 0)

    def _check_count(self) -> None:
        entries = math.prod(self.dims)
        if not 1 <= self.count <= entries:
            raise ConfigError(
                "observations.count", self.count, f"an integer from 1 to {entries}, the number of entries"
            )


@dataclass
class Sensing(RandomMatrix):
    """`count` Gaussian measurements <A_i, W> of a random ground truth of the given rank."""

    def _check_count(self) -> None:
        _at_least("observations.count", self.count, 1)


@dataclass
class File(Observations):
    """Observations from a file; `count` keeps the first n of its order, null keeps all."""

    path: str = MISSING
    count: int | None = None

    def __post_init__(self) -> None:
        if self.count is not None:
            _at_least("observations.count", self.count, 1)


# ---------------------------------------------------------------- metrics, loggers, trainer


@dataclass
class Metrics:
    """Columns of the trace: each value under `columns` is a torchmetrics class and its arguments."""

    name: str = MISSING
    columns: dict[str, Any] = field(default_factory=dict)


@dataclass
class WandbLogger:
    """Weights & Biases; offline until `logger.wandb.offline=false`."""

    name: str = MISSING
    project: str = "rankward"
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    offline: bool = True


@dataclass
class FileLogger:
    """A logger that writes files into the run's folder (TensorBoard, CSV)."""

    name: str = MISSING


@dataclass
class Trainer:
    """Which device the ensemble lives on, through Lightning."""

    name: str = MISSING
    accelerator: str = MISSING
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.threads is not None:
            _at_least("trainer.threads", self.threads, 1)


@dataclass
class Record:
    """Which iterations leave a row; `every` null means the logarithmic schedule of `conf/config.yaml`."""

    every: int | None = None
    iteration_ratio: float = 1.02
    loss_ratio: float = 0.95


@dataclass
class Checkpoint:
    """How often a run's state is saved, in seconds; null saves on interruption only."""

    seconds: float | None = 60.0


# ---------------------------------------------------------------- the whole


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
    max_iterations: int = 5_000_000
    stop_loss: float = 1e-4
    check_every: int = 50
    record: Record = field(default_factory=Record)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    ckpt_path: str | None = None
    figures: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        _at_least("seed", self.seed, 0)
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("engine", self.engine, ENGINES)
        _at_least("max_iterations", self.max_iterations, 1)
        _at_least("check_every", self.check_every, 1)
        if not (math.isfinite(self.stop_loss) and self.stop_loss >= 0):
            raise ConfigError("stop_loss", self.stop_loss, "a finite number of at least 0")
        self._check_record()
        if self.checkpoint.seconds is not None:
            _positive("checkpoint.seconds", self.checkpoint.seconds)
        self._check_groups()

    def _check_record(self) -> None:
        every = self.record.every
        if every is not None and (every < 1 or every % self.check_every):
            raise ConfigError("record.every", every, f"a multiple of check_every={self.check_every}, or null")
        if not (math.isfinite(self.record.iteration_ratio) and self.record.iteration_ratio > 1):
            raise ConfigError("record.iteration_ratio", self.record.iteration_ratio, "a finite number above 1")
        if not 0 <= self.record.loss_ratio < 1:
            raise ConfigError("record.loss_ratio", self.record.loss_ratio, "a number from 0 (off) to below 1")

    def _check_groups(self) -> None:
        from rankward.config.build import setting

        layers = setting(self.depth, "layers", 1)
        hidden = setting(self.factorization, "hidden")
        if isinstance(hidden, list) and len(hidden) != layers - 1:
            raise ConfigError(
                "factorization.hidden", hidden, f"{layers - 1} sizes, one less than depth.layers={layers}"
            )
        dims = setting(self.observations, "dims")
        sign = setting(self.init, "determinant", "any")
        if (
            setting(self.factorization, "name") == "matrix"
            and sign != "any"
            and dims is not None
            and dims[0] != dims[1]
        ):
            raise ConfigError("init.determinant", sign, f"any: a {dims[0]}x{dims[1]} product has no determinant")
        if setting(self.init, "name") == "identity" and sign == "negative":
            raise ConfigError("init.determinant", sign, "any or positive: the identity's determinant is positive")
