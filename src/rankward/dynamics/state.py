"""The state of an ensemble between two chunks, and the rows that a chunk leaves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import IntEnum
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from rankward.losses import SQUARED, Loss
from rankward.optimizers import AdaptiveDescent, Descent, Optimizer

ROWS_BYTES = 2**30  # of recorded factors a chunk on a card; a run whose share is full goes on in the next chunk
# Fields of `Progress` that a check changes, the integers and the losses.
COUNTS, LOSSES = ("iteration", "status", "below", "next_record", "marked"), ("lowest_loss", "marked_loss")


class Status(IntEnum):
    """Status of a run; `summary.json` has the name in lower case."""

    RUNNING = 0
    CONVERGED = 1
    MAX_ITERATIONS = 2
    DIVERGED = 3
    INTERRUPTED = 4
    MAX_TIME = 5
    MAX_SECONDS = 6
    PLATEAU = 7
    STOP_HELDOUT = 8


@dataclass(frozen=True)
class Schedule:
    """Which iterations are checked and recorded; one schedule for an ensemble. The rule itself is in `rule.py`.

    Args:
        stride: iterations between two checks of the stopping criterion.
        every: iterations between rows, a multiple of `stride`; 0 for the logarithmic schedule: a row each time the
            iteration has grown by `iteration_ratio`, or the loss has fallen to `loss_ratio` of the last row's lowest.
        stop_checks: consecutive checks at which the loss must be below the stopping loss.
    """

    stride: int = 50
    every: int = 0
    iteration_ratio: float = 1.02
    loss_ratio: float = 0.95
    stop_checks: int = 1

    def rows(self, length: int, room: int) -> int:
        """The capacity in rows of a run for a chunk of `length` iterations, at most `room`.

        Example:
            >>> Schedule().rows(500, 2**20), Schedule().rows(10**6, 2**20), Schedule().rows(500, 0)
            (12, 1024, 1)
        """
        return max(1, min(length // self.stride + 2, 1024, room))


@dataclass
class Progress:
    """The progress of each run: all that a checkpoint holds besides the factors. Every field is [runs].

    `below` counts consecutive checks with a loss below the stopping loss. A run that stops at a plateau has `marked`,
    the last iteration whose loss was marked (-1: none yet), and `marked_loss`. An adaptive rate has `mean_square`, the
    running mean of the squared gradient norm, and `weight`, the sum of the weights of that mean (bias correction). A
    flow has `time`, the time after the accepted steps; `step`, the next step size; `error`, the scaled error of the
    last step (PI controller); and `closing`: 1 once a step has overshot the stopping loss. An optimizer has `state`,
    [runs, numbers], as `stepping.state_shapes` orders it; None without one.
    """

    iteration: Int[Tensor, " runs"]
    status: Int[Tensor, " runs"]
    next_record: Int[Tensor, " runs"]
    lowest_loss: Float[Tensor, " runs"]
    below: Int[Tensor, " runs"]
    marked: Int[Tensor, " runs"]
    marked_loss: Float[Tensor, " runs"]
    mean_square: Float[Tensor, " runs"]
    weight: Float[Tensor, " runs"]
    time: Float[Tensor, " runs"]
    step: Float[Tensor, " runs"]
    error: Float[Tensor, " runs"]
    closing: Float[Tensor, " runs"]
    state: Float[Tensor, "runs numbers"] | None = None

    @classmethod
    def start(cls, runs: int, numbers: int | None = None) -> Progress:
        """The progress of new runs; `numbers` is the size of an optimizer's state, None without an optimizer."""
        return cls(
            torch.zeros(runs, dtype=torch.int64),
            torch.zeros(runs, dtype=torch.int8),
            torch.zeros(runs, dtype=torch.int64),
            torch.full((runs,), torch.inf, dtype=torch.float64),
            torch.zeros(runs, dtype=torch.int64),
            torch.full((runs,), -1),
            torch.zeros(runs, dtype=torch.float64),
            torch.zeros(runs, dtype=torch.float64),
            torch.zeros(runs, dtype=torch.float64),
            torch.zeros(runs, dtype=torch.float64),
            torch.zeros(runs, dtype=torch.float64),
            torch.ones(runs, dtype=torch.float64),
            torch.zeros(runs, dtype=torch.float64),
            None if numbers is None else torch.zeros(runs, numbers, dtype=torch.float64),
        )

    @property
    def running(self) -> Int[Tensor, " running"]:
        """Indices of the running runs."""
        return torch.nonzero(self.status == Status.RUNNING).flatten()

    def state_dict(self) -> dict[str, Tensor]:
        each = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in each.items() if value is not None}

    def put(self, runs: Int[Tensor, " some"], values: Mapping[str, Tensor]) -> None:
        """Set fields of these runs from tensors of any device and dtype."""
        for name, each in values.items():
            field = getattr(self, name)
            field[runs.to(field.device)] = each.to(field.device, field.dtype)


