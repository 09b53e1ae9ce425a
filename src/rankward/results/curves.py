"""Medians and quartiles of a metric over runs: against the loss, the iteration or a key, and for pairs of keys."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
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
    return _by_setting(rows, runs, "loss", column, by, partial(bands, points=points), strict, absolute)


def along(
    rows: pl.DataFrame, runs: pl.DataFrame, x: str, column: str, by: Sequence[str], absolute: bool | None = None
) -> pl.DataFrame:
    """Median and quartiles of a metric at common iterations or times, linear between the rows of a run.

    They go from the latest first row to the earliest last row of the runs of a setting.

    Args:
        rows: of the traces, with columns `run`, `x` and the metric.
        runs, column, by, absolute: as of `by_setting`.
        x: `iteration` or `time`.

    Returns:
        Columns `by`, `x`, `median`, `low`, `high`, `runs`.

    Example:
        >>> import polars as pl
        >>> rows = pl.DataFrame({"run": ["0", "0", "1", "1"], "iteration": [0, 4, 0, 2], "loss": [4.0, 0, 2, 2]})
        >>> along(rows, pl.DataFrame({"run": ["0", "1"]}), "iteration", "loss", [])["median"].to_list()
        [3.0, 2.0]
    """
    return _by_setting(rows, runs, x, column, by, partial(_common, x=x), False, absolute)


def _common(curves: Sequence[Curve], x: str) -> pl.DataFrame:
    import polars as pl

    finite = [(at[valid], value[valid]) for at, value in curves if (valid := np.isfinite(value)).any()]
    if not finite:
        raise ValueError("no curve with a finite value")
    first, last = max(at[0] for at, _ in finite), min(at[-1] for at, _ in finite)
    grid = np.unique(np.concatenate([at for at, _ in finite]))
    grid = grid[(grid >= first) & (grid <= last)]
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, 400).round().astype(int))] if len(grid) else grid
    low, median, high = np.quantile([np.interp(grid, *curve) for curve in finite], [0.25, 0.5, 0.75], axis=0)
    return pl.DataFrame({x: grid.astype(np.float64), "median": median, "low": low, "high": high})


def against(runs: pl.DataFrame, x: str, column: str, by: Sequence[str], absolute: bool | None = None) -> pl.DataFrame:
    """Median and quartiles of a metric's last values over the runs that agree in `by` and in a number `x`.

    Args:
        runs: one row per run, with columns `by`, `x` and the metric; values that are null or NaN are left out.
        absolute: as of `by_setting`.

    Returns:
        Columns `by`, `x`, `median`, `low`, `high`, `runs`, sorted by `x`.

    Raises:
        ValueError: an `x` that is not a number.

    Example:
        >>> import polars as pl
        >>> runs = pl.DataFrame({"seed": [0, 1, 0], "lr.eta": [0.1, 0.1, 0.2], "entry/0_0": [-1.0, 3.0, 5.0]})
        >>> against(runs, "lr.eta", "entry/0_0", []).rows()
        [(0.1, 2.0, 1.5, 2.5, 2), (0.2, 5.0, 5.0, 5.0, 1)]
    """
    import polars as pl

    if not runs.schema[x].is_numeric():
        raise ValueError(f"x: {x!r} is not a column of numbers; `by` and `facet` take any")
    keys = [*dict.fromkeys([*by, x])]
    value = aggregated_values(column, absolute).cast(pl.Float64).alias("value")
    finite = runs.select(*keys, value).filter(pl.col("value").is_not_nan())
    value = pl.col("value")
    return (
        finite.group_by(keys, maintain_order=True)
        .agg(
            value.median().alias("median"),
            value.quantile(0.25, "linear").alias("low"),
            value.quantile(0.75, "linear").alias("high"),
            pl.len().alias("runs"),
        )
        .sort(x, maintain_order=True)
    )


def medians(runs: pl.DataFrame, column: str, first: str, second: str, absolute: bool | None = None) -> pl.DataFrame:
    """The median of a metric's last values for each pair of values of two keys.

    Args:
        runs: one row per run; values that are null or NaN are left out.
        absolute: as of `by_setting`.

    Returns:
        Columns `first`, `second`, `median`, `runs`, sorted by both; a pair without a value has no row.

    Example:
        >>> import polars as pl
        >>> runs = pl.DataFrame({"depth": [2, 2, 3], "lr": [1, 1, 1], "entry/0_0": [-1.0, 3.0, float("nan")]})
        >>> medians(runs, "entry/0_0", "depth", "lr", absolute=False).rows()
        [(2, 1, 1.0, 2)]
    """
    import polars as pl

    value = aggregated_values(column, absolute).cast(pl.Float64).alias("value")
    finite = runs.select(first, second, value).filter(pl.col("value").is_not_nan())
    summed = finite.group_by(first, second).agg(pl.col("value").median().alias("median"), pl.len().alias("runs"))
    return summed.sort(first, second)


def _by_setting(
    rows: pl.DataFrame,
    runs: pl.DataFrame,
    x: str,
    column: str,
    by: Sequence[str],
    band_of: Callable[[Sequence[Curve]], pl.DataFrame],
    strict: bool,
    absolute: bool | None,
) -> pl.DataFrame:
    import polars as pl

    value = aggregated_values(column, absolute).alias("value")  # `column` may be `x` itself
    rows = rows.select("run", x, value).drop_nulls()
    parts_by_run = rows.partition_by("run", as_dict=True)
    curves: dict[str, Curve] = {
        str(name): (part[x].to_numpy(), part["value"].to_numpy()) for (name,), part in parts_by_run.items()
    }
    kinds = {key: runs.schema[key] for key in by}
    numbers = dict.fromkeys((x, "median", "low", "high"), pl.Float64)
    parts = [pl.DataFrame(schema={**kinds, **numbers, "runs": pl.Int32})]
    for values, group in runs.group_by(list(by) or [pl.lit(0)], maintain_order=True):
        group_curves = [curves[run] for run in group["run"].cast(pl.String) if run in curves]
        if not group_curves:
            continue
        try:
            band = band_of(group_curves)
        except ValueError:
            if strict:
                raise
            continue
        keys = [pl.lit(value, kinds[key]).alias(key) for key, value in zip(by, values, strict=False)]
        parts.append(band.select(*keys, pl.all(), pl.lit(len(group_curves)).cast(pl.Int32).alias("runs")))
    return pl.concat(parts)
