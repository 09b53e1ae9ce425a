"""The reference engine: plain torch with autograd, one run at a time, any factorization and measurement, any device.

It is slow and short on purpose: tests compare the compiled engine with it, and it runs where that engine cannot.
One run at a time and one thread keep the bits of a run independent of the other runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from rankward.dynamics.reference_flow import Stepper
from rankward.dynamics.state import Problem, Progress, Rows, Rule, Schedule, Status
from rankward.dynamics.stepping import step, unpacked
from rankward.factorizations.base import Factorization
from rankward.linalg import one_thread


def loss(product: Tensor, operator: Tensor, values: Tensor) -> Tensor:
    """Half the sum of squared residuals (Equation 1) of one run; `operator` is its mask or its sensing matrices.

    Example:
        >>> one = torch.ones(1, 1)
        >>> float(loss(3 * one, one, one))
        2.0
    """
    return loss_and_cotangent(product, operator, values)[0]


def loss_and_cotangent(product: Tensor, operator: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """The half sum of Equation 1 of one run, and its gradient with respect to the product (the cotangent).

    Example:
        >>> one = torch.ones(1, 1)
        >>> [float(each) for each in loss_and_cotangent(3 * one, one, one)]
        [2.0, 2.0]
    """
    if operator.shape == values.shape:
        cotangent = residual = operator * (product - values)
    else:
        matrix = operator.flatten(1)
        residual = matrix @ product.flatten() - values
        cotangent = (residual @ matrix).reshape(product.shape)
    return 0.5 * (residual * residual).sum(), cotangent


Row = tuple[int, int, float, float, list[Tensor]]  # run, iteration, loss, time, factors


class ReferenceEngine:
    """Advance an ensemble by autograd.

    Args:
        factorization: whose `product` is trained.
        schedule: which iterations are checked and recorded.
        note: why no faster engine can train the run, unless `engine=reference` was asked for.
    """

    name = "reference"

    def __init__(self, factorization: Factorization, schedule: Schedule, note: str = "") -> None:
        self.factorization, self.schedule, self.note = factorization, schedule, note

    def advance(self, factors: list[Tensor], problem: Problem, progress: Progress, length: int) -> Rows:
        """Advance every running run by `length` iterations, or to its stop; factors and progress change in place.

        Args:
            factors: [runs, *shape] each.
            length: a multiple of the schedule's stride.
        """
        rows: list[Row] = []
        advance_run = self._advance_run if problem.flow is None else self._flow_run
        with one_thread():
            for run in progress.running.tolist():
                weights = [factor[run].detach().clone().requires_grad_() for factor in factors]
                rows += advance_run(run, weights, problem, progress, length)
                with torch.no_grad():
                    for factor, weight in zip(factors, weights, strict=True):
                        factor[run] = weight
        return Rows(
            torch.tensor([row[0] for row in rows], dtype=torch.int64),
            torch.tensor([row[1] for row in rows], dtype=torch.int64),
            torch.tensor([row[2] for row in rows], dtype=torch.float64),
            torch.tensor([row[3] for row in rows], dtype=torch.float64),
            [
                torch.stack([row[4][i] for row in rows]) if rows else factor.new_empty((0, *factor.shape[1:]))
                for i, factor in enumerate(factors)
            ],
        )

    def _advance_run(
        self, run: int, weights: list[Tensor], problem: Problem, progress: Progress, length: int
    ) -> Iterator[Row]:
        operator, values, scale = problem.operator[run], problem.values[run], problem.loss_scale[run]
        iteration, limit = int(progress.iteration[run]), int(problem.max_iterations[run])
        end = min(iteration + length, limit)
        checked = int(progress.next_record[run]) > 0  # the chunk before has checked this iteration
        while True:
            half_sum = loss(self.factorization.product(weights), operator, values)
            value = half_sum.item() * float(scale)
            if not checked and (iteration % self.schedule.stride == 0 or iteration == limit):
                if self._check(run, iteration, value, problem, progress):
                    yield run, iteration, value, 0.0, [weight.detach().clone() for weight in weights]
                if progress.status[run] != Status.RUNNING or iteration >= end:
                    break
            gradients = torch.autograd.grad(half_sum * scale.to(half_sum.dtype), weights, materialize_grads=True)
            iteration += 1
            with torch.no_grad():
                if problem.rule is not None:
                    _optimize(run, problem.rule, problem.eta[run], iteration, weights, gradients, progress)
                else:
                    size = _step_size(run, gradients, problem, progress)
                    for weight, gradient in zip(weights, gradients, strict=True):
                        weight -= size * gradient
            checked = False
        progress.iteration[run] = iteration

    def _flow_run(
        self, run: int, weights: list[Tensor], problem: Problem, progress: Progress, length: int
    ) -> Iterator[Row]:
        operator, values, scale = problem.operator[run], problem.values[run], problem.loss_scale[run]
        shapes = [weight.shape for weight in weights]

        def split(point: Tensor) -> list[Tensor]:
            parts = point.split([shape.numel() for shape in shapes])
            return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

        def downhill(point: Tensor) -> tuple[Tensor, float]:
            point = point.detach().requires_grad_()
            value = loss(self.factorization.product(split(point)), operator, values) * scale
            return -torch.autograd.grad(value, point)[0], value.item()

        stepper = Stepper(downhill, parameters_to_vector(weights).detach(), run, problem, progress)
        iteration = int(progress.iteration[run])
        end = min(iteration + length, int(problem.max_iterations[run]))
        if int(progress.next_record[run]) == 0 and self._check(run, iteration, stepper.loss, problem, progress):
            yield run, iteration, stepper.loss, stepper.time, split(stepper.point)
        while progress.status[run] == Status.RUNNING and iteration < end:
            stepper.accept()
            iteration += not stepper.stuck
            forced = Status.MAX_TIME if stepper.over else Status.DIVERGED if stepper.stuck else Status.RUNNING
            below_stop = stepper.loss < float(problem.stop_loss[run])
            limit = iteration == problem.max_iterations[run]
            due = forced or below_stop or limit or iteration % self.schedule.stride == 0
            if due and self._check(run, iteration, stepper.loss, problem, progress, forced):
                yield run, iteration, stepper.loss, stepper.time, split(stepper.point)
        for weight, part in zip(weights, split(stepper.point), strict=True):
            weight.data.copy_(part)
        stepper.save()
        progress.iteration[run] = iteration

    def _check(
        self,
        run: int,
        iteration: int,
        value: float,
        problem: Problem,
        progress: Progress,
        forced: Status = Status.RUNNING,
    ) -> bool:
        """Set the run's status, `forced` unless something else ends it; return whether this iteration is recorded."""
        below_stop = value < float(problem.stop_loss[run])
        progress.below[run] = int(progress.below[run]) + 1 if below_stop else 0
        if not value < float("inf"):
            progress.status[run] = Status.DIVERGED
        elif below_stop and progress.below[run] >= self.schedule.stop_checks:
            progress.status[run] = Status.CONVERGED
        elif iteration >= problem.max_iterations[run]:
            progress.status[run] = Status.MAX_ITERATIONS
        elif forced != Status.RUNNING:
            progress.status[run] = forced
        due = iteration >= int(progress.next_record[run])
        fallen = not self.schedule.every and value <= self.schedule.loss_ratio * float(progress.lowest_loss[run])
        if due:
            progress.next_record[run] = self.schedule.after(iteration)
        recorded = due or fallen or bool(progress.status[run] != Status.RUNNING)
        if recorded:
            progress.lowest_loss[run] = min(float(progress.lowest_loss[run]), value)
        return recorded


