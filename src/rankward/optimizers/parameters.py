"""Parameters of optimizers and schedules: numbers, which differ between the runs of a kernel, and constants."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

P = TypeVar("P", bound="Parameters")


class Parameters:
    """Numbers of a run and constants of a kernel, by what an attribute is.

    An attribute that is a float, or a list or tuple with a float in it, is a number of the run: while a step is
    computed it is a 0-d tensor (or a tuple of them), so that runs with different numbers share one kernel and one
    ensemble. Every other attribute is a constant of the kernel. The numbers of an attribute that itself has parameters
    are numbers, too.
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

    def with_numbers(self: P, numbers: Sequence[Any]) -> P:
        """A copy with other numbers, floats or 0-d tensors, in the order of `numbers`."""
        made, left = copy.copy(self), iter(numbers)
        for name, value in vars(self).items():
            if given := tuple(next(left) for _ in _numbers(value)):
                if isinstance(value, Parameters):
                    vars(made)[name] = value.with_numbers(given)
                else:
                    vars(made)[name] = given if isinstance(value, list | tuple) else given[0]
        return made

    @property
    def constants(self) -> tuple[object, ...]:
        """Everything that runs of one kernel share: the class, names of the numbers, other attributes."""
        return type(self), *((name, _constant(value)) for name, value in vars(self).items())


def _numbers(value: object) -> Iterator[float]:
    """The numbers of an attribute; none of one that is a constant."""
    if isinstance(value, Parameters):
        yield from value.numbers
        return
    each = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(one, float) for one in each) and all(type(one) in (float, int) for one in each):
        yield from map(float, each)


def _constant(value: object) -> object:
    """A constant as a text that differs where the constant does; of numbers their count."""
    if isinstance(value, Parameters):
        return value.constants
    return len(list(_numbers(value))) or (repr(value.tolist()) if hasattr(value, "tolist") else repr(value))
