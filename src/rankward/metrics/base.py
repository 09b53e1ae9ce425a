"""Base classes of metrics, which gather values over updates and fill columns of the trace."""

from __future__ import annotations

import inspect
import pickle
from abc import abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from math import prod
from typing import Any
from uuid import uuid4

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from rankward.metrics.functional.singular_values import singular_values as _singular_values

REDUCTIONS = ("mean", "none")


class TraceMetric(Metric):
    """A torchmetrics metric with a value for each matrix.

    A new one implements `update`, which names what it needs (product, singular_values, matricization_values, factors,
    chain, loss, ground_truth, iteration, initial, infimal_rank, completion, loss_function, loss_data,
    negative_gradient, step_size, tree; with held-out entries also values, observed, heldout) and appends values, runs
    axis first, to `measured`. It names its column, `column`, or implements `names`. Whatever it keeps beside these is a
    state too (`add_state`): torchmetrics resets, copies and synchronizes states alone.

    `compute` returns the mean of each column over all matrices since the last reset, [columns], a scalar where there is
    one column: so `self.log(name, metric)` works in a LightningModule over any number of batches. `gathered` and
    `columns` return each matrix's value, and so does `compute` with `reduce="none"`.

    Args:
        reduce: `mean` or `none`, of what `compute` returns.
        kwargs: torchmetrics' own.

    Attributes:
        column: the name of its only column, `group/name`; empty where `names` or `columns` is implemented.
        kind: what it can measure: a product that is a `vector`, a `matrix`, a `tensor` (of two axes or more) or `any`;
            or the factors W_1, ..., W_L of a `chain` of matrices, those of a CP factorization's `components`, or
            of a `hierarchical` one (of other factors it leaves no column, and a note in the summary).
        last_row_only: expensive: computed only for each run's last row, for the ensemble in one call; NaN in other
            rows.
        rows: expensive, as `last_row_only`, but measured in at most so many rows of a run: the row at iteration 0, rows
            evenly spaced in the logarithm of the iteration up to `max_iterations`, and the last row; 1 is the last row
            only. None: all rows.
        tried: measured once at the start of a run before training, so that a metric that raises is refused in time;
            False where even that takes long.

    Raises:
        ValueError: another `reduce`.

    Example:
        >>> from rankward.metrics import NuclearNorm
        >>> metric = NuclearNorm()
        >>> metric.update(torch.stack([torch.eye(2), 2 * torch.eye(2)]))
        >>> metric.update(torch.zeros(1, 2, 2))
        >>> metric.compute().item(), metric.gathered().tolist()
        (2.0, [2.0, 4.0, 0.0])
    """

    full_state_update = False
    column = ""
    kind = "any"
    last_row_only = False
    rows: int | None = None
    tried = True
    _state: str

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        """Name the state after class and arguments.

        A MetricCollection merges metrics whose states have the same names and agree after the first update: it updates
        one of them from then on, and the others share its values.
        """
        metric = super().__new__(cls)
        metric.__dict__["_state"] = f"measured_{_identity(cls, args, kwargs)}"
        return metric

    def __init__(self, reduce: str = "mean", **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if reduce not in REDUCTIONS:
            raise ValueError(f"reduce: {reduce!r} is not allowed; expected one of {', '.join(REDUCTIONS)}")
        self.reduce = reduce
        self.add_state(self._state, default=[], dist_reduce_fx="cat")

    @property
    def row_limit(self) -> int | None:
        """In how many rows of a run it is measured at most; None: in all."""
        return 1 if self.last_row_only else self.rows

    @property
    def measured(self) -> list[Tensor]:
        """Values of the updates since the last reset, runs axis first: `update` appends to it."""
        values: list[Tensor] = getattr(self, self._state)
        return values

    @property
    def has_values(self) -> bool:
        """Whether anything was measured since the last reset."""
        return len(self.measured) > 0  # a list, or one tensor while processes are synchronized

    def compute(self) -> Tensor:
        """The mean of each column, or with `reduce="none"` every value, float64; torchmetrics squeezes a single one.

        NaN where nothing was measured.
        """
        if self.reduce == "none":
            return self.gathered()
        means = [values.mean() for values in self.columns().values()] if self.has_values else []
        return torch.stack(means) if means else torch.full((1,), torch.nan, dtype=torch.float64)

    def gathered(self) -> Tensor:
        """Each matrix's values since the last reset: [runs, ...] float64; [0] where nothing was measured."""
        return dim_zero_cat(self.measured) if self.has_values else torch.zeros(0, dtype=torch.float64)

    def names(self, shape: Sequence[int]) -> list[str]:
        """The names of the columns where each matrix has values of this shape; no update is needed.

        Example:
            >>> from rankward.metrics import EffectiveRank, SingularValues
            >>> EffectiveRank().names(()), SingularValues().names((2,))
            (['rank/effective'], ['singular_value/0', 'singular_value/1'])
        """
        if not self.column:
            raise NotImplementedError(f"{type(self).__name__} names no column; give it `column`, `names` or `columns`")
        return [self.column]

    def columns(self) -> dict[str, Tensor]:
        """Each matrix's values since the last reset under the names of the trace's columns; none before an update."""
        if not self.has_values:
            return {}
        values = self.gathered()
        names = self.names(values.shape[1:])
        return stacked_columns(values.reshape(len(values), len(names)), names)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Add a batch, and return its value alone, with its gradient where the arguments have one.

        Values that are kept have none: a metric that is called in a training loop does not keep the loop's graphs.
        """
        value = super().forward(*args, **kwargs)
        self._forward_cache = value.detach()  # which `self.log` reads
        for name in self._defaults:
            kept = getattr(self, name)
            if isinstance(kept, Tensor):
                setattr(self, name, kept.detach())
                continue
            for at in range(len(kept) - 1, -1, -1):
                if not kept[at].requires_grad:
                    break
                kept[at] = kept[at].detach()
        return value

    def plot(self, val: Any = None, ax: Any = None) -> Any:
        """Plot `compute`, or values that `forward` or `compute` returned, with torchmetrics' own function."""
        return self._plot(val, ax)

    def notes(self) -> dict[str, str]:
        """Notes for the summary on how to read columns, by name."""
        return {}


class SpectralMetric(TraceMetric):
    """A metric of the singular values; they are computed from the product where they are not given."""

    kind = "matrix"

    def update(self, product: Tensor | None, singular_values: Tensor | None = None) -> None:
        """Measure each matrix of `product` [runs, d, d'], or a single one [d, d'].

        It is None where a product is too large to write down, and its singular values are known.

        Raises:
            TypeError: something that is not a tensor of real numbers.
            ValueError: no matrix.
        """
        self.measured.append(self.measure(spectra(product, singular_values)))

    @abstractmethod
    def measure(self, singular_values: Tensor) -> Tensor:
        """The value of each matrix, from its singular values in descending order."""


def _identity(cls: type, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """A name for a class and its constructor's arguments: the same in every process, different where these differ."""
    try:
        bound = inspect.signature(cls.__init__).bind(None, *args, **kwargs)  # type: ignore[misc]
        bound.apply_defaults()
        key = pickle.dumps((cls, bound.arguments))
    except Exception:  # arguments that do not fit or cannot be pickled: a unique name
        key = uuid4().bytes
    return f"{cls.__name__}_{sha256(key).hexdigest()[:16]}"


def arrays(product: Tensor, axes: int) -> Tensor:
    """Arrays of so many axes with one axis before them, from any number of leading axes, also none.

    Raises:
        TypeError: something that is not a tensor of real numbers.
        ValueError: fewer axes, or no entries.
    """
    if not isinstance(product, Tensor) or product.is_complex():
        given = product.dtype if isinstance(product, Tensor) else type(product).__name__
        raise TypeError(f"product: {given} is not allowed; expected a tensor of real numbers")
    if product.ndim < axes or not prod(product.shape[product.ndim - axes :]):
        expected = {1: "vectors [runs, d]", 2: "matrices [runs, d, d']"}[axes]
        raise ValueError(f"product: shape {list(product.shape)} is not allowed; expected {expected}")
    return product.reshape(-1, *product.shape[product.ndim - axes :])


def spectra(product: Tensor | None, singular_values: Tensor | None = None) -> Tensor:
    """Singular values [runs, n] of each matrix of `product`, computed where they are not given."""
    if singular_values is not None:
        return singular_values
    return _singular_values(arrays(product, 2))  # type: ignore[arg-type]


def stacked_columns(values: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The last axis of `values` as one column a name."""
    return dict(zip(names, torch.unbind(values, dim=-1), strict=True))


def positive(name: str, value: int) -> int:
    """An argument that must be an integer of at least 1; a ValueError names it."""
    if isinstance(value, bool) or not (isinstance(value, int) and value >= 1):
        raise ValueError(f"{name}: {value!r} is not allowed; expected an integer of at least 1")
    return value