def _step_size(run: int, gradients: Sequence[Tensor], problem: Problem, progress: Progress) -> Tensor:
    """The step size of one run for this gradient; an adaptive rate updates its running mean in `progress`."""
    eta = problem.eta[run]
    if problem.adaptive is None:
        return eta
    beta, eps = problem.adaptive.beta[run], problem.adaptive.eps[run]
    square = torch.stack([(gradient * gradient).sum() for gradient in gradients]).sum()
    mean = beta * progress.mean_square[run].to(eta.dtype) + (1 - beta) * square
    weight = beta * progress.weight[run].to(eta.dtype) + (1 - beta)
    progress.mean_square[run], progress.weight[run] = mean, weight
    return eta / (torch.sqrt(mean / weight) + eps)


def _optimize(
    run: int,
    rule: Rule,
    eta: Tensor,
    iteration: int,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    progress: Progress,
) -> None:
    """One step of one run by an optimizer; weights and the state in `progress` change in place."""
    assert progress.state is not None
    optimizer = rule.optimizer.with_numbers(rule.numbers[run].to(eta).unbind())
    before = [weight.detach().clone() for weight in weights]  # the state may keep one
    state = unpacked(optimizer, [weight.shape for weight in weights], progress.state[run].to(eta))
    moved, after = step(optimizer, before, gradients, state, eta, torch.full_like(eta, iteration))
    for weight, new in zip(weights, moved, strict=True):
        weight.copy_(new)
    if after:
        progress.state[run] = parameters_to_vector(after).to(progress.state)
