"""Where runs leave the balanced flow's envelope, against their unbalancedness at the start: a panel a depth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from rankward import results
from rankward.figures import style
from rankward.figures._runs import LeftOut, curve_of, read, short
from rankward.theory.departure import Line, censored_line, departure, predicted_exponent

LEAST_BALANCE = 1e-13  # unbalancedness below is rounding of a balanced start

NEEDS_FOLDERS = True  # it reads runs' own files


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run: depth, rate, start, unbalancedness at the start, and the loss at which it departs.

    `departure` is null where a run has not departed at its last loss, `last_loss`. Runs that diverged, or that leave
    not just one entry unobserved, are left out.

    Raises:
        ResultsError: no run to show.
    """
    rows = []
    for folder in results.run_folders(sweep):
        try:
            files = read(folder)
            shown = curve_of(folder.name, files)
        except (LeftOut, results.ResultsError):
            continue
        trace, config = files.trace, files.config
        if "balance/unbalancedness" not in trace.columns:
            continue
        loss, _ = departure(shown.loss, shown.entry, shown.bound(shown.loss))
        rate = config["lr"]
        rows.append(
            {
                "run": shown.run,
                "depth": shown.depth,
                "rate": "flow" if rate["name"] == "flow" else f"lr {short(rate['eta'])}",
                "scale": float(config["init"]["scale"]),
                "unbalance": config["init"].get("unbalance"),
                "unbalancedness": float(trace["balance/unbalancedness"][0]),
                "departure": None if np.isnan(loss) else loss,
                "last_loss": float(shown.loss[-1]),
            }
        )
    if not rows:
        raise results.ResultsError(f"cannot draw departure of {sweep}: no finished run with one entry unobserved")
    schema = {"departure": pl.Float64, "unbalance": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None)


def reference(table: pl.DataFrame) -> str:
    """The rate whose runs the laws are fit to: flow, or else the smallest learning rate."""
    rates = table["rate"].unique().to_list()
    return "flow" if "flow" in rates else min(rates, key=lambda rate: float(rate.removeprefix("lr ")))


def laws(table: pl.DataFrame) -> list[tuple[int, float | None, Line]]:
    """Depth, `init.unbalance` (None for all together), and ln departure against ln unbalancedness.

    Runs that have not departed are known to be below their last loss. Of one rate alone: the same start departs at
    nearly the same loss at any rate that is small enough, so other rates would be the same runs once more.
    """
    used = table.filter((pl.col("unbalancedness") > LEAST_BALANCE) & (pl.col("rate") == reference(table)))
    found = []
    for depth in used["depth"].unique().sort():
        own = used.filter(pl.col("depth") == depth)
        parts = own["unbalance"].drop_nulls().unique().sort(descending=True).to_list()
        for unbalance in [None, *(parts if len(parts) > 1 else [])]:
            part = own if unbalance is None else own.filter(pl.col("unbalance") == unbalance)
            hidden = part["departure"].is_null().to_numpy()
            y = np.log(part["departure"].fill_null(part["last_loss"]).to_numpy())
            line = censored_line(np.log(part["unbalancedness"].to_numpy()), y, hidden)
            if line is not None:
                found.append((int(depth), unbalance, line))
    return found


def rates(table: pl.DataFrame) -> list[tuple[int, str, float, int]]:
    """Depth, rate, the median of |ln departure - ln departure of the reference| over starts, and how many starts."""
    first = reference(table)
    start = ["depth", "scale", "unbalance", "unbalancedness"]
    wide = table.pivot("rate", index=start, values="departure", aggregate_function="first")
    others = [name for name in wide.columns if name not in (*start, first)]
    gaps = [
        (int(depth), name, (part[name] / part[first]).log().abs().drop_nulls())
        for (depth,), part in wide.group_by("depth", maintain_order=True)
        for name in others
    ]
    return [(depth, name, float(gap.median()), len(gap)) for depth, name, gap in gaps if len(gap)]  # type: ignore[arg-type]


def told(table: pl.DataFrame) -> str:
    """The laws, and what the rate does, a line each, of the table that `curves` makes."""
    lines = [
        f"depth {depth}{'' if unbalance is None else f', unbalance {unbalance:g}'}: departure ~ unbalancedness^"
        f"{line.slope:.2f} [{line.interval[0]:.2f}, {line.interval[1]:.2f}] "
        f"({predicted_exponent(depth):.2f} by scaling); "
        f"{line.seen} runs of {reference(table)} departed, {line.hidden} did not"
        for depth, unbalance, line in laws(table)
    ]
    lines += [
        f"depth {depth}: {rate} departs within a factor {np.exp(gap):.4f} of {reference(table)} (median of {starts})"
        for depth, rate, gap, starts in rates(table)
    ]
    return "\n".join(lines)


def draw(sweep: Path) -> list[Path]:
    """Draw the departures with the fitted and the predicted law.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "departure")


def _figure(table: pl.DataFrame) -> Figure:
    table = table.filter(pl.col("rate") == reference(table))
    depths = table["depth"].unique().sort().to_list()
    found = {depth: line for depth, unbalance, line in laws(table) if unbalance is None}
    figure = Figure(figsize=(3.4 * len(depths), 3.5), layout="constrained")
    axes = figure.subplots(1, len(depths), sharey=True, squeeze=False)[0]
    for axis, depth in zip(axes, depths, strict=True):
        _panel(axis, table.filter(pl.col("depth") == depth), depth, found.get(depth))
    axes[0].set_ylabel(f"loss at departure ({table['rate'][0]})")
    return figure


def _panel(axis: Axes, rows: pl.DataFrame, depth: int, line: Line | None) -> None:
    look: Any = {"linewidths": 0, "alpha": 0.6, "rasterized": True}
    for number, unbalance in enumerate(rows["unbalance"].unique().sort(descending=True, nulls_last=True)):
        own = rows.filter(pl.col("unbalance").eq_missing(pl.lit(unbalance)))
        seen, rest = own.filter(pl.col("departure").is_not_null()), own.filter(pl.col("departure").is_null())
        look |= {"color": style.COLORS[number % len(style.COLORS)]}
        label = None if unbalance is None else f"unbalance {unbalance:g}"
        axis.scatter(seen["unbalancedness"], seen["departure"], s=7, label=label, **look)
        axis.scatter(rest["unbalancedness"], rest["last_loss"], s=9, marker="v", **look)
    axis.set(xscale="log", yscale="log", xlabel="unbalancedness at the start", title=f"depth {depth}")
    if line is not None:
        ends, middle = np.array(axis.get_xlim()), float(np.log(rows["unbalancedness"].to_numpy()).mean())
        exponent = predicted_exponent(depth)
        for slope, text, dashes in (
            (line.slope, f"fitted {line.slope:.2f} [{line.interval[0]:.2f}, {line.interval[1]:.2f}]", "-"),
            (exponent, f"by scaling {exponent:.2f}", (0, (4, 2))),
        ):
            height = np.exp(line.intercept + line.slope * middle + slope * (np.log(ends) - middle))
            axis.plot(ends, height, color="0.1", linewidth=1, linestyle=dashes, label=text)
        axis.set_xlim(*ends)
    axis.set_ylim(5e-5, 1)
    axis.legend(loc="lower left" if depth == 2 else "upper left")