@dataclass(frozen=True)
class Plateau:
    """A stop where the loss no longer changes, [runs] each.

    The loss is marked at the first check, and at the first check at least `window` iterations after the last mark. If
    it then differs from the marked loss by at most `tolerance` times that loss, the run stops; else the mark moves.
    Iterations of a flow are accepted steps. A window of 0 is for a run without this stop.
    """

    window: Int[Tensor, " runs"]
    tolerance: Float[Tensor, " runs"]

    @classmethod
    def never(cls, runs: int) -> Plateau:
        return cls(torch.zeros(runs, dtype=torch.int64), torch.zeros(runs, dtype=torch.float64))


@dataclass(frozen=True)
class Adaptive:
    """An adaptive rate's beta and eps, [runs] each, in the runs' dtype; see `optimizers.AdaptiveDescent`."""

    beta: Float[Tensor, " runs"]
    eps: Float[Tensor, " runs"]


@dataclass(frozen=True)
class Flow:
    """Tolerances and end of a gradient flow (Equation 4), and its weight decay, [runs] float64 each.

    A step's error is the root mean square, over a run's parameters, of error / (atol + rtol |parameter|); it is at
    most 1. `max_time` is infinity without a limit. With a `decay` the flow is dW/dt = -gradient - decay W, on which the
    loss may rise.
    """

    rtol: Float[Tensor, " runs"]
    atol: Float[Tensor, " runs"]
    max_time: Float[Tensor, " runs"]
    decay: Float[Tensor, " runs"] | None = None


# Optimizers whose steps are gradients times one number of a run. Kernels have loops for these, since a whole step as a
# graph takes 1.2 to 1.4 times as long for blocked graphs, and the CP kernel has no graph.
ALONG_GRADIENT: dict[str, Optimizer] = {"descent": Descent(weight_decay=None), "adaptive": AdaptiveDescent()}
LABELS, GRADIENTS, BATCH = "labels", "gradients", "batch"  # random parts of a step, in this order


