"""Data of a report: the runs of a sweep as columns, and their curves, thinned to the size of a page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankward import results
from rankward.report.pack import compact, encode_texts, pack, rounded
from rankward.results.columns import is_absolute
from rankward.results.load import Sweep, load

if TYPE_CHECKING:
    import polars as pl

MAX_RUNS, MAX_CURVES = 25_000, 2_000  # rows of the table, and runs with curves
BITS = 16  # of the mantissas of thinned curves: a relative error of 1e-5
TRIAL_POINTS, MIN_POINTS = 16, 8  # points per run: of the first attempt, and at least, even if the page is too large
AXES = ("iteration", "loss", "time")
HIDDEN = ("versions.", "config_hash")  # prefixes of columns that are left out


@dataclass(frozen=True)
class Report:
    """Packed data of a page, and notes on what was left out.

    Args:
        packed: the output of `pack`, which the page unpacks.
        notes: a sentence for each part that the page does not hold.
    """

    packed: str
    notes: tuple[str, ...]


def collect(folder: Path, budget: int) -> Report:
    """Collect the runs, curves and verdicts of a sweep or a single run.

    Curves are thinned evenly until the data fits; first and last rows stay. Each curve has at least eight rows, so the
    page of very many runs may be larger than the budget.

    Args:
        folder: of a sweep or a run.
        budget: characters of the packed data.

    Raises:
        ResultsError: there are no runs, or results cannot be read.
    """
    sweep = load(folder)
    runs = sweep.runs
    notes = sweep.mixed()
    if runs.height > MAX_RUNS:
        notes.append(f"{MAX_RUNS:,} of {runs.height:,} runs are shown, evenly picked.")
        runs = runs[_evenly(runs.height, MAX_RUNS)]
    header, arrays = _columns(runs)
    traces = _traces(sweep, runs)
    if traces is None:
        notes.append("No run has left a trace yet.")
        return Report(pack({**header, "notes": notes, "metrics": [], "absolute": []}, arrays), tuple(notes))
    shown = int(traces["row"].n_unique())
    if shown < runs.filter(runs["status"] != "missing").height:
        notes.append(f"Curves of {shown:,} of {runs.height:,} runs are kept, evenly picked; the table has all.")
    metrics = [name for name in traces.columns if name not in ("row", *AXES) and traces[name].count()]
    header["metrics"] = metrics
    header["absolute"] = [name for name in metrics if is_absolute(name)]
    return _within_budget(header, arrays, notes, traces, budget)


def _within_budget(
    header: dict[str, Any], arrays: dict[str, np.ndarray], notes: list[str], traces: pl.DataFrame, budget: int
) -> Report:
    """All points if they fit, else the number of points that the sizes of earlier attempts predict."""
    full = int(traces.group_by("row", maintain_order=True).len()["len"].to_numpy().max())

    def packed(points: int) -> Report:
        thinned = f"Curves are thinned to at most {points} points a run, numbers in them to five digits"
        all_notes = [*notes, *([f"{thinned}: trace.parquet has all."] if points < full else [])]
        curves = _curves(traces, header["metrics"], points, exact=points == full)
        return Report(pack({**header, "notes": all_notes}, arrays | curves), tuple(all_notes))

    room = budget - len(pack(header, arrays))
    points, report = TRIAL_POINTS, packed(min(full, TRIAL_POINTS))
    while True:
        points = min(full, int(points * 0.95 * room / (len(report.packed) - budget + room)))
        if points <= MIN_POINTS:
            return packed(min(full, MIN_POINTS))
        report = packed(points)
        if len(report.packed) <= budget:
            return report


def _traces(sweep: Sweep, runs: pl.DataFrame) -> pl.DataFrame | None:
    """Traces of the runs that are shown, with `row`, their row in the table; None without traces."""
    import polars as pl

    rows = runs.select(pl.col("run").cast(pl.String)).with_row_index("row")
    try:
        lazy = sweep.traces()
    except results.NoResults:
        return None
    with results.reading(sweep.folder):
        found = lazy.select("run").unique().collect().join(rows, on="run").sort("row")
    if not found.height:
        return None
    picked = found[_evenly(found.height, MAX_CURVES)]
    with results.reading(sweep.folder):
        return lazy.join(picked.lazy(), on="run").drop("run").sort("row", "iteration").collect()


def _evenly(height: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, height - 1, min(height, most)).round().astype(int))


def _curves(traces: pl.DataFrame, metrics: list[str], points: int, exact: bool) -> dict[str, np.ndarray]:
    """Arrays of the curves: each metric over all points of all runs, one run after the other.

    `curve/run` has the rows of the runs in the table, and `curve/start` the offsets of their points.
    """
    sizes = traces.group_by("row", maintain_order=True).len()
    starts = list(accumulate(sizes["len"].to_list(), initial=0))
    picks = [first + _evenly(last - first, points) for first, last in pairwise(starts)]
    kept = traces[np.concatenate(picks)]
    arrays: dict[str, np.ndarray] = {
        "curve/run": sizes["row"].to_numpy().astype(np.int32),
        "curve/start": np.cumsum([0, *map(len, picks)]).astype(np.int32),
        "x/iteration": kept["iteration"].to_numpy().astype(np.float64),
    }
    for name in ("loss", "time", *metrics):
        if name in kept.columns:
            values = compact(kept[name].cast(float).fill_null(float("nan")).to_numpy())
            arrays[f"{'x' if name in AXES else 'y'}/{name}"] = values if exact else rounded(values, BITS)
    return arrays


def _columns(runs: pl.DataFrame) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Columns of the table: the keys that vary, the values that all runs share, and the other values."""
    names = [name for name in runs.columns if not name.startswith(HIDDEN)]
    settings = names[len(results.LOCATION_COLUMNS) : names.index("status")]
    first = {name: runs[name][0] for name in settings if runs[name].n_unique() == 1}
    constant = {name: "null" if value is None else str(value) for name, value in first.items()}
    keys = results.varying(runs)
    aliases = _aliases(runs, [name for name in settings if name not in constant], keys)
    texts: dict[str, list[str]] = {}
    arrays: dict[str, np.ndarray] = {}
    for name in [*results.LOCATION_COLUMNS[1:], *keys, *names[names.index("status") :]]:
        column = runs[name]
        if not column.count():
            continue
        if column.dtype.is_numeric():
            arrays[f"run/{name}"] = column.cast(float).fill_null(float("nan")).to_numpy().astype(np.float64)
        else:
            texts[name], arrays[f"run/{name}"] = encode_texts(column.to_list())
    return {"runs": runs.height, "keys": keys, "aliases": aliases, "constant": constant, "texts": texts}, arrays


def _aliases(runs: pl.DataFrame, settings: list[str], keys: list[str]) -> dict[str, str]:
    """Settings with the same values as a key that is shown, such as `depth.layers` and `depth.name`."""
    texts = {name: [str(value) for value in runs[name].to_list()] for name in settings}
    found = {name: next((key for key in keys if texts[key] == texts[name]), name) for name in settings}
    return {name: key for name, key in found.items() if name != key}
