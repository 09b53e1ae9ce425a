"""Singular values against iteration, and the alignment of the gradient with the singular vectors, a column a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style

PARTS = {"diagonal": "diagonal", "off_diagonal": "off-diagonal"}
MOST = 6  # runs in a figure


def curves(sweep: Path) -> pl.DataFrame:
    """The rows of each run: run, depth, iteration, loss, its singular values and its alignment.

    Runs without these columns and unfinished ones are left out; so are diverged ones.

    Raises:
        ResultsError: no run is left.
    """
    found = []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder) or results.read_summary(folder)["status"] == "diverged":
            continue
        trace = results.read_trace(folder)
        names = [name for name in trace.columns if name.startswith(("singular_value/", "alignment/"))]
        if "alignment/diagonal_mean" in names and "singular_value/0" in names:
            depth = int(results.read_config(folder)["depth"]["layers"])
            of_run = {"run": results.run_name(sweep, folder), "depth": depth}
            literals = [pl.lit(value).alias(name) for name, value in of_run.items()]
            found.append(trace.select(*literals, "iteration", "loss", *names))
    if not found:
        raise results.ResultsError(
            f"cannot draw dynamics_matrix of {sweep}: no finished matrix run with metrics=dynamics"
        )
    return pl.concat(found, how="diagonal").sort("depth", maintain_order=True)


def told(table: pl.DataFrame) -> str:
    """Compare off-diagonal entries with diagonal ones, for each run, where its loss first has halved."""
    lines = []
    for (run, depth), rows in table.group_by("run", "depth", maintain_order=True):
        halved = rows.filter(pl.col("loss") <= rows["loss"][0] / 2)
        said = "the loss has not halved"
        if len(halved):
            ratio = halved["alignment/off_diagonal_mean"][0] / halved["alignment/diagonal_mean"][0]
            said = (
                f"at iteration {halved['iteration'][0]:,}, where the loss has halved, the mean off-diagonal entry of "
                f"|U^T G V| is {ratio:.2g} times the mean diagonal one"
            )
        lines.append(f"depth {depth} ({run}): {said}")
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the first six runs: singular values above, means and standard deviations of |U^T G V| below.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "dynamics_matrix")


def _figure(table: pl.DataFrame) -> Figure:
    runs = [rows for _, rows in table.group_by("run", maintain_order=True)]
    shown = runs[:MOST]
    figure = Figure(figsize=(0.6 + 3.2 * len(shown), 5.2), layout="constrained")
    axes = figure.subplots(2, len(shown), squeeze=False, sharex="col")
    depths = [rows["depth"][0] for rows in shown]
    for (above, below), rows in zip(axes.T, shown, strict=True):
        depth = rows["depth"][0]
        above.set_title(f"depth {depth}" if depths.count(depth) == 1 else f"depth {depth}, run {rows['run'][0]}")
        _column(above, below, rows)
    axes[0][0].set_ylabel("singular values")
    axes[1][0].set_ylabel("entries of |UᵀGV|")
    title = "means, and bands of a standard deviation" + (
        f"; the first {MOST} of {len(runs)} runs" if len(runs) > MOST else ""
    )
    legend = axes[1][0].get_legend_handles_labels()
    style.legend_beneath(figure, *legend, ncols=2, title=title, title_fontsize=6.5)
    return figure


def _column(above: Axes, below: Axes, rows: pl.DataFrame) -> None:
    iteration = rows["iteration"].to_numpy()
    for name in rows.columns:
        if name.startswith("singular_value/") and rows[name].null_count() < len(rows):
            above.plot(iteration, rows[name].to_numpy(), linewidth=1, color=style.COLORS[0], alpha=0.8)
    for color, (part, label) in zip(style.COLORS, PARTS.items(), strict=False):
        mean, spread = (rows[f"alignment/{part}_{number}"].to_numpy() for number in ("mean", "std"))
        below.plot(iteration, mean, color=color, linewidth=1.1, label=label)
        below.fill_between(iteration, np.maximum(mean - spread, 0), mean + spread, color=color, alpha=0.15, linewidth=0)
    below.set(xlabel="iteration")
    below.set_ylim(bottom=0)
