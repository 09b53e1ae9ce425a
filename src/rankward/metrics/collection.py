"""All metrics of many recorded iterations at once, each shared piece computed once."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

from torch import Tensor

from rankward.linalg import product_matrix
from rankward.metrics.base import TraceMetric
from rankward.metrics.functional.matricizations import matricization_singular_values
from rankward.metrics.functional.singular_values import singular_values

Context = Tensor | Sequence[Tensor] | Mapping[str, Any]  # mappings of any depth, to tensors

BLOCK_BYTES = 2**21  # of products: a block and what is made of it stay in cache

# What several metrics share, made of the product where one of them asks for it.
DERIVED: dict[str, Callable[[Tensor], object]] = {
    "singular_values": singular_values,
    "matricization_values": matricization_singular_values,
}


class MetricError(RuntimeError):
    """A metric that raised, or filled its columns wrongly, by its name in the config."""

    def __init__(self, name: str, what: str) -> None:
        super().__init__(f"metrics.columns.{name}: {what}")


def measure(
    metrics: Mapping[str, TraceMetric],
    factors: Sequence[Tensor],
    product: Callable[[Sequence[Tensor]], Tensor] = product_matrix,
    is_chain: bool = True,
    **context: Context | None,
) -> dict[str, Tensor]:
    """Every metric's columns for recorded factors.

    Args:
        metrics: by name; each gets those of product, singular_values, matricization_values, factors, chain and
            `context` that its `update` names.
        factors: [rows, *shape] each: W_1, ..., W_L, or what `product` takes.
        product: from factors to the array that they stand for, [rows, *dims] float64.
        is_chain: whether that is W_L ... W_1; only then is `chain` offered, the same factors.
        context: more tensors with a rows axis (loss, ground_truth, iteration, infimal_rank), lists of them (initial),
            mappings to them (solutions), or None.

    Returns:
        [rows] float64 each.

    Raises:
        TypeError: a metric that asks for something that is not there.
        MetricError: a metric that raises, or a column without a value for each row.
        ValueError: two metrics that fill the same column.
    """
    context = {"chain": factors if is_chain else None, **context}
    wanted = {name: _arguments(name, metric, context) for name, metric in metrics.items()}
    asked = {key for keys in wanted.values() for key in keys}
    rows = len(factors[0])
    block = max(1, BLOCK_BYTES // (8 * prod(product([factor[:1] for factor in factors]).shape[1:])))
    for start in range(0, max(rows, 1), block):
        here = slice(start, start + block)
        part = [factor[here] for factor in factors]
        whole = product(part).contiguous()
        offered: dict[str, object] = {name: _part(value, here) for name, value in context.items() if value is not None}
        offered |= {"product": whole, "factors": part}
        for name, derive in DERIVED.items():
            if name in asked:
                offered[name] = derive(whole)
        for name, metric in metrics.items():
            try:
                metric.update(**{key: offered[key] for key in wanted[name] if key in offered})
            except Exception as error:  # a user's own may raise anything
                raise MetricError(name, f"{type(error).__name__}: {error}") from error
    columns: dict[str, Tensor] = {}
    for name, metric in metrics.items():
        filled = metric.columns()
        for column, values in filled.items():
            if values.shape != (rows,):
                shape = f"{len(values)} values" if values.ndim == 1 else f"shape {list(values.shape)}"
                raise MetricError(name, f"column {column!r} has {shape} for {rows} rows")
        if doubled := sorted(filled.keys() & columns.keys()):
            raise ValueError(f"metrics.columns.{name}: column {doubled[0]!r} is filled by another metric already")
        columns |= filled
        metric.reset()
    return columns


def _part(value: Context, here: slice) -> object:
    if isinstance(value, Tensor):
        return value[here]
    if isinstance(value, Mapping):
        return {name: _part(each, here) for name, each in value.items()}
    return [each[here] for each in value]


def _arguments(name: str, metric: TraceMetric, context: Mapping[str, object]) -> list[str]:
    known = {"product", "factors", *DERIVED, *(key for key, value in context.items() if value is not None)}
    for key, parameter in arguments(metric).items():
        if key not in known and parameter.default is inspect.Parameter.empty:
            raise TypeError(f"metrics.columns.{name}: needs {key!r}; this run offers {', '.join(sorted(known))}")
    return list(arguments(metric))


def arguments(metric: TraceMetric) -> dict[str, inspect.Parameter]:
    """What a metric's `update` names."""
    named = inspect.signature(type(metric).update).parameters
    return {key: parameter for key, parameter in named.items() if key != "self"}
