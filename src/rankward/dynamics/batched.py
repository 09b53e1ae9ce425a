"""An ensemble in batched matrix products: static shapes, nothing read back within a chunk, on a GPU one graph replayed.

Serves what no thread can hold: larger matrices, tensors, sensing. On a processor it gives the same numbers, for tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rankward.dynamics.rates import MEMORY, rates_of
from rankward.dynamics.reference import loss_and_signal, one_thread
from rankward.dynamics.state import COUNTS, ROWS_BYTES, Problem, Progress, Rows, Schedule, Status
from rankward.factorizations.base import Factorization

# From factors [runs, *shape], operator and values to the half sums [runs] and their gradients, shaped as the factors.
Slopes = Callable[[Sequence[Tensor], Tensor, Tensor], tuple[Tensor, Sequence[Tensor]]]


def slopes_of(factorization: Factorization) -> Slopes:
    """Equation 1's half sum and its gradient of many runs at once, for a mask or sensing matrices.

    Example:
        >>> from rankward.factorizations import MatrixFactorization
        >>> one = torch.ones(1, 1, 1)
        >>> half, (slope,) = slopes_of(MatrixFactorization((1, 1), layers=1))([3 * one], one, one)
        >>> float(half), float(slope)
        (2.0, 2.0)
    """

    def of_one(factors: Sequence[Tensor], operator: Tensor, values: Tensor) -> tuple[Tensor, Sequence[Tensor]]:
        made, back = torch.func.vjp(lambda *each: factorization.product(each), *factors)  # type: ignore[misc]
        half, signal = loss_and_signal(made, operator, values)
        return half, back(signal)

    slopes: Slopes = torch.func.vmap(of_one)
    return slopes


class BatchedEngine:
    """Advances an ensemble by descent; runs that have stopped are carried along, unchanged, until their chunk ends.

    Args:
        factorization: whose `product` is trained, many runs at once.
        schedule: which iterations are looked at and recorded.
    """

    name, note = "batched", ""

    def __init__(self, factorization: Factorization, schedule: Schedule) -> None:
        self.factorization, self.schedule = factorization, schedule

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each, on any device.
            length: a multiple of the schedule's stride.
        """
        place = factors[0].device
        running = progress.running.to(place)
        at_work = _AtWork(self, factors, problem, progress, running, length)
        left = min(length, int((at_work.limit - at_work.iteration).max()))
        # One round more, of no steps, for runs that have yet to be looked at for the first time.
        at_work.go(-(-left // self.schedule.stride) + int(at_work.fresh.any()))
        with torch.no_grad():
            for factor, advanced in zip(factors, at_work.factors, strict=True):
                factor[running] = advanced
        progress.put(running, {name: getattr(at_work, name) for name in (*COUNTS, "lowest_loss", *MEMORY)})
        return at_work.rows(running)


class _AtWork:
    """The running runs of one chunk: tensors of fixed shape that one round of looks and steps changes in place."""

    def __init__(
        self,
        engine: BatchedEngine,
        factors: list[Tensor],
        problem: Problem,
        progress: Progress,
        running: Tensor,
        length: int,
    ) -> None:
        place = factors[0].device
        self.schedule = engine.schedule
        self.factors = [factor.detach()[running].clone() for factor in factors]

        def own(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
            return values.to(place, dtype or values.dtype)[running].clone()

        self.operator, self.values = own(problem.operator), own(problem.values)
        self.slopes = slopes_of(engine.factorization)
        eta, scale, beta, rest, eps, mean_square, weight = rates_of(problem, progress, place)[running].unbind(1)
        self.eta, self.scale, self.beta, self.rest, self.eps = eta, scale, beta, rest, eps
        self.mean_square, self.weight = mean_square.clone(), weight.clone()
        self.adaptive = problem.adaptive is not None
        self.iteration, self.status, self.below, self.next_record = (
            own(getattr(progress, name), torch.int64) for name in COUNTS
        )
        self.lowest_loss, self.stop_loss = own(progress.lowest_loss), own(problem.stop_loss)
        self.loss_scale, self.limit = own(problem.loss_scale), own(problem.max_iterations)
        self.until = self.iteration + length
        self.fresh = self.next_record == 0

        runs, bytes_a_row = len(running), sum(f[0].numel() * f.element_size() for f in self.factors)
        self.capacity = self.schedule.rows(length, ROWS_BYTES // max(1, runs * bytes_a_row))
        self.index = torch.arange(runs, device=place)
        # Numbers as tensors: making one of a number copies it to the device, which a graph cannot hold.
        self.codes = {status: torch.full_like(self.index, status) for status in Status}
        self.spare = torch.full_like(self.index, self.capacity)
        self.count = torch.zeros(runs, dtype=torch.int64, device=place)
        room = (runs, self.capacity + 1)  # the last place takes what is not recorded
        self.rows_iteration = torch.zeros(room, dtype=torch.int64, device=place)
        self.rows_loss = torch.zeros(room, dtype=torch.float64, device=place)
        self.rows_factors = [factor.new_zeros((*room, *factor.shape[1:])) for factor in self.factors]

    def go(self, rounds: int) -> None:
        """So many rounds, captured once and replayed on a GPU."""
        if self.index.device.type != "cuda":
            with torch.no_grad(), one_thread():
                for _ in range(rounds):
                    self.round()
            return
        with torch.no_grad(), torch.cuda.device(self.index.device):
            warm = torch.cuda.Stream()
            warm.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warm):  # libraries set themselves up in a first round, which a graph cannot hold
                self.round()
            torch.cuda.current_stream().wait_stream(warm)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads have other devices
                self.round()
            for _ in range(rounds - 1):
                graph.replay()

    def round(self) -> None:
        """Steps to the next look, and the look."""
        active = (self.status == Status.RUNNING) & (self.iteration < self.until) & (self.count < self.capacity)
        steps = (self.limit - self.iteration).clamp(max=self.schedule.stride) * (active & ~self.fresh)
        for number in range(self.schedule.stride):
            self._step(steps > number)
        self.iteration += steps
        self._look(active)
        self.fresh.fill_(False)

    def _step(self, moving: Tensor) -> None:
        """One step of descent, of those that move."""
        _, slopes = self.slopes(self.factors, self.operator, self.values)
        if self.adaptive:
            square = torch.stack([(slope * slope).flatten(1).sum(1) for slope in slopes]).sum(0)
            mean = self.beta * self.mean_square + self.rest * (square * (self.scale * self.scale))
            weight = self.beta * self.weight + self.rest
            step = self.eta / (torch.sqrt(mean / weight) + self.eps) * self.scale
            self.mean_square.copy_(torch.where(moving, mean, self.mean_square))
            self.weight.copy_(torch.where(moving, weight, self.weight))
        else:
            step = self.eta * self.scale
        for factor, slope in zip(self.factors, slopes, strict=True):
            shape = (-1, *(1,) * (factor.ndim - 1))
            factor.copy_(torch.where(moving.reshape(shape), factor - step.reshape(shape) * slope, factor))

    def _look(self, active: Tensor) -> None:
        """Statuses, and a row where one is due."""
        half, _ = self.slopes(self.factors, self.operator, self.values)
        here = half.double() * self.loss_scale
        low = here < self.stop_loss
        below = (self.below + 1) * low
        ended = torch.where(self.iteration >= self.limit, self.codes[Status.MAX_ITERATIONS], self.codes[Status.RUNNING])
        ended = torch.where(low & (below >= self.schedule.stop_checks), self.codes[Status.CONVERGED], ended)
        ended = torch.where(here < torch.inf, ended, self.codes[Status.DIVERGED])
        due = self.iteration >= self.next_record
        row = due | (ended != Status.RUNNING)
        if not self.schedule.every:
            row |= here <= self.schedule.loss_ratio * self.lowest_loss
        row &= active
        place = torch.where(row, self.count, self.spare)
        self.rows_iteration[self.index, place] = self.iteration
        self.rows_loss[self.index, place] = here
        for rows, factor in zip(self.rows_factors, self.factors, strict=True):
            rows[self.index, place] = factor
        self.count += row
        for kept, new, where in (
            (self.below, below, active),
            (self.status, ended, active),
            (self.lowest_loss, torch.fmin(self.lowest_loss, here), row),
            (self.next_record, self._after(), active & due),
        ):
            kept.copy_(torch.where(where, new, kept))

    def _after(self) -> Tensor:
        """The iterations of the next rows that are due: `Schedule.after` of many."""
        schedule = self.schedule
        if schedule.every:
            return self.iteration + schedule.every
        wide = -(self.iteration.double() * schedule.iteration_ratio)  # a float32 would round iterations
        grown = -torch.div(wide, schedule.stride, rounding_mode="floor").long() * schedule.stride
        return torch.maximum(self.iteration + schedule.stride, grown)

    def rows(self, running: Tensor) -> Rows:
        """What was recorded, run after run."""
        kept = torch.arange(self.capacity + 1, device=self.index.device) < self.count[:, None]
        return Rows(
            running.repeat_interleave(self.count).cpu(),
            self.rows_iteration[kept].cpu(),
            self.rows_loss[kept].cpu(),
            torch.zeros(int(self.count.sum()), dtype=torch.float64),
            [rows[kept] for rows in self.rows_factors],
        )
