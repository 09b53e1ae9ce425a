"""One look for all figures, and how they are saved: PNG, SVG and PDF, whole, the same bytes for the same data."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.legend import Legend

from rankward import results

COLORS = ("#1f6fb4", "#d1622b", "#4d9a57", "#8a5fa8", "#b8963e", "#5b8c8c")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "h", "p")
BOUND: Any = {"color": "0.35", "linewidth": 1.0, "linestyle": (0, (4, 2))}

for _talkative in ("fontTools", "matplotlib"):  # of each font that a PDF takes in
    logging.getLogger(_talkative).setLevel(logging.WARNING)

RC: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "xtick.color": "0.3",
    "ytick.color": "0.3",
    "svg.hashsalt": "rankward",
    "svg.fonttype": "path",  # looks the same where the font is not installed
    "pdf.fonttype": 42,
}


def save_drawn(make: Callable[[], Figure], sweep: Path, name: str, **rc: Any) -> list[Path]:
    """Make a figure in the shared style, changed by `rc`, and write it as `save` does.

    It starts from matplotlib's own defaults: a `matplotlibrc` changes no figure, and afterwards all is as it was.
    """
    defaults = {key: value for key, value in matplotlib.rcParamsDefault.items() if key != "backend"}
    with matplotlib.rc_context(defaults | RC | rc):
        return save(make(), sweep, name)


def legend_beneath(figure: Figure, *legend: Any, ncols: int, **options: Any) -> Legend:
    """Add a legend beneath all panels in `ncols` columns, or in as many as are not wider than the figure."""
    for columns in range(ncols, 0, -1):
        made = figure.legend(*legend, loc="outside lower center", ncols=columns, **options)
        if columns == 1 or made.get_window_extent().width <= figure.bbox.width:
            break
        made.remove()
    return made


def save(figure: Figure, sweep: Path, name: str) -> list[Path]:
    """Write `figures/<name>.png`, `.svg` and `.pdf` under a sweep, laid out once."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    paths = []
    for kind, metadata in (("png", {"Software": None}), ("svg", {"Date": None}), ("pdf", {"CreationDate": None})):
        path = sweep / results.FIGURES / f"{name}.{kind}"

        def write(temporary: Path, kind: str = kind, metadata: dict[str, None] = metadata) -> None:
            figure.savefig(temporary, format=kind, dpi=200, metadata=metadata)

        results.write_atomic(path, write)
        paths.append(path)
    return paths
