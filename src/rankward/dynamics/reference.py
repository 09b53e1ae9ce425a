"""The reference engine: plain torch with autograd, one run at a time, any factorization and measurement, any device.

It is slow and short on purpose: tests compare the compiled engine with it, and it runs where that engine cannot.
One run at a time and one thread keep the bits of a run independent of the other runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from rankward.dynamics.noise import drawn, scaled
from rankward.dynamics.rates import memory, remembered
from rankward.dynamics.reference_flow import Stepper
from rankward.dynamics.rule import OF_A_RUN
from rankward.dynamics.state import Noise, Problem, Progress, Rows, Schedule, Status
from rankward.dynamics.stepping import step, unpacked, with_noise
from rankward.factorizations.base import Factorization
from rankward.linalg import one_thread
from rankward.losses import SQUARED, Loss, Squared
from rankward.optimizers import Optimizer


def loss(product: Tensor, operator: Tensor, values: Tensor, of: Loss = SQUARED) -> Tensor:
    """The sum of a loss's values at the observed entries of one run; of the squared loss Equation 1's half sum.

    It is differentiable as often as the loss is.

    Args:
        product: [*dims].
        operator: its mask, or its sensing matrices [n, *dims].
        values: [*dims] observed values, or [n].
        of: the loss.

    Example:
        >>> one = torch.ones(1, 1)
        >>> float(loss(3 * one, one, one))
        2.0
    """
    if type(of) is Squared:
        return loss_and_cotangent(product, operator, values)[0]
    if operator.shape == values.shape:  # only observed entries are computed: others may not be finite
        seen = operator > 0
        return of.value(product[seen], values[seen]).sum()
    return of.value(operator.flatten(1) @ product.flatten(), values).sum()


Slopes = Callable[[Loss, Tensor, Tensor], tuple[Tensor, Tensor]]


def slopes_of(of: Loss, prediction: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
    """A loss's values and their derivatives, in the shape of the prediction.

    Example:
        >>> from rankward.losses import L1
        >>> slopes_of(L1(), torch.tensor([3.0, -2.0]), torch.zeros(2))
        (tensor([3., 2.]), tensor([ 1., -1.]))
    """
    with torch.enable_grad():
        variable = prediction.detach().requires_grad_()
        each = of.value(variable, observed)
        # With a graph of the derivative, autograd adds out of place, so that it can be traced.
        (slopes,) = torch.autograd.grad(each.sum(), variable, create_graph=True, materialize_grads=True)
    return each.detach(), slopes.detach()


def loss_and_cotangent(
    product: Tensor,
    operator: Tensor,
    values: Tensor,
    of: Loss = SQUARED,
    labels: Tensor | None = None,
    share: Tensor | None = None,
    *,
    slopes_of: Slopes = slopes_of,
) -> tuple[Tensor, Tensor]:
    """The sum of `loss`, and its gradient with respect to the product (the cotangent), without branches on numbers.

    Args:
        product, operator, values, of: as for `loss`.
        labels: in the shape of the values; they are added to the values in the gradient alone.
        share: likewise; the gradient's part of each value is multiplied by it.
        slopes_of: a function like the one of this module.

    Example:
        >>> one = torch.ones(1, 1)
        >>> [float(each) for each in loss_and_cotangent(3 * one, one, one)]
        [2.0, 2.0]
    """
    masked = operator.shape == values.shape
    matrix = operator if masked else operator.flatten(1)
    prediction = product if masked else matrix @ product.flatten()
    if type(of) is Squared:
        residual = operator * (prediction - values) if masked else prediction - values
        total, slopes = 0.5 * (residual * residual).sum(), residual
        if labels is not None:
            slopes = operator * (prediction - (values + labels)) if masked else residual - labels
    else:
        each, slopes = slopes_of(of, prediction, values)
        if labels is not None:
            _, slopes = slopes_of(of, prediction, values + labels)
        if masked:
            zero, seen = torch.zeros_like(each), operator > 0
            each, slopes = torch.where(seen, each, zero), torch.where(seen, slopes, zero)
        total = each.sum()
    slopes = slopes if share is None else slopes * share
    return total, slopes if masked else (slopes @ matrix).reshape(product.shape)


def negative_gradients(
    products: Float[Tensor, "rows *dims"],
    run: Int[Tensor, " rows"],
    operator: Shaped[Tensor, "runs ..."],
    values: Float[Tensor, "runs ..."],
    scale: Float[Tensor, " runs"],
    of: Loss = SQUARED,
) -> Float[Tensor, "rows *dims"]:
    """-dL/dW at products W of recorded rows, float64, where L is `scale` times the sum of a loss's values.

    A row has the same bits in any company.

    Args:
        run: of each row; the other arguments have a runs axis, as in `Problem`.
        of: the loss.

    Example:
        >>> one, first = torch.ones(1, 1, 1), torch.zeros(1, dtype=torch.long)
        >>> negative_gradients(3 * one, first, one, one, 0.5 * torch.ones(1)).item()
        -1.0
    """
    factor = -scale.double()[run].reshape(-1, *(1 for _ in products.shape[1:]))
    if operator.shape == values.shape:
        # All rows at once, since each entry is a function of its own.
        return factor * loss_and_cotangent(products.double(), operator[run].double(), values[run].double(), of)[1]
    with one_thread():  # sensing matrices are large: one run's at a time, in new memory
        of_rows = [
            loss_and_cotangent(product, operator[index].double().clone(), values[index].double().clone(), of)[1]
            for product, index in zip(products.double(), run.tolist(), strict=True)
        ]
    return factor * (torch.stack(of_rows) if of_rows else torch.zeros_like(products, dtype=torch.float64))


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
        rule, eta = problem.steps, problem.eta[run]
        optimizer = rule.optimizer.with_numbers(rule.numbers[run].to(eta).unbind())
        state = unpacked(optimizer, [weight.shape for weight in weights], memory(problem, progress)[run].to(eta))
        iteration, limit = int(progress.iteration[run]), int(problem.max_iterations[run])
        end = min(iteration + length, limit)
        checked = int(progress.next_record[run]) > 0  # the chunk before has checked this iteration
        while True:
            half_sum = loss(self.factorization.product(weights), operator, values, problem.loss)
            value = half_sum.item() * float(scale)
            if not checked and (iteration % self.schedule.stride == 0 or iteration == limit):
                if self._check(run, iteration, value, problem, progress):
                    yield run, iteration, value, 0.0, [weight.detach().clone() for weight in weights]
                if progress.status[run] != Status.RUNNING or iteration >= end:
                    break
            gradients = self._gradients(run, iteration, half_sum, weights, problem)
            iteration += 1
            with torch.no_grad():
                state = _step(optimizer, weights, gradients, state, eta, iteration)
            checked = False
        progress.iteration[run] = iteration
        if state:
            progress.put(torch.tensor([run]), remembered(problem, parameters_to_vector(state)[None]))

    def _gradients(
        self, run: int, iteration: int, half_sum: Tensor, weights: list[Tensor], problem: Problem
    ) -> Sequence[Tensor]:
        """Gradients of one run's loss, with the noise of the step after this iteration."""
        scale, rule = problem.loss_scale[run].to(half_sum.dtype), problem.rule
        if rule is None or rule.noise is None:
            return torch.autograd.grad(half_sum * scale, weights, materialize_grads=True)
        values, one = problem.values[run], slice(run, run + 1)
        noise = Noise(rule.noise.kinds, *(getattr(rule.noise, name)[one] for name in ("keys", "batch", "observed")))
        parameters = sum(weight.numel() for weight in weights)
        made = drawn(noise, torch.tensor([iteration]), parameters, problem.observed[one])
        deviations = rule.numbers[one, len(rule.optimizer.numbers) :]
        labels, added, share = scaled(noise, made, deviations, values[None])
        product = self.factorization.product(weights)
        parts = (None if each is None else each[0] for each in (labels, share))
        cotangent = loss_and_cotangent(product.detach(), problem.operator[run], values, problem.loss, *parts)[1] * scale
        gradients = torch.autograd.grad(product, weights, cotangent, materialize_grads=True)
        return gradients if added is None else with_noise(gradients, added[0])

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
            value = loss(self.factorization.product(split(point)), operator, values, problem.loss) * scale
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
        schedule, plateaus = self.schedule, problem.plateaus
        given = (
            problem.max_iterations, problem.stop_loss, plateaus.window, plateaus.tolerance, progress.below,
            progress.next_record, progress.lowest_loss, progress.marked, progress.marked_loss,
        )  # fmt: skip
        status, due, recorded, below, lowest_loss, marked, marked_loss = OF_A_RUN.check(
            iteration, value, int(forced), *(each[run].item() for each in given),
            schedule.stop_checks, schedule.every, schedule.loss_ratio,
        )  # fmt: skip
        if due:
            progress.next_record[run] = OF_A_RUN.after(
                iteration, schedule.stride, schedule.every, schedule.iteration_ratio
            )
        progress.status[run], progress.below[run], progress.lowest_loss[run] = status, below, lowest_loss
        progress.marked[run], progress.marked_loss[run] = marked, marked_loss
        return bool(recorded)


def _step(
    optimizer: Optimizer,
    weights: Sequence[Tensor],
    gradients: Sequence[Tensor],
    state: Sequence[Tensor],
    eta: Tensor,
    iteration: int,
) -> list[Tensor]:
    """The state after one step of one run; weights change in place."""
    square = eta  # not used
    if optimizer.uses_square:
        square = torch.stack([(gradient * gradient).sum() for gradient in gradients]).sum()
    before = [weight.detach().clone() for weight in weights]  # the state may keep one
    moved, after = step(optimizer, before, gradients, square, state, eta, torch.full_like(eta, iteration))
    for weight, new in zip(weights, moved, strict=True):
        weight.copy_(new)
    return after
