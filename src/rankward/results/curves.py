"""Curves of a metric against the loss: runs interpolated at common losses, with their medians and quartiles."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from rankward.results.columns import aggregated_values

if TYPE_CHECKING:
    import polars as pl

Curve = tuple[np.ndarray, np.ndarray]  # loss and value of each row, in the run's order


def common_losses(curves: Sequence[Curve], points: int = 100) -> Float[np.ndarray, " points"]:
    """Losses from the largest to the smallest that every curve has passed, evenly spaced on a log axis.

    Raises:
        ValueError: no curve, or none with losses in common.

    Example:
        >>> one = np.array([1.0, 0.1, 0.01]), np.array([1.0, 2.0, 3.0])
        >>> two = np.array([2.0, 0.05]), np.array([1.0, 5.0])
        >>> common_losses([one, two], 3).round(3).tolist()
        [1.0, 0.224, 0.05]
    """
    falling = [_falling(loss, value)[0] for loss, value in curves]
    if not falling or any(not losses.size for losses in falling):
        raise ValueError("no curve with a positive finite loss")
    largest, smallest = min(losses[0] for losses in falling), max(losses[-1] for losses in falling)
    if smallest > largest:
        raise ValueError("the curves have no losses in common")
    grid: Float[np.ndarray, " points"] = np.geomspace(largest, smallest, points)
    return grid


def at_losses(loss: np.ndarray, value: np.ndarray, grid: np.ndarray) -> Float[np.ndarray, " points"]:
    """A curve's value when its loss first falls to each loss of the grid, linear in the loss's logarithm between rows.

    NaN if the curve never reaches it.

    Example:
        >>> at_losses(np.array([1.0, 0.01]), np.array([0.0, 2.0]), np.array([0.1, 0.001])).tolist()
        [1.0, nan]
    """
    losses, values = _falling(loss, value)
    if not losses.size:
        return np.full(len(grid), np.nan)
    first, last = (np.isclose(grid, edge, rtol=1e-12, atol=0) for edge in (losses[0], losses[-1]))
    found = np.interp(-np.log(grid), -np.log(losses), values, left=np.nan, right=np.nan)
    return np.select([first, last], [values[0], values[-1]], found)  # rounding may put the ends outside the curve


def _falling(loss: np.ndarray, value: np.ndarray) -> Curve:
    """The rows at which the loss is lower than ever before."""
    valid = np.isfinite(loss) & (loss > 0) & np.isfinite(value)
    loss, value = loss[valid], value[valid]
    lower = loss < np.concatenate([[np.inf], np.minimum.accumulate(loss)[:-1]]) if loss.size else valid[:0]
    return loss[lower], value[lower]


def bands(curves: Sequence[Curve], points: int = 100) -> pl.DataFrame:
    """Median and quartiles of a metric over runs, at losses that all have passed: `loss`, `median`, `low`, `high`.

    Raises:
        ValueError: as `common_losses`.
    """
    import polars as pl

    grid = common_losses(curves, points)
    values = np.stack([at_losses(loss, value, grid) for loss, value in curves])
    low, median, high = np.nanquantile(values, [0.25, 0.5, 0.75], axis=0)
    return pl.DataFrame({"loss": grid, "median": median, "low": low, "high": high})


def by_setting(
    rows: pl.DataFrame,
    runs: pl.DataFrame,
    column: str,
    by: Sequence[str],
    points: int = 100,
    strict: bool = True,
    absolute: bool | None = None,
) -> pl.DataFrame:
    """`bands` of the runs that agree in the keys `by`, for one setting after the other.

    Args:
        rows: of the traces, with columns `run`, `loss` and the metric.
        runs: one row per run, with its name in `run`, and the keys.
        column: the metric.
        by: keys that identify a setting.
        points: losses at which the runs are compared.
        strict: False leaves out settings whose runs have no losses in common, for example because one diverged.
        absolute: whether absolute values are aggregated; None applies the rule for the column
            (`columns.is_absolute`).

    Returns:
        Columns `by`, `loss`, `median`, `low`, `high`, `runs`; no rows if no setting is left.

    Raises:
        ValueError: as `common_losses`, unless `strict` is False.
    """
    import polars as pl

    rows = rows.select("run", "loss", aggregated_values(column, absolute)).drop_nulls(column)
    parts_by_run = rows.partition_by("run", as_dict=True)
    curves: dict[str, Curve] = {
        str(name): (part["loss"].to_numpy(), part[column].to_numpy()) for (name,), part in parts_by_run.items()
    }
    kinds = {key: runs.schema[key] for key in by}
    numbers = dict.fromkeys(("loss", "median", "low", "high"), pl.Float64)
    parts = [pl.DataFrame(schema={**kinds, **numbers, "runs": pl.Int32})]
    for values, group in runs.group_by(list(by) or [pl.lit(0)], maintain_order=True):
        group_curves = [curves[run] for run in group["run"].cast(pl.String) if run in curves]
        if not group_curves:
            continue
        try:
            band = bands(group_curves, points)
        except ValueError:
            if strict:
                raise
            continue
        keys = [pl.lit(value, kinds[key]).alias(key) for key, value in zip(by, values, strict=False)]
        parts.append(band.select(*keys, pl.all(), pl.lit(len(group_curves)).cast(pl.Int32).alias("runs")))
    return pl.concat(parts)
