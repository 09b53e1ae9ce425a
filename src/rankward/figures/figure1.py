"""Figure 1: the unobserved entry grows as the loss falls, a panel a depth, with the determinant's bound beneath."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.transforms import ScaledTranslation

from rankward import results
from rankward.figures import _runs, reads_run_folders, style
from rankward.figures._runs import Curve

VIRIDIS = matplotlib.colormaps["viridis"]
COLORMAP = LinearSegmentedColormap.from_list("iterations", VIRIDIS(np.linspace(0, 0.92, 256)))  # less its pale end
ENTRY_AXIS_MIN = 5e-3  # below it all runs look the same: they leave the start
FAINT: Any = {"color": "0.5", "linewidth": 0.7, "linestyle": (0, (1, 1.5)), "alpha": 0.6}
MAX_LEGEND_ENTRIES = 8  # more runs are only counted
SHORT_LABEL = 26  # letters: two columns of such labels fit beneath a panel
INCHES = {"panel": 3.4, "height": 2.75, "around": 1.2, "above": 0.45, "axis": 0.47, "line": 0.145}
LETTERS = 14  # of a legend, an inch


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the finished 2x2 runs of a sweep; a line under the panels names the runs left out.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    return draw_runs(sweep, "figure1")


def draw_runs(
    sweep: Path,
    name: str,
    only: Collection[str] | None = None,
    arranged: Callable[[Curve], Curve] = lambda c: c,
    by_depth: bool = False,
) -> list[Path]:
    """Draw all finished runs that leave one entry unobserved, or those in the folders `only`, as `figures/<name>`.

    Args:
        arranged: may change the panel (one a depth) and the label of a curve.
        by_depth: one row of panels for all depths, else one row for all panels.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    shown, left_out = _runs.curves(sweep, only, arranged)
    if not shown:
        reasons = "; ".join(["no finished run with one entry unobserved there", *left_out])
        raise results.ResultsError(f"cannot draw {name} of {sweep}: {reasons}")
    columns = len({c.depth for c in shown}) if by_depth else None
    return style.save_drawn(lambda: _figure(shown, left_out, columns), sweep, name)


