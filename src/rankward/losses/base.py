"""Interface of a loss: its value at one observed entry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor


class Loss(ABC):
    """One run's price of a prediction, at each observed entry alone.

    A new one is a class like this in a file of its own and a YAML in `conf/loss/` whose `_target_` names it; the keys
    of the YAML are its constructor's arguments. `value` is traced with the factorization, differentiated and compiled.
    Attributes are constants of the kernel: runs that differ in them train in ensembles of their own.

    A run's loss is one of two reductions of the values at its n observed entries (or of its n measurements):

    - `half_sum`, their sum; of the squared loss it is the half sum of squares (Equation 1), since a value has the half;
    - `mean`, their sum times `in_mean` / n. `in_mean` is 2 for the squared loss, whose mean is the mean squared error,
      and 1 for the others. So `mean` is that of torch's function of the same name.

    Example:
        >>> class Cosh(Loss):
        ...     def value(self, prediction, observed):
        ...         return (prediction - observed).cosh().log()
    """

    in_mean: ClassVar[float] = 1.0
    smooth: ClassVar[bool] = True  # whether the derivative is continuous, which gradient flow needs
    expected: ClassVar[str] = "finite numbers"  # which observed values `allows` accepts, in words

    @abstractmethod
    def value(self, prediction: Tensor, observed: Tensor) -> Tensor:
        """The value at each entry, which depends on this entry alone; its derivative is that of torch's autograd.

        Unobserved entries of the arrays are also passed, with an observed value of 0; what is returned for them is not
        used, also where it is not finite.

        Args:
            prediction: entries of the product, or sensing matrices' inner products with it; without a runs axis.
            observed: their observed values, of that shape.

        Returns:
            An array of that shape. A value or a derivative that is not finite ends the run as diverged.
        """

    def allows(self, observed: Tensor) -> Tensor:
        """Whether each observed value is in the domain of the loss; runs with others are refused."""
        return observed.isfinite()

    @property
    def constants(self) -> tuple[object, ...]:
        """The class and its attributes: losses with equal constants are the same function."""
        return type(self), *((name, _text(value)) for name, value in sorted(vars(self).items()))


def _text(value: object) -> str:
    """A constant as a text that differs where the constant does."""
    return repr(value.tolist()) if hasattr(value, "tolist") else repr(value)


def check_value(loss: Loss) -> None:
    """Try a loss, and refuse one whose value is none of each entry alone.

    Args:
        loss: with the numbers of a run.

    Raises:
        ValueError: the function raises, returns something else than an array of that shape, or mixes entries.
    """
    prediction = torch.linspace(0.3, 1.7, 6, dtype=torch.float64).reshape(2, 3)
    observed = torch.tensor([[1.0, -1.0, 1.0], [-1.0, 1.0, -1.0]], dtype=torch.float64)
    try:
        made = loss.value(prediction, observed)
        alone = [loss.value(each, one) for each, one in zip(prediction.flatten(), observed.flatten(), strict=True)]
    except Exception as error:  # a user's own function may raise anything
        raise ValueError(f"a value that can be computed ({type(error).__name__}: {error})") from error
    if not (isinstance(made, Tensor) and made.shape == prediction.shape and made.dtype == prediction.dtype):
        raise ValueError("a value that returns a tensor of the prediction's shape and type")
    if not torch.allclose(made.flatten(), torch.stack(alone), rtol=1e-12, atol=1e-300, equal_nan=True):
        raise ValueError("a value at each entry that depends on this entry alone")
