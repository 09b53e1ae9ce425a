"""Interface of an optimizer: the state that it keeps, the rate of a run's step, and the step of one factor."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from torch import Tensor

from rankward.optimizers.parameters import Parameters


class Optimizer(Parameters, ABC):
    """One run's rule for a step.

    A new one is a class like this in a file of its own and a YAML in `conf/optimizer/` whose `_target_` names it; the
    keys of the YAML are its constructor's arguments. `update` is traced with the loss and its gradients, and compiled.

    `per_parameter` names arrays that are kept for each factor, in its shape, and `per_run` names single numbers that
    all factors of a run share; both are zero at the start. They may be properties. `update` steps each factor alone;
    `rate_of_run`, which need not be written, is what all factors have in common.

    Attributes are numbers of the run or constants of the kernel; see `Parameters`.

    Example:
        >>> class Descent(Optimizer):
        ...     def update(self, parameter, gradient, state, eta, iteration):
        ...         return parameter - eta * gradient, {}
    """

    per_parameter: Sequence[str] = ()
    per_run: Sequence[str] = ()

    def rate_of_run(
        self, eta: Tensor, square: Tensor, state: Mapping[str, Tensor], iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The learning rate of a run's step, which `update` is given as `eta`, and numbers of `per_run` after it.

        It is called once a step, before `update`. Those of `per_run` that it returns are in the state that `update` is
        given, and are not returned by `update`. Without this method the learning rate is `eta`.

        Args:
            eta: 0-d, the learning rate of the config, times the factor of a schedule.
            square: 0-d, the squared norm of all gradients of the run. Kernels add squares from the last factor to the
                first, each in row-major order.
            state: by name, what `per_run` names, 0-d each.
            iteration: 0-d, counts from 1.

        Example:
            >>> import torch
            >>> class Clipped(Optimizer):  # the step is at most eta long
            ...     def rate_of_run(self, eta, square, state, iteration):
            ...         return eta / square.sqrt().clamp(min=1), {}
            ...     def update(self, parameter, gradient, state, eta, iteration):
            ...         return parameter - eta * gradient, {}
            >>> Clipped().rate_of_run(torch.tensor(0.5), torch.tensor(4.0), {}, torch.tensor(1.0))
            (tensor(0.2500), {})
        """
        return eta, {}

    @property
    def uses_square(self) -> bool:
        """Whether `rate_of_run` is more than `eta`, so that engines compute the squared norm."""
        return type(self).rate_of_run is not Optimizer.rate_of_run

    @abstractmethod
    def update(
        self, parameter: Tensor, gradient: Tensor, state: Mapping[str, Tensor], eta: Tensor, iteration: Tensor
    ) -> tuple[Tensor, Mapping[str, Tensor]]:
        """One step of one factor of one run: the factor after it, and the state after it.

        Nothing is changed in place. The new numbers of `per_run` that it returns may depend on the old ones, `eta`,
        `iteration` and the optimizer's own numbers alone, since all factors share them.

        Args:
            parameter: the factor, without a runs axis.
            gradient: of the run's loss, in the factor's shape.
            state: by name, what `per_parameter` (the factor's shape) and `per_run` (0-d) name.
            eta: 0-d, the learning rate, from `rate_of_run`.
            iteration: 0-d, counts from 1. float32 counts to 2^24.
        """

    def check(self, shapes: Sequence[tuple[int, ...]]) -> None:
        """Refuse factors that the optimizer is not defined for.

        Args:
            shapes: of the factors, without a runs axis.

        Raises:
            ConfigError: the key, and the shape that does not fit.
        """

    @property
    def constants(self) -> tuple[object, ...]:
        """Everything that runs of one kernel share: also the names of the state."""
        return *super().constants, tuple(self.per_parameter), tuple(self.per_run)
