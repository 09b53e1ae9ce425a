"""Convergence of descent to gradient flow with smaller steps: curves, and distances against the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import reads_run_folders, style
from rankward.results.curves import at_losses, common_losses
from rankward.theory.regression import fitted_slope

COLORS = dict(zip(("float64", "float32"), style.COLORS, strict=False))
MAX_DISTANCE = 0.1  # relative: only smaller distances can be proportional to the step
FLOOR = 3.0  # times the smallest distance: below it, rounding and interpolation matter


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each descent: its depth, dtype, learning rate, and distance from the flow of the same start.

    The distance is the largest difference of |W_11| at common losses, from where the loss has halved, relative to the
    flow's.

    Raises:
        ResultsError: no flow, or no descent from the start of one.
    """
    return _table(*_read(sweep))


Key = tuple[float, str]  # depth; what else a start depends on
Found = tuple[np.ndarray, np.ndarray]  # losses, and |W_11|
Descent = tuple[Key, str, float, Found]  # with dtype and learning rate


def _table(flows: dict[Key, Found], descents: list[Descent]) -> pl.DataFrame:
    rows = [
        {"depth": key[0], "dtype": dtype, "eta": eta, "distance": _distance(curve, flows[key])}
        for key, dtype, eta, curve in descents
        if key in flows
    ]
    return pl.DataFrame(rows).sort("depth", "dtype", "eta")


def _read(sweep: Path) -> tuple[dict[Key, Found], list[Descent]]:
    flows: dict[Key, Found] = {}
    descents = []
    for folder in results.run_folders(sweep):
        if not results.is_complete(folder) or results.read_summary(folder)["status"] not in results.ENDED:
            continue
        config, trace = results.read_config(folder), results.read_trace(folder)
        if "entry/0_0" not in trace.columns:
            continue
        loss = {"name": "squared", "reduction": None} | config.get("loss", {})  # older versions have no such group
        loss.pop("_target_", None)
        start = f"{config['init']} {config['observations']} {config['seed']} {sorted(loss.items())}"
        key = (float(config["depth"]["layers"]), start)
        curve = trace["loss"].to_numpy(), np.abs(trace["entry/0_0"].to_numpy())
        if "time" in trace.columns:
            flows[key] = curve
        else:
            descents.append((key, str(config["dtype"]), float(config["lr"]["eta"]), curve))
    if not any(key in flows for key, *_ in descents):
        raise results.ResultsError(f"cannot draw descent_to_flow of {sweep}: no finished flow and descent of one start")
    return flows, descents


def _distance(curve: Found, flow: Found) -> float:
    try:
        grid = common_losses([curve, flow], 400)
    except ValueError:
        return float("nan")
    grid = grid[grid <= grid[0] / 2]  # before, the entry grows by decades while the loss stands still
    expected = at_losses(*flow, grid)
    return float(np.nanmax(np.abs(at_losses(*curve, grid) - expected) / expected))


def orders(table: pl.DataFrame) -> pl.DataFrame:
    """For each depth, the order at which float64 descent approaches the flow: a fitted slope and its standard error.

    The fit uses distances below `MAX_DISTANCE` and above `FLOOR` times the smallest; NaN with fewer than three of them.
    """
    rows = []
    for (depth,), part in table.filter(pl.col("dtype") == "float64").group_by("depth", maintain_order=True):
        eta, distance = part["eta"].to_numpy(), part["distance"].to_numpy()
        used = (distance < MAX_DISTANCE) & (distance > FLOOR * np.nanmin(distance))
        enough = used.sum() >= 3
        slope, error = fitted_slope(np.log(eta[used]), np.log(distance[used])) if enough else (np.nan, np.nan)
        rows.append({"depth": depth, "order": slope, "standard_error": error, "points": int(used.sum())})
    return pl.DataFrame(rows)


def told(table: pl.DataFrame) -> str:
    """Format the measured orders of the table of `curves`, a line each."""
    return "\n".join(
        f"depth {depth:g}: descent comes to the flow with order {order:.3f} +- {error:.3f} in the learning rate"
        if points >= 3
        else f"depth {depth:g}: too few distances between rounding and {MAX_DISTANCE:g} for an order"
        for depth, order, error, points in orders(table).rows()
    )


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw, for each depth, the curves and the distances.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    found = _read(sweep)
    return style.save_drawn(lambda: _figure(_table(*found), *found), sweep, "descent_to_flow")


def _figure(table: pl.DataFrame, flows: dict[Key, Found], descents: list[Descent]) -> Figure:
    depths = table["depth"].unique().sort().to_list()
    figure = Figure(figsize=(8.2, 2.9 * len(depths)), layout="constrained")
    axes = figure.subplots(len(depths), 2, squeeze=False)
    measured = {row[0]: row for row in orders(table).rows()}
    for (left, right), depth in zip(axes, depths, strict=True):
        _curves(left, depth, flows, descents)
        part = table.filter(pl.col("depth") == depth)
        for (dtype,), rows in part.group_by("dtype", maintain_order=True):
            right.plot(rows["eta"], rows["distance"], "o-", ms=4, lw=1, color=COLORS[str(dtype)], label=str(dtype))
        anchor = part.filter(pl.col("dtype") == "float64").sort("eta")
        if len(anchor):
            eta = anchor["eta"].to_numpy()
            middle = len(eta) // 2
            right.plot(eta, anchor["distance"][middle] * eta / eta[middle], label="in proportion", **style.BOUND)
        _, order, error, points = measured.get(depth, (0, 0.0, 0.0, 0))
        text = f"order {order:.2f} ± {error:.2f}" if points >= 3 else "no order: too few points"
        right.set(xscale="log", yscale="log", xlabel="learning rate", title=f"depth {depth:g}: {text}")
        right.set_ylabel("distance of |W_11| from the flow's")
        right.legend()
    return figure


def _curves(axis: Axes, depth: float, flows: dict[Key, Found], descents: list[Descent]) -> None:
    of_depth = sorted((d for d in descents if d[0][0] == depth), key=lambda d: -d[2])
    for number, (_, dtype, eta, (loss, entry)) in enumerate(of_depth):
        shade = 0.25 + 0.75 * number / max(1, len(of_depth) - 1)
        look: Any = {"color": COLORS[dtype], "alpha": shade, "linewidth": 0.8}
        first = eta == max(d[2] for d in of_depth)
        axis.plot(loss, entry, label=f"lr {eta:.2g} and smaller, {dtype}" if first else None, **look)
    for (layers, _), (loss, entry) in flows.items():
        if layers == depth:
            axis.plot(loss, entry, color="0.1", linewidth=1.2, linestyle=(0, (4, 2)), label="flow")
    axis.set(xscale="log", yscale="log", xlabel="loss", ylabel="|W_11|", title=f"depth {depth:g}")
    axis.invert_xaxis()
    axis.set_ylim(bottom=1e-2)
    axis.legend()
