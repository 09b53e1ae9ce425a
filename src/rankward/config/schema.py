"""The typed configuration of a run: its groups, its top-level keys, and the checks that cross them.

Nothing heavy is imported here: a wrong setting is told in a fraction of a second.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from rankward.config.build import setting
from rankward.config.checks import at_least, one_of, positive
from rankward.config.errors import ConfigError
from rankward.config.groups import Checkpoint, Record

DTYPES = ("float64", "float32")
ENGINES = ("auto", "reference", "fused")


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
        at_least("seed", self.seed, 0)
        one_of("dtype", self.dtype, DTYPES)
        one_of("engine", self.engine, ENGINES)
        at_least("max_iterations", self.max_iterations, 1)
        at_least("check_every", self.check_every, 1)
        if not (math.isfinite(self.stop_loss) and self.stop_loss >= 0):
            raise ConfigError("stop_loss", self.stop_loss, "a finite number of at least 0")
        self._check_record()
        if self.checkpoint.seconds is not None:
            positive("checkpoint.seconds", self.checkpoint.seconds)
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
