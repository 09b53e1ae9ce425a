"""Compute all metrics of recorded iterations, with each shared intermediate computed once."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

from rankward.linalg import product_matrix
from rankward.metrics.base import TraceMetric
from rankward.metrics.functional.matricizations import matricization_singular_values
from rankward.metrics.functional.singular_values import singular_values
from rankward.mode_tree import ModeTree

# Mappings of any depth, to tensors; functions from a slice of the rows to what a metric gets for them.
Context = Tensor | Sequence[Tensor] | Mapping[str, Any] | ModeTree | Callable[[slice], Any]

BLOCK_BYTES = 2**21  # bytes of products in a block of rows: it stays in cache while all metrics read it

# Intermediates that several metrics share, computed from the product if a metric asks for them.
DERIVED: dict[str, Callable[[Tensor], object]] = {
    "singular_values": singular_values,
    "matricization_values": matricization_singular_values,
}


class MetricError(RuntimeError):
    """An error of a metric, with the metric's name in the config."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"metrics.columns.{name}: {reason}")


def measure(
    metrics: Mapping[str, TraceMetric],
    factors: Sequence[Tensor],
    product: Callable[[Sequence[Tensor]], Tensor] | None = product_matrix,
    is_chain: bool = True,
    taken: Collection[str] = (),
    is_spectral: bool = False,
    **context: Context | None,
) -> dict[str, Tensor]:
    """Compute the columns of every metric for recorded factors.

    Args:
        metrics: by name; each gets those of product, singular_values, matricization_values, factors, chain,
            spectral and `context` that its `update` names.
        factors: [rows, *shape] each: W_1, ..., W_L, or the arguments of `product`.
        product: from factors to the array that they represent, [rows, *dims] float64. None for one that is too large
            to write down: the metrics are then some of those that `measurable_without_product`.
        is_chain: whether the product is W_L ... W_1; only then metrics get `chain`, which is the factors.
        taken: names of columns that others fill.
        is_spectral: whether the factors are U, ln sigma and V of the product; only then metrics get them as `spectral`.
        context: more tensors with a rows axis (loss, ground_truth, iteration, infimal_rank), lists of them (initial),
            mappings to them (solutions), functions from a slice of the rows to what metrics get for them (values,
            observed, heldout, loss_function, negative_gradient), the mode tree of all rows (tree), or None.

    Returns:
        [rows] float64 each.

    Raises:
        TypeError: a metric needs an argument that this run does not have.
        MetricError: a metric raises, or a column does not have one value for each row.
        ValueError: two metrics fill the same column, or one fills a taken one.
    """
    context = {"chain": factors if is_chain else None, "spectral": factors if is_spectral else None, **context}
    names = {name: _arguments(name, metric, context) for name, metric in metrics.items()}
    needed = {argument for each in names.values() for argument in each}
    rows = len(factors[0])
    numbers = (
        sum(factor[:1].numel() for factor in factors)
        if product is None
        else prod(product([factor[:1] for factor in factors]).shape[1:])
    )
    block = max(1, BLOCK_BYTES // max(8, 8 * numbers))
    for start in range(0, max(rows, 1), block):
        rows_of_block = slice(start, start + block)
        block_factors = [factor[rows_of_block] for factor in factors]
        block_product = None if product is None else product(block_factors).contiguous()
        values: dict[str, object] = {
            name: _select(value, rows_of_block) for name, value in context.items() if value is not None
        }
        values |= {"product": block_product, "factors": block_factors}
        if block_product is not None:
            values |= {name: derive(block_product) for name, derive in DERIVED.items() if name in needed}
        for name, metric in metrics.items():
            try:
                metric.update(**{argument: values[argument] for argument in names[name] if argument in values})
            except Exception as error:  # a user's metric may raise anything
                raise MetricError(name, f"{type(error).__name__}: {error}") from error
    columns: dict[str, Tensor] = {}
    for name, metric in metrics.items():
        filled = metric.columns()
        for column, measured in filled.items():
            if measured.shape != (rows,):
                shape = f"{len(measured)} values" if measured.ndim == 1 else f"shape {list(measured.shape)}"
                raise MetricError(name, f"column {column!r} has {shape} for {rows} rows")
        if duplicates := sorted(filled.keys() & {*columns, *taken}):
            raise ValueError(f"metrics.columns.{name}: another metric already fills column {duplicates[0]!r}")
        columns |= filled
        metric.reset()
    return columns


def measurable_without_product(metric: TraceMetric, singular_values: bool) -> bool:
    """Whether a metric can measure factors whose product is too large to write down.

    Args:
        metric: of a run.
        singular_values: whether those of the product are known, so that metrics of these need no product.

    Example:
        >>> from rankward.metrics import NuclearNorm, ParameterNorm, ProductEntries
        >>> [measurable_without_product(metric(), True) for metric in (NuclearNorm, ParameterNorm, ProductEntries)]
        [True, True, False]
    """
    names = arguments(metric).keys()
    if names & {"loss_function", "loss_data", "negative_gradient", "matricization_values", "ground_truth", "solutions"}:
        return False
    return ("singular_values" in names) <= singular_values and ("product" not in names or "singular_values" in names)


def _select(value: Context, rows: slice) -> object:
    """Slice the rows axis of every tensor in a value."""
    if isinstance(value, ModeTree):
        return value
    if isinstance(value, Tensor):
        return value[rows]
    if isinstance(value, Mapping):
        return {name: _select(each, rows) for name, each in value.items()}
    if callable(value):
        return value(rows)
    return [each[rows] for each in value]


def _arguments(name: str, metric: TraceMetric, context: Mapping[str, object]) -> list[str]:
    """The names of a metric's arguments; TypeError if a required one is missing from this run."""
    known = {"product", "factors", *DERIVED, *(key for key, value in context.items() if value is not None)}
    for argument, parameter in arguments(metric).items():
        if argument not in known and parameter.default is inspect.Parameter.empty:
            raise TypeError(f"metrics.columns.{name}: needs {argument!r}; this run offers {', '.join(sorted(known))}")
    return list(arguments(metric))


def arguments(metric: TraceMetric) -> Mapping[str, inspect.Parameter]:
    """The parameters of a metric's `update`, by name."""
    return _parameters(type(metric))


@functools.cache
def _parameters(metric: type[TraceMetric]) -> Mapping[str, inspect.Parameter]:
    named = inspect.signature(metric.update).parameters
    return {name: parameter for name, parameter in named.items() if name != "self"}
