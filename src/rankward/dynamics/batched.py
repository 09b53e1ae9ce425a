"""The batched engine: an ensemble in batched matrix products, captured once a chunk as a CUDA graph and replayed.

It trains what is too large for one thread of a GPU: larger matrices, tensors, sensing. Shapes are static and nothing is
read back within a chunk. On a processor it gives the same numbers, which tests use.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.dynamics.noise import Drawn, drawn, scaled
from rankward.dynamics.rates import rates_of, remembered
from rankward.dynamics.reference import loss_and_cotangent
from rankward.dynamics.rule import OF_RUNS
from rankward.dynamics.state import (
    COUNTS,
    LOSSES,
    ROWS_BYTES,
    Noise,
    Problem,
    Progress,
    Rows,
    Rule,
    Schedule,
    Status,
    to_host,
)
from rankward.dynamics.stepping import step, unpacked, with_noise
from rankward.factorizations.base import Factorization
from rankward.linalg import one_thread
from rankward.losses import SQUARED, Loss

# From factors [runs, *shape], operator and values to the half sums [runs] and their gradients, shaped as the factors.
# Behind the values may be the noise of labels and the share of a minibatch, for the gradients alone.
Gradients = Callable[..., tuple[Tensor, Sequence[Tensor]]]


def gradients_of(factorization: Factorization, loss: Loss = SQUARED) -> Gradients:
    """Return a function for the sum of a loss (of the squared one Equation 1) and its gradients, of many runs at once.

    Example:
        >>> from rankward.factorizations import MatrixFactorization
        >>> one = torch.ones(1, 1, 1)
        >>> half, (gradient,) = gradients_of(MatrixFactorization((1, 1), layers=1))([3 * one], one, one)
        >>> float(half), float(gradient)
        (2.0, 2.0)
    """

    def of_run(
        factors: Sequence[Tensor], operator: Tensor, values: Tensor, *noise: Tensor | None
    ) -> tuple[Tensor, Sequence[Tensor]]:
        product, pullback = torch.func.vjp(lambda *each: factorization.product(each), *factors)  # type: ignore[misc]
        half, cotangent = loss_and_cotangent(product, operator, values, loss, *noise, slopes_of=_slopes_of)
        return half, pullback(cotangent)

    return _of_runs(of_run)


def _of_runs(of_run: Callable[..., Any]) -> Callable[..., Any]:
    """A function of many runs at once from one of a run; arguments may be None."""

    def of_runs(*given: Any) -> Any:
        has_runs = tuple(None if each is None else 0 for each in given)
        return torch.func.vmap(of_run, in_dims=has_runs)(*given)

    return of_runs


def _slopes_of(loss: Loss, prediction: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """`reference.slopes_of` in a form that torch can batch."""
    each, pullback = torch.func.vjp(lambda made: loss.value(made, observed), prediction)  # type: ignore[misc]
    (slopes,) = pullback(torch.ones_like(each))
    return each, slopes


def _stepped(rule: Rule) -> Callable[..., tuple[list[Tensor], list[Tensor]]]:
    """Return `stepping.step` of many runs at once; its first argument is the numbers [runs, n] of their optimizers."""

    def of_run(numbers: Tensor, *arguments: Any) -> tuple[list[Tensor], list[Tensor]]:
        return step(rule.optimizer.with_numbers(numbers.unbind()), *arguments)

    return _of_runs(of_run)


def _across(each: Tensor, like: Tensor) -> Tensor:
    """A number of each run as an array that is broadcast to arrays [runs, *shape]."""
    return each.reshape(-1, *(1,) * (like.ndim - 1))


class BatchedEngine:
    """Advance an ensemble by gradient descent; stopped runs stay in the batch, unchanged, until the chunk ends.

    Args:
        factorization: whose `product` is trained, many runs at once.
        schedule: which iterations are checked and recorded.
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
        device = factors[0].device
        running = progress.running.to(device)
        chunk = _Chunk(self, factors, problem, progress, running, length)
        left = min(length, int((chunk.limit - chunk.iteration).max()))
        # One more round, without steps, for the first check of new runs.
        chunk.run(-(-left // self.schedule.stride) + int(chunk.unrecorded.any()))
        with torch.no_grad():
            for factor, advanced in zip(factors, chunk.factors, strict=True):
                factor[running] = advanced
        progress.put(running, {name: getattr(chunk, name) for name in (*COUNTS, *LOSSES)} | chunk.memory())
        return chunk.rows(running)


class _Chunk:
    """The running runs of one chunk: tensors of fixed shape that each round changes in place."""

    def __init__(
        self,
        engine: BatchedEngine,
        factors: list[Tensor],
        problem: Problem,
        progress: Progress,
        running: Tensor,
        length: int,
    ) -> None:
        device = factors[0].device
        self.schedule = engine.schedule
        self.factors = [factor.detach()[running].clone() for factor in factors]

        def of_running(values: Tensor, dtype: torch.dtype | None = None) -> Tensor:
            return values.to(device, dtype or values.dtype)[running].clone()

        self.operator, self.values = of_running(problem.operator), of_running(problem.values)
        self.gradients = gradients_of(engine.factorization, problem.loss)
        self.problem, self.rule = problem, problem.steps
        rates = rates_of(problem, progress, device)[running]
        self.eta, self.scale, self.numbers = rates[:, 0], rates[:, 1], of_running(self.rule.numbers, rates.dtype)
        state = rates[:, 3 + self.numbers.shape[1] :]
        if (noise := self.rule.noise) is not None:
            parts = (of_running(getattr(noise, name)) for name in ("keys", "batch", "observed"))
            self.noise, self.observed = Noise(noise.kinds, *parts), of_running(problem.observed)
        self.state = [part.clone() for part in unpacked(self.rule.optimizer, engine.factorization.shapes, state)]
        self.stepped = _stepped(self.rule)
        self.iteration, self.status, self.below, self.next_record, self.marked = (
            of_running(getattr(progress, name), torch.int64) for name in COUNTS
        )
        self.lowest_loss, self.marked_loss = (of_running(getattr(progress, name)) for name in LOSSES)
        self.stop_loss, plateaus = of_running(problem.stop_loss), problem.plateaus
        self.window, self.tolerance = of_running(plateaus.window), of_running(plateaus.tolerance)
        self.loss_scale, self.limit = of_running(problem.loss_scale), of_running(problem.max_iterations)
        self.until = self.iteration + length
        self.unrecorded = self.next_record == 0

        runs, bytes_a_row = len(running), sum(f[0].numel() * f.element_size() for f in self.factors)
        self.capacity = self.schedule.rows(length, ROWS_BYTES // max(1, runs * bytes_a_row))
        self.index = torch.arange(runs, device=device)
        self.dummy = torch.full_like(self.index, self.capacity)
        self.count = torch.zeros(runs, dtype=torch.int64, device=device)
        shape = (runs, self.capacity + 1)  # the last column is a dummy for rows that are not recorded
        self.rows_iteration = torch.zeros(shape, dtype=torch.int64, device=device)
        self.rows_loss = torch.zeros(shape, dtype=torch.float64, device=device)
        self.rows_factors = [factor.new_zeros((*shape, *factor.shape[1:])) for factor in self.factors]

    def run(self, rounds: int) -> None:
        """Run `rounds` rounds; on a GPU, capture one and replay it."""
        if self.index.device.type != "cuda":
            with torch.no_grad(), one_thread():
                for _ in range(rounds):
                    self.round()
            return
        with torch.no_grad(), torch.cuda.device(self.index.device):
            warm = torch.cuda.Stream()
            warm.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(warm):  # the first round initializes libraries, which a graph cannot capture
                self.round()
            torch.cuda.current_stream().wait_stream(warm)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, capture_error_mode="thread_local"):  # other threads use other devices
                self.round()
            for _ in range(rounds - 1):
                graph.replay()

    def round(self) -> None:
        """Step to the next check, and check."""
        active = (self.status == Status.RUNNING) & (self.iteration < self.until) & (self.count < self.capacity)
        steps = (self.limit - self.iteration).clamp(max=self.schedule.stride) * (active & ~self.unrecorded)
        for number in range(self.schedule.stride):
            self._step(steps > number, number)
        self.iteration += steps
        self._check(active)
        self.unrecorded.fill_(False)

    def memory(self) -> dict[str, Tensor]:
        """Fields of `Progress` that steps have changed."""
        flat = [part.reshape(len(self.index), -1) for part in self.state]
        return remembered(self.problem, torch.cat(flat, dim=1)) if flat else {}

    def _step(self, moving: Tensor, number: int) -> None:
        """One step of the runs in `moving`, after `number` others of this round."""
        labels, added, share = self._noise(number)
        _, gradients = self.gradients(self.factors, self.operator, self.values, labels, share)
        scale = self.scale if self.problem.rule is None else None  # of a step; else it is that of gradients
        if scale is None:
            gradients = [gradient * _across(self.scale, gradient) for gradient in gradients]
        if added is not None:
            gradients = with_noise(gradients, added)
        square = self.eta  # not used
        if self.rule.optimizer.uses_square:
            square = torch.stack([(gradient * gradient).flatten(1).sum(1) for gradient in gradients]).sum(0)
            square = square if scale is None else square * (scale * scale)
        iteration = (self.iteration + (number + 1)).to(self.eta.dtype)
        given = (self.factors, gradients, square, self.state, self.eta, iteration, scale)
        factors, state = self.stepped(self.numbers, *given)
        pairs = list(zip([*self.factors, *self.state], [*factors, *state], strict=True))
        chosen = [torch.where(_across(moving, old), new, old) for old, new in pairs]
        for (old, _), new in zip(pairs, chosen, strict=True):  # only now: the state may keep a factor
            old.copy_(new)

    def _noise(self, number: int) -> Drawn:
        """The random parts of the step after `number` others of this round."""
        if self.rule.noise is None:
            return Drawn(None, None, None)
        parameters = sum(factor[0].numel() for factor in self.factors)
        made = drawn(self.noise, self.iteration + number, parameters, self.observed)
        return scaled(self.noise, made, self.numbers[:, len(self.rule.optimizer.numbers) :], self.values)

    def _check(self, active: Tensor) -> None:
        """Set statuses, and record a row where one is due."""
        half, _ = self.gradients(self.factors, self.operator, self.values)
        loss = half.double() * self.loss_scale
        schedule = self.schedule
        status, due, recorded, below, lowest_loss, marked, marked_loss = OF_RUNS.check(
            self.iteration, loss, int(Status.RUNNING), self.limit, self.stop_loss, self.window, self.tolerance,
            self.below, self.next_record, self.lowest_loss, self.marked, self.marked_loss,
            schedule.stop_checks, schedule.every, schedule.loss_ratio,
        )  # fmt: skip
        after = OF_RUNS.after(self.iteration, schedule.stride, schedule.every, schedule.iteration_ratio)
        row = recorded & active
        column = torch.where(row, self.count, self.dummy)
        self.rows_iteration[self.index, column] = self.iteration
        self.rows_loss[self.index, column] = loss
        for rows, factor in zip(self.rows_factors, self.factors, strict=True):
            rows[self.index, column] = factor
        self.count += row
        for old, new, changed in (
            (self.status, status, active),
            (self.next_record, after, active & due),
            (self.below, below, active),
            (self.lowest_loss, lowest_loss, active),
            (self.marked, marked, active),
            (self.marked_loss, marked_loss, active),
        ):
            old.copy_(torch.where(changed, new, old))

    def rows(self, running: Tensor) -> Rows:
        """The recorded rows, run by run."""
        recorded = torch.arange(self.capacity + 1, device=self.index.device) < self.count[:, None]
        return Rows(
            to_host(running.repeat_interleave(self.count)),
            to_host(self.rows_iteration[recorded]),
            to_host(self.rows_loss[recorded]),
            torch.zeros(int(self.count.sum()), dtype=torch.float64),
            [rows[recorded] for rows in self.rows_factors],
        )
