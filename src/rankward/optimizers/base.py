"""Interface of an optimizer: the state that it keeps, and one step of one factor."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor


class Optimizer(ABC):
    """One run's rule for a step, for each factor alone.

    A new one is a class like this in a file of its own and a YAML in `conf/optimizer/` whose `_target_` names it; the
    keys of the YAML are its constructor's arguments. `update` is traced with the loss and its gradients, and compiled.

    `per_parameter` names arrays that are kept for each factor, in its shape, and `per_run` names single numbers that
    all factors of a run share; both are zero at the start. They may be properties.

    An attribute that is a float, or a list or tuple with a float in it, is a number of the run: in `update` it is a 0-d
    tensor (or a tuple of them), so that runs with different numbers share one kernel and one ensemble. Every other
    attribute is a constant of the kernel.

    Example:
        >>> class Descent(Optimizer):
        ...     def update(self, parameter, gradient, state, eta, iteration):
        ...         return parameter - eta * gradient, {}
    """

    per_parameter: Sequence[str] = ()
    per_run: Sequence[str] = ()

    @abstractmethod
    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """One step of one factor of one run: the factor after it, and the state after it.

        Nothing is changed in place. The new numbers of `per_run` may depend on the old ones, `eta`, `iteration` and the
        optimizer's own numbers alone, since all factors share them.

        Args:
            parameter: the factor, without a runs axis.
            gradient: of the run's loss, in the factor's shape.
            state: by name, what `per_parameter` (the factor's shape) and `per_run` (0-d) name.
            eta: 0-d, the learning rate.
            iteration: 0-d, counts from 1. float32 counts to 2^24.
        """

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:  # noqa: B027 - most take any shapes
        """Refuse factors that the optimizer is not defined for.

        Args:
            shapes: of the factors, without a runs axis.

        Raises:
            ConfigError: the key, and the shape that does not fit.
        """

    @property
    def numbers(self) -> list[float]:
        """The numbers of the run, in the order of attributes.

        Example:
            >>> from rankward.optimizers import Adam
            >>> Adam(betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0).numbers
            [0.9, 0.99, 1e-08, 0.0]
        """
        return [number for value in vars(self).values() for number in _numbers(value)]

    def with_numbers(self, numbers: Sequence[Any]) -> Optimizer:
        """A copy with other numbers, floats or 0-d tensors, in the order of `numbers`."""
        made, left = copy.copy(self), iter(numbers)
        for name, value in vars(self).items():
            if count := len(list(_numbers(value))):
                several = isinstance(value, list | tuple)
                vars(made)[name] = tuple(next(left) for _ in range(count)) if several else next(left)
        return made

    @property
    def constants(self) -> tuple[object, ...]:
        """Everything that runs of one kernel share: the class, names of the state and of numbers, other attributes."""
        kept = [(name, len(list(_numbers(value))) or _text(value)) for name, value in vars(self).items()]
        return type(self), tuple(self.per_parameter), tuple(self.per_run), *kept


def _numbers(value: object) -> Iterator[float]:
    """The numbers of an attribute; none of one that is a constant."""
    each = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, float) for one in each) and all(type(one) in (float, int) for one in each):
        yield from map(float, each)


def _text(value: object) -> str:
    """A constant as a text that differs where the constant does."""
    return repr(value.tolist()) if hasattr(value, "tolist") else repr(value)
