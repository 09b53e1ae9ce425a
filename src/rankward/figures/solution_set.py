"""Norms and ranks along the solution set of one unobserved entry (Propositions 1 and 2): least at opposite ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style
from rankward.theory.solution_set import SolutionSet

NORMS = {"nuclear": 1.0, "Frobenius": 2.0, "spectral": np.inf, "Schatten-1/2": 0.5}
POINTS = 400


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each value of the unobserved entry: norms over their infimum, effective rank, distance to infimal rank.

    Of the first run's problem.

    Raises:
        ResultsError: no run that leaves just one entry of a matrix unobserved.
    """
    return _table(*_read(sweep))


def _table(solutions: SolutionSet, ends: np.ndarray) -> pl.DataFrame:
    entry = _entries(ends)
    columns = {f"{name} norm": solutions.schatten_norm(entry, p) / _least(solutions, p) for name, p in NORMS.items()}
    ranks = {
        "effective rank": solutions.effective_rank(entry),
        "distance from the infimal rank": solutions.distance_to_infimal_rank(entry),
    }
    return pl.DataFrame({"entry": entry, **columns, **ranks})


def _least(solutions: SolutionSet, p: float) -> float:
    return solutions.least_norm(p, 1e-4).upper or 1.0


def _read(sweep: Path) -> tuple[SolutionSet, np.ndarray]:
    """The first run's solution set, and the unobserved entries with which runs of that problem ended."""
    solutions, ends = None, []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder):
            continue
        arrays = results.read_arrays(folder)
        try:
            found = SolutionSet(arrays["observations.mask"], arrays["observations.values"])
        except (KeyError, ValueError):  # other measurements than entries, or more than one unobserved
            continue
        same = solutions is not None and np.array_equal(found.values, solutions.values)
        if solutions is None or (same and (found.row, found.col) == (solutions.row, solutions.col)):
            solutions = found
            ends.append(float(arrays["product"][found.row, found.col]))
    if solutions is None:
        raise results.ResultsError(f"cannot draw solution_set of {sweep}: no finished run with one entry unobserved")
    return solutions, np.array(ends)


def _entries(ends: np.ndarray) -> np.ndarray:
    """Evenly around zero, and by ratios as far as runs have come."""
    reach = max(100.0, 2 * float(np.nanmax(np.abs(ends), initial=0.0)))
    half = np.concatenate([np.linspace(0, 1, POINTS // 4, endpoint=False), np.geomspace(1, reach, POINTS // 4)])
    return np.concatenate([-half[:0:-1], half])


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw norms above and ranks below, with the ends of the sweep's runs.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    solutions, ends = _read(sweep)
    return style.save_drawn(lambda: _figure(_table(solutions, ends), ends), sweep, "solution_set")


def _figure(table: pl.DataFrame, ends: np.ndarray) -> Figure:
    figure = Figure(figsize=(5.4, 5.5), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    norms = [name for name in table.columns if name.endswith("norm")]
    _lines(above, table, norms, ends, 0)
    above.set(yscale="log", ylabel="norm over its infimum", title="the solutions, by their unobserved entry")
    _lines(below, table, [n for n in table.columns if n not in ("entry", *norms)], ends, len(norms))
    below.set_xscale("asinh", linear_width=1)
    below.set(xlabel="unobserved entry (linear near 0)", ylabel="rank")
    below.set_ylim(bottom=0)
    figure.legend(loc="outside lower center", ncols=3)
    return figure


def _lines(axis: Axes, table: pl.DataFrame, names: list[str], ends: np.ndarray, first: int) -> None:
    for number, name in enumerate(names, start=first):
        look: Any = {"color": style.COLORS[number % len(style.COLORS)], "linewidth": 1.2}
        axis.plot(table["entry"], table[name], label=name, **look)
        heights = np.interp(ends, table["entry"].to_numpy(), table[name].to_numpy())
        axis.plot(ends, heights, "o", color=look["color"], markersize=3.5, markeredgecolor="white", markeredgewidth=0.4)
