"""Interface of a schedule: how the learning rate changes with the iteration; and an optimizer with a schedule."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from rankward.optimizers.base import Optimizer
from rankward.optimizers.parameters import Parameters


class RateSchedule(Parameters, ABC):
    """The factor of the learning rate at each iteration, of one run.

    A new one is a class like this in a file of its own and a YAML in `conf/lr/` with `eta` and a `_target_` that names
    the class; the other keys of the YAML are its constructor's arguments. A constructor that takes `max_iterations` is
    given the run's. Attributes are numbers of the run or constants of the kernel; see `Parameters`. `factor` is traced
    with the step, and compiled.

    Example:
        >>> class Falling(RateSchedule):
        ...     def __init__(self, power=0.5):
        ...         self.power = power
        ...     def factor(self, iteration):
        ...         return iteration ** (-self.power)
    """

    @abstractmethod
    def factor(self, iteration: Tensor) -> Tensor:
        """The number, 0-d, by which `lr.eta` is multiplied at an iteration, which counts from 1, 0-d."""


class Scheduled(Optimizer):
    """An optimizer whose learning rate is multiplied by a schedule's factor.

    A decoupled weight decay, which is a multiple of the learning rate, changes with it, as in torch.

    Args:
        optimizer, schedule: with the same runs.

    Example:
        >>> import torch
        >>> from rankward.optimizers import Cosine, Descent
        >>> one = torch.ones((), dtype=torch.float64)
        >>> last = Scheduled(Descent(), Cosine(decay_steps=4, end_factor=0.5))
        >>> last.rate_of_run(one, one, {}, 5 * one)  # half of eta, which is 1
        (tensor(0.5000, dtype=torch.float64), {})
    """

    def __init__(self, optimizer: Optimizer, schedule: RateSchedule) -> None:
        self.optimizer, self.schedule = optimizer, schedule

    @property
    def per_parameter(self) -> Sequence[str]:  # type: ignore[override] # see the class: they may be properties
        return self.optimizer.per_parameter

    @property
    def per_run(self) -> Sequence[str]:  # type: ignore[override]
        return self.optimizer.per_run

    @property
    def uses_square(self) -> bool:
        return self.optimizer.uses_square

    def rate_of_run(
        self, eta: Tensor, square: Tensor, state: Mapping[str, Tensor], iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.optimizer.rate_of_run(eta * self.schedule.factor(iteration), square, state, iteration)

    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        return self.optimizer.update(parameter, gradient, state, eta, iteration)

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self.optimizer.check(shapes)
