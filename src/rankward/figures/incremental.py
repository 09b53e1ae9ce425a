"""Components rise one after another: their norms against the iteration, and beneath them the staircase of the error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator

from rankward import results
from rankward.config.overrides import unquoted
from rankward.figures import reads_run_folders, style
from rankward.figures._runs import Files, LeftOut, read
from rankward.theory.stages import SHARE, Stages, stages_of

COLUMNS = 4  # of panels; further settings are named beneath
NORMS = {
    "cp_weight": "component norm",
    "local_component": "norm of local components",
    "singular_value": "singular value",
}
ERRORS = {"error/reconstruction_relative": "relative error", "error/reconstruction": "error", "loss": "loss"}
FORMS = {"tensor": "CP"}  # names in titles other than the config's
SHADES = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.85, 256))
OTHER: Any = {"color": "0.75", "linewidth": 0.8, "zorder": 1}
RISE: Any = {"color": "0.45", "linewidth": 0.7, "linestyle": (0, (1.5, 2)), "zorder": 0.5}
PLATEAU: Any = {"color": "0.945", "linewidth": 0, "zorder": 0}
MAX_LETTERS = 40  # of a line of a title


@dataclass(frozen=True)
class Panel:
    """A column of panels: the first finished run of a setting.

    Args:
        form: factorization, and depth or order.
        where: the node of a tree, after a colon.
        overrides: of the setting, without seeds.
        norms: of the components, [components, rows], the largest of each row first.
        names: of the norm and of the error.
    """

    form: str
    where: str
    overrides: tuple[str, ...]
    iteration: np.ndarray
    norms: np.ndarray
    error: np.ndarray
    names: tuple[str, str]
    stages: Stages


def panels(sweep: Path) -> tuple[list[Panel], list[str]]:
    """The first finished run of each setting that has components, and a line for each run that is left out.

    A setting is the overrides without seeds. The norms are those of `theory.stages_of`.
    """
    shown: dict[tuple[str, ...], Panel] = {}
    left_out = []
    for folder in results.run_folders(sweep):
        name = results.run_name(sweep, folder)
        try:
            given = [unquoted(each) for each in results.read_overrides(folder)]
            overrides = tuple(each for each in given if not results.is_seed(each.partition("=")[0]))
            if overrides in shown:
                left_out.append(f"{name}: another seed")
            else:
                shown[overrides] = panel_of(read(folder), overrides)
        except (LeftOut, results.ResultsError) as reason:
            left_out.append(f"{name}: {reason}")
    return list(shown.values()), left_out


def panel_of(files: Files, overrides: tuple[str, ...] = ()) -> Panel:
    """The panel of a run.

    Raises:
        LeftOut: its trace has no components, or no finite row.
    """
    trace = {name: files.trace[name].to_numpy() for name in files.trace.columns}
    staged = stages_of(trace)
    if staged is None:
        raise LeftOut("its trace has no norms of components")
    norms, error = np.stack([trace[name] for name in staged.norms]), trace[staged.error]
    if not (np.isfinite(norms).all(0) & np.isfinite(error)).any():
        raise LeftOut("no finite row")
    kind = files.config["factorization"]["name"]
    size = f"depth {files.config['depth']['layers']}" if kind == "matrix" else f"order {files.arrays['product'].ndim}"
    family, *node, _ = staged.norms[0].split("/")
    where = "".join(": root" if each == "root" else f": modes {each.replace('_', ', ')}" for each in node)
    form, names = f"{FORMS.get(kind, kind)}, {size}", (NORMS[family], ERRORS[staged.error])
    return Panel(form, where, overrides, trace["iteration"], norms, error, names, staged.stages)


def titles(shown: Sequence[Panel]) -> list[str]:
    """The form of each panel; where that is not enough, the overrides that differ follow in a second line."""
    found = []
    for panel in shown:
        alike = [set(each.overrides) for each in shown if each.form == panel.form]
        common = set.intersection(*alike)
        differ = ", ".join(each for each in panel.overrides if each not in common)
        short = differ if len(differ) <= MAX_LETTERS else differ[: MAX_LETTERS - 1] + "…"
        found.append(f"{panel.form}{panel.where}" + f"\n{short}" * bool(short))
    return found


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the norms of components, and the error beneath them, for the first run of each of at most four settings.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    shown, left_out = panels(sweep)
    if not shown:
        reasons = "; ".join(["no finished run with components there", *left_out])
        raise results.ResultsError(f"cannot draw incremental of {sweep}: {reasons}")
    return style.save_drawn(lambda: _figure(shown), sweep, "incremental")


def _figure(shown: Sequence[Panel]) -> Figure:
    drawn = shown[:COLUMNS]
    figure = Figure(figsize=(0.5 + 3.2 * max(len(drawn), 2), 5.0))
    figure.set_layout_engine("constrained", w_pad=0.1)
    axes = figure.subplots(2, len(drawn), sharex="col", squeeze=False, height_ratios=[1.45, 1])
    for (above, below), panel, title in zip(axes.T, drawn, titles(drawn), strict=True):
        _norms(above, panel)
        _error(below, panel)
        above.set_title(title)
        for axis in (above, below):
            for rise in panel.stages.rises:
                axis.axvline(rise, **RISE)
        end, last = _end(panel), int(panel.iteration[-1])
        above.set_xlim(0, end)
        below.set_xlabel("iteration" if end == last else f"iteration (the run ends at {last:,})")
        below.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        below.xaxis.set_major_locator(MaxNLocator(5))
    for row, place in zip(axes, (0, 1), strict=True):
        for number, (axis, panel) in enumerate(zip(row, drawn, strict=True)):
            if number == 0 or panel.names[place] != drawn[number - 1].names[place]:
                axis.set_ylabel(panel.names[place])
    key = [
        Line2D([], [], color=SHADES[0], label="above 10 % of the largest, the largest darkest"),
        Line2D([], [], label="others", **OTHER),
        Line2D([], [], label="half of the maximum reached", **RISE),
        Patch(label="plateau of the error", **PLATEAU | {"color": "0.88"}),
    ]
    if len(shown) > COLUMNS:
        key.append(Line2D([], [], linestyle="none", label=f"and {len(shown) - COLUMNS} more settings"))
    style.legend_beneath(figure, ncols=min(len(key), 2 * max(len(drawn), 2)), handles=key)
    return figure


def _end(panel: Panel) -> int:
    """The last iteration to draw: a plateau at the end takes at most half of the axis."""
    last = int(panel.iteration[-1])
    if panel.stages.plateaus and panel.stages.plateaus[-1][1] == last and panel.stages.rises:
        return min(last, 2 * max(panel.stages.plateaus[-1][0], panel.stages.rises[-1]))
    return last


def _norms(axis: Axes, panel: Panel) -> None:
    highest = np.nanmax(panel.norms, axis=1)
    large = int((highest > SHARE * highest.max()).sum())
    shades = SHADES[np.linspace(0, len(SHADES) - 1, max(large, 2)).astype(int)]
    for r, norm in reversed(list(enumerate(panel.norms))):
        look = {"color": shades[r], "linewidth": 1.6, "zorder": 2} if r < large else OTHER
        axis.plot(panel.iteration, norm, **look)
    axis.set_ylim(bottom=0)


def _error(axis: Axes, panel: Panel) -> None:
    for first, last in panel.stages.plateaus:
        axis.axvspan(first, last, **PLATEAU)
    axis.plot(panel.iteration, panel.error, color=style.COLORS[1], linewidth=1.4, zorder=2)
    axis.set_ylim(bottom=0)
