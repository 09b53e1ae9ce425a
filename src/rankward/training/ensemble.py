"""Runs side by side: what differs between them has a leading runs axis, what they share is built once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from rankward.config import ConfigError, RunConfig, build, setting
from rankward.dynamics import Engine, Problem, Schedule, choose_engine
from rankward.factorizations import Factorization
from rankward.observations import EntryMask, Measurement

DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Ensemble:
    """Runs that train together.

    Args:
        runs: their configs.
        factorization: of which the factors are.
        factors: initial factors, [runs, *shape] each, in the runs' dtype.
        problem: observations, learning rates and stops.
        measurements: each run's own observations, float64.
        schedule: which iterations are looked at and recorded.
    """

    runs: Sequence[RunConfig]
    factorization: Factorization
    factors: list[Tensor]
    problem: Problem
    measurements: Sequence[Measurement]
    schedule: Schedule

    @classmethod
    def of(cls, runs: Sequence[RunConfig]) -> Ensemble:
        """Draw every run's observations and initial factors.

        Raises:
            ConfigError: runs that cannot share an ensemble (shapes, dtype, engine, schedule), or one that cannot start.
            DataError: observations that cannot be used.
        """
        if setting(runs[0].trainer, "accelerator") == "gpu" and not torch.cuda.is_available():
            raise ConfigError("trainer", "gpu", "cpu or auto: no CUDA device is to be seen here")
        measurements = [build("observations", run.observations) for run in runs]
        factorizations = [
            build("factorization", run.factorization, dims=m.dims, layers=setting(run.depth, "layers", 1))
            for run, m in zip(runs, measurements, strict=True)
        ]
        _check_alike(runs, factorizations, measurements)
        dtype = DTYPES[runs[0].dtype]
        starts = [
            factorization.start(build("init", run.init), run.seed)
            for run, factorization in zip(runs, factorizations, strict=True)
        ]
        operators = [m.mask if isinstance(m, EntryMask) else m.matrices for m in measurements]
        problem = Problem(
            operator=torch.from_numpy(np.stack(operators)).to(dtype),
            values=torch.from_numpy(np.stack([m.values for m in measurements])).to(dtype),
            eta=torch.tensor([setting(run.lr, "eta") for run in runs], dtype=dtype),
            stop_loss=torch.tensor([run.stop_loss for run in runs], dtype=torch.float64),
            max_iterations=torch.tensor([run.max_iterations for run in runs]),
        )
        record = runs[0].record
        schedule = Schedule(runs[0].check_every, record.every or 0, record.iteration_ratio, record.loss_ratio)
        factors = [torch.stack(layer).to(dtype).contiguous() for layer in zip(*starts, strict=True)]
        return cls(runs, factorizations[0], factors, problem, measurements, schedule)

    def engine(self) -> Engine:
        """The engine that the runs ask for, or that serves them fastest."""
        run = self.runs[0]
        return choose_engine(
            run.engine,
            self.factorization,
            self.schedule,
            mask=self.problem.is_mask,
            accelerator=setting(run.trainer, "accelerator", "cpu"),
            threads=setting(run.trainer, "threads"),
        )

    def ground_truth(self) -> Tensor | None:
        """[runs, *dims] float64, or None where any run has none."""
        truths = [m.ground_truth for m in self.measurements if m.ground_truth is not None]
        return torch.from_numpy(np.stack(truths)) if len(truths) == len(self.measurements) else None


def _check_alike(
    runs: Sequence[RunConfig], factorizations: Sequence[Factorization], measurements: Sequence[Measurement]
) -> None:
    def traits(index: int) -> dict[str, object]:
        run, measurement = runs[index], measurements[index]
        return {
            "factorization": (type(factorizations[index]), factorizations[index].shapes),
            "observations": (type(measurement), measurement.arrays()["observations.values"].shape),
            "dtype": run.dtype,
            "engine": run.engine,
            "check_every": run.check_every,
            "record": run.record,
            "metrics": run.metrics,
        }

    first = traits(0)
    for index in range(1, len(runs)):
        for key, value in traits(index).items():
            if value != first[key]:
                raise ConfigError(key, value, f"what the ensemble's first run has, {first[key]}")
