"""Base classes of metrics, which gather values over updates and fill columns of the trace."""

from __future__ import annotations

import inspect
import pickle
from abc import abstractmethod
from hashlib import sha256
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
    negative_gradient, step_size, tree; with held-out entries also values, observed, heldout) and appends values to
    `measured`, and `columns`. What it keeps beside these is a state too (`add_state`): torchmetrics resets, copies and
    synchronizes states alone.

    `compute` returns the mean of each column over all matrices since the last reset, [columns], a scalar where there is
    one column: so `self.log(name, metric)` works in a LightningModule over any number of batches. `gathered` and
    `columns` return each matrix's value, and so does `compute` with `reduce="none"`.

    Args:
        reduce: `mean` or `none`, of what `compute` returns.
        kwargs: torchmetrics' own.

    Attributes:
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

    @abstractmethod
    def columns(self) -> dict[str, Tensor]:
        """The computed values under the names of the trace's columns."""

    def notes(self) -> dict[str, str]:
        """Notes for the summary on how to read columns, by name."""
        return {}


class SpectralMetric(TraceMetric):
    """A metric of the singular values; they are computed from the product where they are not given."""

    kind = "matrix"

    def update(self, product: Tensor, singular_values: Tensor | None = None) -> None:
        """Measure each matrix of `product` [runs, ..., d, d']."""
        values = _singular_values(product) if singular_values is None else singular_values
        self.measured.append(self.measure(values))

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


def stacked_columns(values: Tensor, names: list[str]) -> dict[str, Tensor]:
    """The last axis of `values` as one column a name."""
    return dict(zip(names, torch.unbind(values, dim=-1), strict=True))


def check_largest(largest: int) -> None:
    """Refuse, by a ValueError, a number of columns that is not an integer of at least 1."""
    if not (isinstance(largest, int) and largest >= 1):
        raise ValueError(f"largest: {largest} is not allowed; expected an integer of at least 1")
