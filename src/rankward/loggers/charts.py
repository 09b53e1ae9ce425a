"""Charts of a sweep's summary in W&B: medians over seeds of metrics against the loss, with their bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rankward import results
from rankward.results.columns import label
from rankward.results.curves import by_setting
from rankward.results.load import Sweep

MOST_RUNS, MOST_LINES, POINTS = 2000, 24, 60
LOG = ("entry/", "norm/")  # columns drawn as logarithms
Lines = dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Chart:
    """Lines for `wandb.plot.line_series`.

    Args:
        title: of the chart.
        lines: x and y values, by name.
    """

    title: str
    lines: Lines


def charts(sweep: Sweep) -> dict[str, Chart]:
    """A chart for every metric with a bound, or for the reconstruction error if no metric has one; and held-out errors.

    Each setting (runs that differ only in seeds) has a line, with another for the bound. There are no charts for more
    than `MOST_RUNS` runs or `MOST_LINES` lines, and for metrics whose runs have no losses in common.

    Raises:
        ResultsError: traces that cannot be read.
    """
    if sweep.runs.height > MOST_RUNS:
        return {}
    traces = sweep.traces()
    columns = traces.collect_schema().names()
    shown = [name for name in columns if f"bound/{name}" in columns]
    shown = shown or [name for name in columns if name == "error/reconstruction"]
    shown += [name for name in columns if name == "error/heldout_rmse"]
    read = [name for metric in shown for name in (metric, f"bound/{metric}") if name in columns]
    rows = traces.select("run", "loss", *read).collect()
    by = [key for key in results.varying(sweep.runs) if not results.is_seed(key)]
    if sweep.runs.select(by).n_unique() > MOST_LINES // 2:
        return {}
    result = {}
    for metric in shown:
        log = metric.startswith(LOG)
        lines: Lines = {}
        for name in (metric, f"bound/{metric}"):
            if name in columns:
                lines |= _lines(by_setting(rows, sweep.runs, name, by, POINTS, strict=False), by, name, log)
        if lines:
            result[metric] = Chart(f"{'log10 ' * log}{label(metric)} by loss", lines)
    return result


def _lines(curves: pl.DataFrame, by: list[str], column: str, log: bool) -> Lines:
    """Lines of medians against minus the logarithm of the loss, which falls to the right.

    A negative bound, which is trivially satisfied, has no logarithm; such points are left out.
    """
    lines = {}
    for values, part in curves.partition_by(by, as_dict=True, maintain_order=True).items() if by else [((), curves)]:
        size = part["median"].log10() if log else part["median"]
        finite = size.is_finite()
        setting = ", ".join(f"{key.removesuffix('.name')} {value}" for key, value in zip(by, values, strict=True))
        name = (setting or "median") + " (bound)" * column.startswith("bound/")
        if finite.any():
            x = -np.log10(part["loss"].filter(finite).to_numpy())
            lines[name] = (x.tolist(), size.filter(finite).to_list())
    return lines
