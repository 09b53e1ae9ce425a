"""Times at which components leave small starts, against the norm at the start, and the law that they follow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style
from rankward.figures._runs import LeftOut, read
from rankward.theory.escape import EscapeLaw, escape_law, leaving_time

SHARE = 0.5  # of a norm's largest value: the component has left its start at the first time that it has it

LARGEST = ("cp_weight/0", "singular_value/0")  # columns of the largest norm


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run of flow with components: order, seed, norm at the start, and the time at which it leaves.

    The norm is the largest of each row. `order` is the number of vectors of a component: of modes, or for matrices of
    layers. `time` is interpolated between two rows.

    Raises:
        ResultsError: no run to show.
    """
    rows = []
    for folder in results.run_folders(sweep):
        try:
            files = read(folder)
        except (LeftOut, results.ResultsError):
            continue
        trace, order = files.trace, files.arrays["product"].ndim
        column = next((name for name in LARGEST if name in trace.columns), None)
        if column is None or "time" not in trace.columns:
            continue
        norm = trace[column].to_numpy()
        if column.startswith("singular_value"):
            order = int(files.config["depth"]["layers"])
        rows.append(
            {
                "run": results.run_name(sweep, folder),
                "order": order,
                "seed": int(files.config["seed"]),
                "start": float(norm[0]),
                "time": leaving_time(trace["time"].to_numpy(), norm, SHARE),
            }
        )
    if not rows:
        raise results.ResultsError(f"cannot draw escape_times of {sweep}: no finished run of lr=flow with components")
    return pl.DataFrame(rows).sort("order", "seed", "start")


def laws(table: pl.DataFrame) -> list[tuple[int, int, EscapeLaw]]:
    """Order, seed and law of each direction with at least four starts."""
    found = []
    for (order, seed), part in table.group_by("order", "seed", maintain_order=True):
        law = escape_law(part["start"].to_numpy(), part["time"].to_numpy())
        if law is not None:
            found.append((int(order), int(seed), law))  # type: ignore[call-overload]
    return found


def told(table: pl.DataFrame) -> str:
    """A line for each order and seed: the exponent with its standard error, and that of constant alignment."""
    lines = ["the time to leave a start ~ (sigma_0^(-a) - 1) / a, a logarithm for a = 0:"]
    lines += [
        f"order {order}, seed {seed}: a = {law.exponent:.4f} ± {law.standard_error:.4f} ({law.points} starts; "
        f"1 - 2/{order} = {1 - 2 / order:.4f})"
        for order, seed, law in laws(table)
    ]
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the times against the norms at the start, a panel for each order, with the fitted laws.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "escape_times")


def _figure(table: pl.DataFrame) -> Figure:
    orders = table["order"].unique().sort().to_list()
    found = laws(table)
    figure = Figure(figsize=(0.4 + 3.1 * len(orders), 3.5), layout="constrained")
    axes = figure.subplots(1, len(orders), squeeze=False)[0]
    for axis, order in zip(axes, orders, strict=True):
        part = table.filter(pl.col("order") == order)
        _panel(axis, part, {seed: law for each, seed, law in found if each == order}, order)
    axes[0].set_ylabel("time to half of the largest norm")
    handles, labels = axes[0].get_legend_handles_labels()
    style.legend_beneath(figure, handles, labels, ncols=len(handles))
    return figure


def _panel(axis: Axes, rows: pl.DataFrame, found: dict[int, EscapeLaw], order: int) -> None:
    exponents = [law.exponent for law in found.values()]
    expected = f"1 - 2/{order} = {1 - 2 / order:.3g}"
    between = f"{min(exponents):.3f} to {max(exponents):.3f}" if exponents else "not fitted"
    axis.set(title=f"order {order}", xscale="log", yscale="log" if order > 2 else "linear")
    axis.set_xlabel("norm at the start")
    text = f"exponent {between}\n{expected}" if order > 2 else f"exponent {between}\n0: a logarithm"
    axis.text(0.97, 0.95, text, transform=axis.transAxes, ha="right", va="top", fontsize=8, color="0.3")
    for number, ((seed,), part) in enumerate(rows.group_by("seed", maintain_order=True)):
        color, marker = style.COLORS[number % len(style.COLORS)], style.MARKERS[number % len(style.MARKERS)]
        law = found.get(int(seed))  # type: ignore[call-overload]
        if law is not None:
            starts = part["start"].to_list()
            grid = np.geomspace(min(starts), max(starts), 100)
            axis.plot(grid, law.time(grid), color=color, linewidth=1, alpha=0.6, zorder=1)
        axis.plot(part["start"], part["time"], marker, color=color, markersize=4.5, label=f"direction {seed}", zorder=2)
