"""What a report shows of a sweep: its runs as columns, their curves thinned to what a page can hold."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rankward import results
from rankward.report.pack import compact, pack, rounded, words
from rankward.results.columns import is_absolute
from rankward.results.load import Sweep, load

if TYPE_CHECKING:
    import polars as pl

MOST_RUNS, MOST_CURVES = 25_000, 2_000  # rows of the table, and runs whose curves are kept
BITS = 16  # of the mantissas of curves that are thinned: numbers to 1e-5 of their size
TRIAL, FEWEST = 16, 8  # points a run that are tried first, and that are kept even where a page grows too large
AXES = ("iteration", "loss", "time")
HIDDEN = ("versions.", "config_hash")  # columns that nobody compares runs by


@dataclass(frozen=True)
class Report:
    """A page's data, packed, and what was left out of it.

    Args:
        packed: for the page to unpack.
        notes: a sentence for everything that the page does not hold.
    """

    packed: str
    notes: tuple[str, ...]


def collect(folder: Path, budget: int) -> Report:
    """A sweep's (or a single run's) runs, curves and verdicts in at most so many characters.

    Rows of curves are left out, evenly, until it fits; their first and last stay. Never fewer than eight rows a run:
    the page of very many runs may be larger.

    Raises:
        ResultsError: no runs, or results that cannot be read.
    """
    sweep = load(folder)
    runs = sweep.runs
    notes = sweep.mixed()
    if runs.height > MOST_RUNS:
        notes.append(f"{MOST_RUNS:,} of {runs.height:,} runs are shown, evenly picked.")
        runs = runs[_evenly(runs.height, MOST_RUNS)]
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
    return _fitting(header, arrays, notes, traces, budget)


def _fitting(
    header: dict[str, Any], arrays: dict[str, np.ndarray], notes: list[str], traces: pl.DataFrame, budget: int
) -> Report:
    """All points of all runs where they fit, else as many as a trial with a few says."""
    full = int(traces.group_by("row", maintain_order=True).len()["len"].to_numpy().max())

    def packed(points: int) -> Report:
        thinned = f"Curves are thinned to at most {points} points a run, numbers in them to five digits"
        said = [*notes, *([f"{thinned}: trace.parquet has all."] if points < full else [])]
        curves = _curves(traces, header["metrics"], points, exact=points == full)
        return Report(pack({**header, "notes": said}, arrays | curves), tuple(said))

    room = budget - len(pack(header, arrays))
    trial = packed(min(full, TRIAL))
    points, told = TRIAL, trial
    while True:
        points = min(full, int(points * 0.95 * room / (len(told.packed) - budget + room)))
        if points <= FEWEST:
            return packed(min(full, FEWEST))
        told = packed(points)
        if len(told.packed) <= budget:
            return told


def _traces(sweep: Sweep, runs: pl.DataFrame) -> pl.DataFrame | None:
    """The rows of the runs that are shown, `row` their place in the table; None where there are none."""
    import polars as pl

    places = runs.select(pl.col("run").cast(pl.String)).with_row_index("row")
    try:
        lazy = sweep.traces()
    except results.NoResults:
        return None
    with results.reading(sweep.folder):
        found = lazy.select("run").unique().collect().join(places, on="run").sort("row")
    if not found.height:
        return None
    picked = found[_evenly(found.height, MOST_CURVES)]
    with results.reading(sweep.folder):
        return lazy.join(picked.lazy(), on="run").drop("run").sort("row", "iteration").collect()


def _evenly(height: int, most: int) -> np.ndarray:
    return np.unique(np.linspace(0, height - 1, min(height, most)).round().astype(int))


def _curves(traces: pl.DataFrame, metrics: list[str], points: int, exact: bool) -> dict[str, np.ndarray]:
    """`curve/row`: where each run's points begin, and a column for each metric over all points of all runs."""
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
    """The table's columns: which keys vary, what is the same for all runs, and the values of the others."""
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
            texts[name], arrays[f"run/{name}"] = words(column.to_list())
    return {"runs": runs.height, "keys": keys, "aliases": aliases, "constant": constant, "texts": texts}, arrays


def _aliases(runs: pl.DataFrame, settings: list[str], keys: list[str]) -> dict[str, str]:
    """Settings that say the same of each run as a key that is shown: `depth.layers` as `depth.name`."""
    texts = {name: [str(value) for value in runs[name].to_list()] for name in settings}
    found = {name: next((key for key in keys if texts[key] == texts[name]), name) for name in settings}
    return {name: key for name, key in found.items() if name != key}
