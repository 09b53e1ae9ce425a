"""Errors of natural data, of random labels and of random images against the number of components of a tensor."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rankward import results
from rankward.figures import style

TRAIN, TEST = "error/observed_scaled_mse", "error/heldout_scaled_mse"
LINES: dict[str, Any] = {"train": "-", "test": "--"}
KINDS = ("natural", "random labels", "random images", "random labels and images")


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run that ended: its data, kind, components, seed, and the mean squared errors of both sets.

    `kind` is one of `KINDS`.

    Raises:
        ResultsError: no finished run on images with the columns of `rankward.metrics.SampleErrors`.
    """
    runs = results.gather(sweep)
    needed = {TRAIN, TEST, "observations.labels", "observations.images", "factorization.components"}
    if not needed <= set(runs.columns):
        missing = ", ".join(sorted(needed - set(runs.columns)))
        raise results.ResultsError(f"cannot draw natural_data of {sweep}: no run has {missing}")
    labels, images = (pl.col(f"observations.{key}").cast(pl.String) == "random" for key in ("labels", "images"))
    path = pl.col("observations.path") if "observations.path" in runs.columns else pl.lit(None, pl.String)
    table = runs.filter(pl.col("status").is_in(results.ENDED)).select(
        data=path.str.split("/").list.last().fill_null(pl.col("observations.name")),
        kind=pl.when(labels & images)
        .then(pl.lit(KINDS[3]))
        .when(labels)
        .then(pl.lit(KINDS[1]))
        .when(images)
        .then(pl.lit(KINDS[2]))
        .otherwise(pl.lit(KINDS[0])),
        components="factorization.components",
        seed="seed",
        train=TRAIN,
        test=TEST,
    )
    if not len(table):
        raise results.ResultsError(f"cannot draw natural_data of {sweep}: no run has ended")
    return table.sort("data", "kind", "components", "seed")


def means(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each data set, kind and number of components: means, least and largest errors over the runs."""
    found = [
        of(name).alias(f"{name}{suffix}")
        for name in ("train", "test")
        for suffix, of in (("", pl.mean), ("_least", pl.min), ("_largest", pl.max))
    ]
    groups = table.group_by("data", "kind", "components", maintain_order=True).agg(*found, runs=pl.len())
    return groups.sort("data", "kind", "components")


def told(table: pl.DataFrame) -> str:
    """A line for each data set and kind: the errors at each number of components, means over seeds."""
    lines = []
    for (data, kind), part in means(table).group_by("data", "kind", maintain_order=True):
        errors = [
            f"{row['train']:.3g} and {row['test']:.3g} (R = {row['components']})" for row in part.rows(named=True)
        ]
        lines.append(f"{data}, {kind}: train and test errors are {', '.join(errors)}")
    return "\n".join(lines)


def draw(sweep: Path) -> list[Path]:
    """Draw a panel for each data set.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "natural_data")


def _figure(table: pl.DataFrame) -> Figure:
    shown = means(table)
    names = shown["data"].unique(maintain_order=True).to_list()
    figure = Figure(figsize=(1.6 + 4.2 * len(names), 3.6), layout="constrained")
    for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
        _panel(axis, shown.filter(pl.col("data") == name))
        axis.set_title(name, loc="left")
    kinds = [kind for kind in KINDS if kind in table["kind"].to_list()]
    marks = [Line2D([], [], color=_look(kind)["color"], marker=_look(kind)["marker"], label=kind) for kind in kinds]
    marks += [Line2D([], [], color="0.3", linestyle=line, label=name) for name, line in LINES.items()]
    figure.legend(handles=marks, loc="outside right upper")
    return figure


def _panel(axis: Axes, shown: pl.DataFrame) -> None:
    for kind, part in ((kind, shown.filter(pl.col("kind") == kind)) for kind in KINDS):
        x = part["components"].to_numpy()
        for name, line in LINES.items():
            middle, least, largest = (part[f"{name}{suffix}"].to_numpy() for suffix in ("", "_least", "_largest"))
            bars = np.array([np.maximum(middle - least, 0), np.maximum(largest - middle, 0)])
            axis.errorbar(x, middle, yerr=bars, linestyle=line, **_look(kind))
    axis.set(yscale="log", xlabel="number of components R", ylabel="mean squared error")
    axis.set_xticks(shown["components"].unique().sort().to_list())


def _look(kind: str) -> dict[str, Any]:
    number = KINDS.index(kind)
    return {"color": style.COLORS[number], "marker": style.MARKERS[number], "ms": 4, "lw": 1.0, "capsize": 2}