@dataclass(frozen=True)
class Noise:
    """The random parts of a step; see `noise.py` for their numbers.

    Args:
        kinds: those that all runs have, of LABELS, GRADIENTS and BATCH.
        keys: [runs, 2] words of 32 bits.
        batch: [runs] entries of a minibatch; 0 without them.
        observed: [runs] observed entries, or measurements.
    """

    kinds: tuple[str, ...]
    keys: Int[Tensor, "runs 2"]
    batch: Int[Tensor, " runs"]
    observed: Int[Tensor, " runs"]

    @property
    def deviations(self) -> int:
        """How many standard deviations a run has."""
        return len(self.kinds) - (BATCH in self.kinds)

    @property
    def steps_an_epoch(self) -> Int[Tensor, " runs"]:
        """Minibatches of an epoch; the last one may be smaller."""
        return -(-self.observed // self.batch)


@dataclass(frozen=True)
class Rule:
    """How gradients become steps.

    Args:
        optimizer: of the runs, up to their numbers.
        numbers: [runs, numbers] in the runs' dtype: those of `Optimizer.numbers`, then the standard deviations of the
            noise.
        noise: None for steps without a random part.
    """

    optimizer: Optimizer
    numbers: Float[Tensor, "runs numbers"]
    noise: Noise | None = None

    @property
    def kinds(self) -> tuple[str, ...]:
        """The random parts of a step."""
        return () if self.noise is None else self.noise.kinds

    @property
    def constants(self) -> tuple[object, ...]:
        """All that runs of one kernel share."""
        return *self.optimizer.constants, self.kinds


@dataclass(frozen=True, eq=False)
class Entries:
    """Observed entries of one run by index, in row-major order.

    Args:
        dims: sizes of the array.
        index: [n, order].
        values: [n] float64.
    """

    dims: tuple[int, ...]
    index: Int[np.ndarray, "n order"]
    values: Float[np.ndarray, " n"]

    @property
    def count(self) -> int:
        return len(self.values)


@dataclass(frozen=True)
class Problem:
    """The constants of an ensemble: observations, learning rates and stopping criteria, runs axis first.

    Args:
        operator: [runs, *dims] 0/1 in the runs' dtype where entries are observed, or [runs, n, *dims] sensing matrices.
        values: [runs, *dims] observed values (zero elsewhere), or [runs, n].
        eta: [runs] learning rates.
        stop_loss, max_iterations: [runs].
        loss_scale: [runs] float64, what the sum of values at observed entries (for the squared loss Equation 1's half
            sum) is multiplied by: 1, or for a mean `Loss.in_mean` / observed entries.
        adaptive: None for a fixed step.
        flow: None for descent; a flow has no learning rate.
        rule: None for steps of `ALONG_GRADIENT`, and for a flow.
        loss: of all runs.
        plateau: None if no run stops at a plateau.
        entries: of each run, where they are observed by index; operator and values are then [runs, 0].
    """

    operator: Tensor
    values: Tensor
    eta: Float[Tensor, " runs"]
    stop_loss: Float[Tensor, " runs"]
    max_iterations: Int[Tensor, " runs"]
    loss_scale: Float[Tensor, " runs"]
    adaptive: Adaptive | None = None
    flow: Flow | None = None
    rule: Rule | None = None
    loss: Loss = SQUARED
    plateau: Plateau | None = None
    entries: tuple[Entries, ...] | None = None

    @property
    def plateaus(self) -> Plateau:
        """`plateau`, with windows of 0 for None."""
        return self.plateau or Plateau.never(self.runs)

    @property
    def is_mask(self) -> bool:
        return self.operator.shape == self.values.shape

    @property
    def observed(self) -> Bool[Tensor, "runs entries"]:
        """Which entries are observed; all of a run's measurements."""
        return (self.operator != 0 if self.is_mask else torch.ones_like(self.values, dtype=torch.bool)).flatten(1)

    @property
    def runs(self) -> int:
        return len(self.eta)

    @cached_property
    def steps(self) -> Rule:
        """The rule of every step; of one of `ALONG_GRADIENT` where `rule` is None. Not of a flow."""
        if self.rule is not None:
            return self.rule
        columns = [] if self.adaptive is None else [self.adaptive.beta.to(self.eta), self.adaptive.eps.to(self.eta)]
        numbers = torch.stack(columns, dim=1) if columns else self.eta.new_zeros(self.runs, 0)
        return Rule(ALONG_GRADIENT[self.dynamics], numbers)

    @property
    def dynamics(self) -> str:
        """`descent`, `adaptive`, `flow`, `decaying_flow`, or `optimizer` for another one than gradient descent."""
        if self.rule is not None:
            return "optimizer"
        if self.flow is not None:
            return "flow" if self.flow.decay is None else "decaying_flow"
        return "descent" if self.adaptive is None else "adaptive"


def to_host(values: Tensor) -> Tensor:
    """Copy a tensor from a card into page-locked memory, which is much faster; one on the processor is returned as is.

    PyTorch reuses page-locked memory once it is released: copy what is kept.

    Example:
        >>> to_host(torch.ones(2)).tolist()
        [1.0, 1.0]
    """
    if values.device.type != "cuda":
        return values.cpu()
    return torch.empty(values.shape, dtype=values.dtype, pin_memory=True).copy_(values)


@dataclass(frozen=True)
class Rows:
    """Recorded iterations of one chunk, flat over runs, each run's in order.

    Those of a card lie in page-locked memory, see `to_host`, and their factors on the card.

    Args:
        run: [rows] index of the run in the ensemble.
        iteration: [rows].
        loss: [rows] float64, at that iteration, before the next step.
        time: [rows] float64, of a flow; 0 for descent.
        factors: one [rows, *shape] a factor, in the runs' dtype.
    """

    run: Int[Tensor, " rows"]
    iteration: Int[Tensor, " rows"]
    loss: Float[Tensor, " rows"]
    time: Float[Tensor, " rows"]
    factors: list[Tensor]
