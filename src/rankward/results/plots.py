"""Plots of results, for `rankward.Run` and `rankward.Sweep`: matplotlib draws on axes that the caller may change."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rankward.environment import import_matplotlib

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes

CYCLE = 10  # colours of the default cycle; more lines are coloured along a map
LOG_RATIO = 20  # of the largest to the least number of a key, from which its axis is logarithmic
MAX_LABELLED = 400  # cells


def rows(trace: pl.DataFrame, names: Sequence[str], x: str, absolute: bool, axis: Axes | None) -> Axes:
    """Draw columns of a trace against another one; the loss has a logarithmic axis and falls to the right."""
    axis = _axis() if axis is None else axis
    for name in names:
        values = trace[name].to_numpy()
        axis.plot(trace[x].to_numpy(), np.abs(values) if absolute else values, label=_bars(name, absolute))
    _scale_x(axis, x)
    if list(names) == ["loss"]:
        axis.set_yscale("log")
    if len(names) == 1:
        axis.set_ylabel(_bars(names[0], absolute))
    else:
        axis.legend()
    return axis


def bands(
    frame: pl.DataFrame,
    x: str,
    ylabel: str,
    by: Sequence[str],
    facet: str | None,
    axis: Axes | None,
    points: bool,
) -> Axes | np.ndarray:
    """Draw lines of medians with bands between quartiles.

    Args:
        frame: columns `by`, `facet`, `x`, `median`, `low`, `high`.
        points: whether the values are marked, too.

    Returns:
        The axes; with `facet` [panels].
    """
    if axis is not None and facet is not None:
        raise ValueError("axis: one axis does not have the panels of facet")
    lines = list(dict.fromkeys(frame.select(by).rows())) if by else [()]
    many = _matplotlib().get_cmap("viridis")
    colors = [many(i / len(lines)) if len(lines) > CYCLE else f"C{i}" for i in range(len(lines))]
    logarithmic: dict[str, Any] = {"yscale": "log"} if ylabel == "loss" else {}
    if facet is None:
        panel = _axis() if axis is None else axis
        _draw(panel, frame, x, by, lines, colors, points)
        panel.set(ylabel=ylabel, **logarithmic)
        if by:
            panel.legend(**({"loc": "upper left", "bbox_to_anchor": (1, 1)} if axis is None else {}))
        return panel
    values = frame[facet].unique(maintain_order=True).to_list() or [None]
    size = (1.5 + 3.2 * len(values), 3.6)
    figure = _matplotlib().figure(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(values), sharex=True, sharey=True, squeeze=False)[0]
    for panel, value in zip(panels, values, strict=True):
        _draw(panel, frame.filter(frame[facet].eq_missing(value)), x, by, lines, colors, points)
        panel.set_title(f"{facet} {value}")
    panels[0].set(ylabel=ylabel, **logarithmic)
    if by:
        named = {str(line.get_label()): line for panel in panels for line in panel.lines}
        figure.legend(named.values(), named.keys(), loc="outside right upper")
    return panels


def _draw(
    axis: Axes,
    frame: pl.DataFrame,
    x: str,
    by: Sequence[str],
    lines: Sequence[tuple[Any, ...]],
    colors: Sequence[Any],
    points: bool,
) -> None:
    for values, part in frame.group_by(by, maintain_order=True) if by else [((), frame)]:
        color = colors[lines.index(values)]
        name = ", ".join(f"{key} {value}" for key, value in zip(by, values, strict=True)) or None
        axis.plot(part[x], part["median"], "o-" if points else "-", label=name, color=color)
        axis.fill_between(part[x], part["low"], part["high"], color=color, alpha=0.2, linewidth=0)
    _scale_x(axis, x, frame[x].to_numpy() if points else ())


def cells(frame: pl.DataFrame, rows: str, columns: str, label: str, axis: Axes | None) -> Axes:
    """Draw the medians of pairs of keys as coloured cells, the first row at the top.

    Args:
        frame: columns `rows`, `columns`, `median`; a pair without a row is an empty cell.
    """
    axis = _axis() if axis is None else axis
    down, across = (frame[key].unique().sort().to_list() for key in (rows, columns))
    values = np.full((len(down), len(across)), np.nan)
    for row, column, median in frame.select(rows, columns, "median").iter_rows():
        values[down.index(row), across.index(column)] = median
    finite = values[np.isfinite(values)]
    signed = finite.size > 0 and finite.min() < 0 < finite.max()
    limit = np.abs(finite).max() if signed else None
    limits = {"vmin": -limit, "vmax": limit, "cmap": "RdBu_r"} if limit is not None else {"cmap": "viridis"}
    image = axis.imshow(values, aspect="auto", **limits)
    axis.set(xlabel=columns, ylabel=rows)
    axis.set_xticks(range(len(across)), [_shown(value) for value in across])
    axis.set_yticks(range(len(down)), [_shown(value) for value in down])
    axis.figure.colorbar(image, ax=axis, label=f"median of {label}")
    for row, column in np.argwhere(np.isfinite(values)) if values.size <= MAX_LABELLED else ():
        red, green, blue, _ = image.cmap(image.norm(values[row, column]))
        color = "black" if 0.3 * red + 0.6 * green + 0.1 * blue > 0.5 else "white"
        axis.text(column, row, f"{values[row, column]:.3g}", ha="center", va="center", color=color)
    return axis


def _shown(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _bars(name: str, absolute: bool) -> str:
    return f"|{name}|" if absolute else name


def _scale_x(axis: Axes, x: str, numbers: Any = ()) -> None:
    positive = len(numbers) > 0 and min(numbers) > 0 and max(numbers) / min(numbers) >= LOG_RATIO
    axis.set(xlabel=x, **({"xscale": "log"} if x == "loss" or positive else {}))
    if x == "loss":
        axis.xaxis.set_inverted(True)


def _axis() -> Axes:
    return _matplotlib().figure(layout="constrained").add_subplot()


def _matplotlib() -> Any:
    import_matplotlib()
    import matplotlib.pyplot as plt

    return plt
