"""Figure 1: the unobserved entry grows as the loss falls, a panel a depth, with the determinant's bound beneath."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rankward import results
from rankward.figures import _runs, style
from rankward.figures._runs import Curve

VIRIDIS = matplotlib.colormaps["viridis"]
COLORMAP = LinearSegmentedColormap.from_list("iterations", VIRIDIS(np.linspace(0, 0.92, 256)))  # less its pale end
FLOOR = 5e-3  # of the entry's axis: beneath lies the way out of the start, the same for all
LEGEND = 8  # entries at most; of more runs the rest is counted
INCHES = {
    "left": 0.62,
    "right": 0.85,
    "panel": 3.05,
    "gap": 0.22,
    "bottom": 0.72,
    "height": 2.75,
    "top": 0.3,
    "between": 0.35,
}

NEEDS_FOLDERS = True  # it reads runs' own files


def draw(sweep: Path) -> list[Path]:
    """Draw the finished 2x2 runs of a sweep; those left out are told under the panels.

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
        arranged: puts a curve into another panel than its depth's, or names it otherwise.
        by_depth: as many panels side by side as there are depths; else all.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    shown, left_out = _runs.curves(sweep, only, arranged)
    if not shown:
        told = "; ".join(["no finished run with one entry unobserved there", *left_out])
        raise results.ResultsError(f"cannot draw {name} of {sweep}: {told}")
    columns = len({c.depth for c in shown}) if by_depth else None
    return style.save_drawn(lambda: _figure(shown, left_out, columns), sweep, name)


def _figure(shown: list[Curve], left_out: list[str], columns: int | None) -> Figure:
    panels = sorted({c.panel for c in shown})
    n = columns or len(panels)
    i, rows = INCHES, -(-len(panels) // n)
    width = i["left"] + n * i["panel"] + (n - 1) * i["gap"] + i["right"]
    height = i["bottom"] + rows * i["height"] + (rows - 1) * i["between"] + i["top"]
    figure = Figure(figsize=(width, height))  # margins by hand: a layout engine would lay out, and render, twice
    box = {"left": i["left"] / width, "right": 1 - i["right"] / width}
    box |= {"bottom": i["bottom"] / height, "top": 1 - i["top"] / height, "wspace": i["gap"] / i["panel"]}
    box["hspace"] = i["between"] / i["height"]
    axes = figure.subplots(rows, n, sharex=True, sharey=True, squeeze=False, gridspec_kw=box).ravel()
    scale = LogNorm(100, max(1000, *(int(c.iteration[-1]) for c in shown)), clip=True)
    losses = np.concatenate([c.loss for c in shown])
    axes[0].set(
        xscale="log", yscale="log", xlim=(1.6 * losses.max(), 0.6 * losses.min()),
        ylim=(min(FLOOR, *(0.5 * c.entry[-1] for c in shown)), 4 * max(10, *(c.entry.max() for c in shown))),
    )  # fmt: skip
    for number, (axis, panel) in enumerate(zip(axes, panels, strict=False)):
        axis.set(title=panel, xlabel="loss" if number + n >= len(panels) else None)
        axis.set_ylabel("" if number % n else "|unobserved entry|")
        _panel(axis, [c for c in shown if c.panel == panel], scale)
    for axis in axes[len(panels) :]:
        axis.remove()
    bar_box = (box["right"] + 0.12 / width, box["bottom"], 0.1 / width, box["top"] - box["bottom"])
    bar = figure.colorbar(ScalarMappable(scale, COLORMAP), cax=figure.add_axes(bar_box), label="iteration")
    bar.ax.grid(False)
    bar.outline.set_visible(False)  # type: ignore[operator]
    figure.legend(handles=_key(shown), loc="lower center", ncols=2, bbox_to_anchor=(0.5, 0.0), borderaxespad=0.2)
    if left_out:
        names = ", ".join(line.split(":")[0] for line in left_out[:LEGEND]) + (
            ", ..." if len(left_out) > LEGEND else ""
        )
        figure.text(0.995, 0.01, f"left out: {names}", ha="right", va="bottom", fontsize=6.5, color="0.4")
    return figure


def _panel(axis: Axes, shown: list[Curve], scale: LogNorm) -> None:
    for c in {c.values: c for c in shown if c.forced.any()}.values():
        reach = c.reach
        least = min(reach / 2, *(each.loss.min() for each in shown))
        parts = np.geomspace(least / reach, 0.5, 150), 1 - np.geomspace(0.5, 1e-4, 150)[1:]  # dense at both ends
        losses = reach * np.concatenate(parts)
        bound = c.bound(losses)
        axis.fill_between(losses, np.full_like(bound, 1e-300), bound, color="0.95", linewidth=0, zorder=0)
        axis.plot(losses, bound, zorder=1, **style.BOUND)
    for number, c in enumerate(shown):
        axis.plot(c.loss, c.entry, color="0.72", linewidth=0.7, zorder=2)
        marker = style.MARKERS[number % len(style.MARKERS)]
        picked = _spread(axis, c, number / len(shown), apart=min(0.15, 0.05 + 0.01 * len(shown)))
        shades = COLORMAP(scale(c.iteration[picked]))
        white = np.ones_like(shades)
        solid = c.forced[picked][:, None]
        axis.scatter(
            c.loss[picked], c.entry[picked], marker=marker, s=20, zorder=3 + number,
            facecolors=np.where(solid, shades, white), edgecolors=np.where(solid, white, shades),
            linewidths=np.where(solid[:, 0], 0.4, 1.0).tolist(),
        )  # fmt: skip
    handles = [
        Line2D([], [], marker=style.MARKERS[k % len(style.MARKERS)], color="0.35", linestyle="none", markersize=4.5,
               label=c.label) for k, c in enumerate(shown[:LEGEND])
    ]  # fmt: skip
    if len(shown) > LEGEND:
        handles.append(Line2D([], [], linestyle="none", label=f"and {len(shown) - LEGEND} more"))
    axis.legend(handles=handles, loc="upper left", handlelength=1.4, labelspacing=0.3, borderaxespad=0.2)


def _key(shown: list[Curve]) -> list[Line2D]:
    """What the panels share: the bound, and what a hollow marker means."""
    handles = [
        Line2D([], [], label="what the determinant's sign alone forces: no filled marker beneath", **style.BOUND)
    ]
    if not all(c.forced.all() for c in shown):
        text = "hollow: the determinant has the other sign, or none"
        handles.append(
            Line2D(
                [], [], color="0.35", marker="o", markerfacecolor="white", linestyle="none", markersize=4.5, label=text
            )
        )
    return handles


def _spread(axis: Axes, c: Curve, offset: float, apart: float) -> np.ndarray:
    """Rows evenly along the drawn path, `apart` panel widths, shifted so that runs on one curve all show."""
    spans = [abs(np.log(high / low)) for low, high in (axis.get_xlim(), axis.get_ylim())]
    seen = np.flatnonzero(c.entry >= axis.get_ylim()[0])
    steps = np.hypot(np.diff(np.log(c.loss[seen])) / spans[0], np.diff(np.log(c.entry[seen])) / spans[1])
    path = np.concatenate([[0.0], np.cumsum(steps)])
    wanted = np.arange(offset * apart, path[-1], apart)
    return np.unique(seen[[*np.searchsorted(path, wanted), len(path) - 1]])
