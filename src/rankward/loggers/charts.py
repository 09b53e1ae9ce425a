"""What a sweep's summary run shows in W&B: metrics against the loss, each with its bound, medians over seeds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from rankward import results
from rankward.results.columns import label
from rankward.results.curves import by_setting
from rankward.results.load import Sweep

MOST_RUNS, MOST_LINES, POINTS = 2000, 24, 60
LOG = ("entry/", "norm/")  # drawn as logarithms
Lines = dict[str, tuple[list[float], list[float]]]


@dataclass(frozen=True)
class Chart:
    """Lines for `wandb.plot.line_series`.

    Args:
        title: what they show.
        lines: x and y of each, by name.
    """

    title: str
    lines: Lines


def charts(sweep: Sweep) -> dict[str, Chart]:
    """A chart for every metric that a theorem bounds, or for the reconstruction error where none is bounded.

    A line a setting (runs that differ in their seeds alone), and the bound beside it. None of very many runs, of more
    settings than one can tell apart, and of metrics whose runs have no losses in common.

    Raises:
        ResultsError: traces that cannot be read.
    """
    if sweep.runs.height > MOST_RUNS:
        return {}
    traces = sweep.traces()
    columns = traces.collect_schema().names()
    shown = [name for name in columns if f"bound/{name}" in columns]
    shown = shown or [name for name in columns if name == "error/reconstruction"]
    wanted = [name for metric in shown for name in (metric, f"bound/{metric}") if name in columns]
    rows = traces.select("run", "loss", *wanted).collect()
    by = [key for key in results.varying(sweep.runs) if not results.is_seed(key)]
    if sweep.runs.select(by).n_unique() > MOST_LINES // 2:
        return {}
    made = {}
    for metric in shown:
        log = metric.startswith(LOG)
        lines: Lines = {}
        for name in (metric, f"bound/{metric}"):
            if name in columns:
                lines |= _lines(by_setting(rows, sweep.runs, name, by, POINTS, strict=False), by, name, log)
        if lines:
            made[metric] = Chart(f"{'log10 ' * log}{label(metric)} by loss", lines)
    return made


def _lines(curves: pl.DataFrame, by: list[str], column: str, log: bool) -> Lines:
    """Minus the logarithm of the loss, so that it falls to the right, and the medians where they can be drawn.

    A bound that says nothing (a norm is at least a negative number) has no logarithm, and is left out there.
    """
    lines = {}
    for values, part in curves.partition_by(by, as_dict=True, maintain_order=True).items() if by else [((), curves)]:
        size = part["median"].log10() if log else part["median"]
        kept = size.is_finite()
        setting = ", ".join(f"{key.removesuffix('.name')} {value}" for key, value in zip(by, values, strict=True))
        name = (setting or "median") + " (bound)" * column.startswith("bound/")
        if kept.any():
            x = -np.log10(part["loss"].filter(kept).to_numpy())
            lines[name] = (x.tolist(), size.filter(kept).to_list())
    return lines