def _figure(shown: list[Curve], left_out: list[str], columns: int | None) -> Figure:
    panels = sorted({c.panel for c in shown})
    n = columns or len(panels)
    rows, i = -(-len(panels) // n), INCHES
    listed = [_listed([c for c in shown if c.panel == panel]) for panel in panels]
    width = i["around"] + n * i["panel"]
    key = _key(shown, left_out, int(LETTERS * width / n))
    key_columns = min(n, len(key))
    key_lines = -(-len(key) // key_columns) + str(key[-1].get_label()).count("\n")
    beneath = max(-(-len(handles) // columns) for handles, columns in listed) * i["line"]
    height = rows * (i["above"] + i["height"] + i["axis"] + beneath) + key_lines * i["line"]
    figure = Figure(figsize=(width, height), layout="constrained")
    axes = figure.subplots(rows, n, sharex=True, sharey=True, squeeze=False).ravel()
    for axis in axes[len(panels) :]:
        axis.remove()
    axes = axes[: len(panels)]
    scale = LogNorm(100, max(1000, *(int(c.iteration[-1]) for c in shown)), clip=True)
    losses = np.concatenate([c.loss for c in shown])
    axes[0].set(
        xscale="log", yscale="log", xlim=(1.6 * losses.max(), 0.6 * losses.min()),
        ylim=(min(ENTRY_AXIS_MIN, *(0.5 * c.entry[-1] for c in shown)), 4 * max(10, *(c.entry.max() for c in shown))),
    )  # fmt: skip
    for number, (axis, panel, (handles, columns)) in enumerate(zip(axes, panels, listed, strict=True)):
        lowest = number + n >= len(panels)
        axis.set(title=panel, xlabel="loss" if lowest else None)
        axis.set_ylabel("" if number % n else "|unobserved entry|")
        axis.tick_params(labelbottom=lowest)
        _panel(axis, [c for c in shown if c.panel == panel], scale)
        down = ScaledTranslation(0, -i["axis"] if lowest else -0.08, figure.dpi_scale_trans)
        anchor: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": axis.transAxes + down}
        axis.legend(handles=handles, ncols=columns, handlelength=1, columnspacing=1, labelspacing=0.3,
                    borderaxespad=0, **anchor)  # fmt: skip
    bar = figure.colorbar(ScalarMappable(scale, COLORMAP), ax=axes, label="iteration", aspect=30 * rows, pad=0.01)
    bar.ax.grid(False)
    bar.outline.set_visible(False)  # type: ignore[operator]
    figure.legend(handles=key, loc="outside lower center", ncols=key_columns)
    return figure


def _listed(shown: list[Curve]) -> tuple[list[Line2D], int]:
    """The legend of a panel, and the number of columns that fit."""
    strong = [c for c in shown if not c.faint]
    handles = [
        Line2D([], [], marker=style.MARKERS[k % len(style.MARKERS)], color="0.35", linestyle="none", markersize=4.5,
               label=c.label) for k, c in enumerate(strong[:MAX_LEGEND_ENTRIES])
    ]  # fmt: skip
    if len(strong) > MAX_LEGEND_ENTRIES:
        handles.append(Line2D([], [], linestyle="none", label=f"and {len(strong) - MAX_LEGEND_ENTRIES} more"))
    return handles, 2 if all(len(str(handle.get_label())) <= SHORT_LABEL for handle in handles) else 1


def _panel(axis: Axes, shown: list[Curve], scale: LogNorm) -> None:
    for c in {c.values: c for c in shown if c.forced.any()}.values():
        largest = c.largest_loss
        least = min(largest / 2, *(each.loss.min() for each in shown))
        parts = np.geomspace(least / largest, 0.5, 150), 1 - np.geomspace(0.5, 1e-4, 150)[1:]  # dense at both ends
        losses = largest * np.concatenate(parts)
        bound = c.bound(losses)
        axis.fill_between(losses, np.full_like(bound, 1e-300), bound, color="0.95", linewidth=0, zorder=0)
        axis.plot(losses, bound, zorder=1, **style.BOUND)
    for c in shown:
        if c.faint:
            axis.plot(c.loss, c.entry, zorder=1.5, **FAINT)
    strong = [c for c in shown if not c.faint]
    for number, c in enumerate(strong):
        axis.plot(c.loss, c.entry, color="0.72", linewidth=0.7, zorder=2)
        marker = style.MARKERS[number % len(style.MARKERS)]
        picked = _spread(axis, c, number / len(strong), apart=min(0.15, 0.05 + 0.01 * len(strong)))
        shades = COLORMAP(scale(c.iteration[picked]))
        white = np.ones_like(shades)
        solid = c.forced[picked][:, None]
        axis.scatter(
            c.loss[picked], c.entry[picked], marker=marker, s=20, zorder=3 + number,
            facecolors=np.where(solid, shades, white), edgecolors=np.where(solid, white, shades),
            linewidths=np.where(solid[:, 0], 0.4, 1.0).tolist(),
        )  # fmt: skip


def _key(shown: list[Curve], left_out: list[str], letters: int) -> list[Line2D]:
    """The legend of all panels: the bound, hollow markers, faint lines, and the runs left out, broken into lines."""
    sharp = all(c.values for c in shown)
    least = "the least that the determinant's sign allows" if sharp else "a lower bound from the determinant's sign"
    handles = [Line2D([], [], label=f"{least} at this loss (filled markers)", **style.BOUND)]
    ring: Any = {"color": "0.35", "marker": "o", "markerfacecolor": "white", "linestyle": "none", "markersize": 4.5}
    if not all(c.forced.all() for c in shown if not c.faint):
        handles.append(Line2D([], [], label="hollow: the determinant has the other sign, or none", **ring))
    if any(c.faint for c in shown):
        handles.append(Line2D([], [], label="the round before", **FAINT))
    if left_out:
        names = ", ".join(line.split(":")[0] for line in left_out[:MAX_LEGEND_ENTRIES])
        more = ", ..." if len(left_out) > MAX_LEGEND_ENTRIES else ""
        text = textwrap.fill(f"left out: {names}{more}", letters, break_on_hyphens=False)
        handles.append(Line2D([], [], linestyle="none", label=text))
    return handles


def _spread(axis: Axes, c: Curve, offset: float, apart: float) -> np.ndarray:
    """Rows evenly along the drawn path, `apart` panel widths, shifted so that runs on one curve all show."""
    spans = [abs(np.log(high / low)) for low, high in (axis.get_xlim(), axis.get_ylim())]
    seen = np.flatnonzero(c.entry >= axis.get_ylim()[0])
    steps = np.hypot(np.diff(np.log(c.loss[seen])) / spans[0], np.diff(np.log(c.entry[seen])) / spans[1])
    path = np.concatenate([[0.0], np.cumsum(steps)])
    positions = np.arange(offset * apart, path[-1], apart)
    return np.unique(seen[[*np.searchsorted(path, positions), len(path) - 1]])
