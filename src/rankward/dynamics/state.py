"""The state of an ensemble between two chunks, and the rows that a chunk leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from enum import IntEnum
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Status(IntEnum):
    """Where a run stands; the names in lower case are what `summary.json` says."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERATIONS = 2
    DIVERGED = 3
    INTERRUPTED = 4


@dataclass(frozen=True)
class Schedule:
    """Which iterations are looked at and recorded; one for the whole ensemble.

    Args:
        stride: iterations between two looks at the stop.
        every: iterations between rows, a multiple of `stride`; 0 for the logarithmic schedule: a row each time the
            iteration has grown by `iteration_ratio`, or the loss has fallen to `loss_ratio` of the last row's lowest.
    """

    stride: int = 50
    every: int = 0
    iteration_ratio: float = 1.02
    loss_ratio: float = 0.95

    def after(self, iteration: int) -> int:
        """The iteration of the next row that is due, after one at `iteration`.

        Example:
            >>> Schedule().after(0), Schedule().after(10_000), Schedule(every=100).after(300)
            (50, 10200, 400)
        """
        if self.every:
            return iteration + self.every
        grown = int(-(-iteration * self.iteration_ratio // self.stride)) * self.stride
        return max(iteration + self.stride, grown)


@dataclass
class Progress:
    """How far each run of an ensemble is: all that a checkpoint holds besides the factors. Every field is [runs]."""

    iteration: Int[Tensor, " runs"]
    status: Int[Tensor, " runs"]
    next_record: Int[Tensor, " runs"]
    lowest_loss: Float[Tensor, " runs"]

    @classmethod
    def start(cls, runs: int) -> Progress:
        return cls(
            torch.zeros(runs, dtype=torch.int64),
            torch.zeros(runs, dtype=torch.int8),
            torch.zeros(runs, dtype=torch.int64),
            torch.full((runs,), torch.inf, dtype=torch.float64),
        )

    @property
    def running(self) -> Int[Tensor, " running"]:
        """Indices of the runs that still go on."""
        return torch.nonzero(self.status == Status.RUNNING).flatten()

    def state_dict(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class Problem:
    """What stays fixed of an ensemble: observations, learning rates and stops, runs axis first.

    Args:
        operator: [runs, *dims] 0/1 in the runs' dtype where entries are observed, or [runs, n, *dims] sensing matrices.
        values: [runs, *dims] observed values (zero elsewhere), or [runs, n].
        eta: [runs] learning rates.
        stop_loss, max_iterations: [runs].
    """

    operator: Tensor
    values: Tensor
    eta: Float[Tensor, " runs"]
    stop_loss: Float[Tensor, " runs"]
    max_iterations: Int[Tensor, " runs"]

    @property
    def is_mask(self) -> bool:
        return self.operator.shape == self.values.shape

    @property
    def runs(self) -> int:
        return len(self.eta)


@dataclass(frozen=True)
class Rows:
    """Recorded iterations of one chunk, flat over runs, each run's in order.

    Args:
        run: [rows] index of the run in the ensemble.
        iteration: [rows].
        loss: [rows] float64, Equation 1 at that iteration, before the next step.
        factors: one [rows, *shape] a factor, in the runs' dtype.
    """

    run: Int[Tensor, " rows"]
    iteration: Int[Tensor, " rows"]
    loss: Float[Tensor, " rows"]
    factors: list[Tensor]


def flatten(factors: Sequence[Tensor]) -> Float[Tensor, "runs parameters"]:
    """Factors side by side, one row a run.

    Example:
        >>> flatten([torch.zeros(7, 2, 3), torch.zeros(7, 4, 2)]).shape
        torch.Size([7, 14])
    """
    return torch.cat([factor.reshape(len(factor), -1) for factor in factors], dim=1).contiguous()


def unflatten(flat: Float[Tensor, "*rows parameters"], shapes: Sequence[tuple[int, ...]]) -> list[Tensor]:
    """The inverse of `flatten`, for any leading axes."""
    parts = flat.split([prod(shape) for shape in shapes], dim=-1)
    return [part.reshape(*flat.shape[:-1], *shape) for part, shape in zip(parts, shapes, strict=True)]
