"""Losses at which the determinant's sign changes and at which runs leave its bound, against initial unbalancedness."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from rankward import results
from rankward.figures import reads_run_folders, style
from rankward.figures._runs import LeftOut, curve_of, read, short
from rankward.theory.departure import departure, predicted_exponent, protection, turning
from rankward.theory.regression import Law, median_law

LEAST_BALANCE = 1e-13  # unbalancedness below is rounding of a balanced start
PROTECTION = ("determinant/resolution", "norm/spectral", "balance/unbalancedness")
EVENTS = {"turning": "the sign turns", "departure": "leaves the bound"}


def curves(sweep: Path) -> pl.DataFrame:
    """A row for each run: depth, rate, start, unbalancedness at the start, and the losses of two events.

    `turning` is the loss at which the determinant's sign changes for good, `departure` the loss at which |W_11| falls
    below the sharp bound for good; null where neither has happened at the last loss, `last_loss`. `early` says that the
    sign changed at a loss too large for a bound (`Curve.largest_loss`). `protected` is the loss down to which the
    measured unbalancedness proves that the sign stays, null for none or where rows cannot be shown; `protected_turns`
    says whether it turned all the same. Runs that diverged are left out, and runs that leave more than one entry
    unobserved.

    Raises:
        ResultsError: no run to show.
    """
    rows = []
    for folder in results.run_folders(sweep):
        try:
            files = read(folder)
            shown = curve_of(results.run_name(sweep, folder), files)
        except (LeftOut, results.ResultsError):
            continue
        trace, config = files.trace, files.config
        if not set(PROTECTION) <= set(trace.columns):
            continue
        turned = turning(shown.loss, shown.forced)
        left, _ = departure(shown.loss, shown.entry, shown.bound(shown.loss))
        resolution, spectral, unbalancedness = (trace[name].to_numpy() for name in PROTECTION)
        safe, rows_safe = np.nan, 0
        if trace.height == len(shown.loss):
            safe, rows_safe = protection(shown.loss, resolution, spectral, unbalancedness, shown.depth)
        rate = config["lr"]
        rows.append(
            {
                "run": shown.run,
                "depth": shown.depth,
                "rate": "flow" if rate["name"] == "flow" else f"lr {short(rate['eta'])}",
                "scale": float(config["init"]["scale"]),
                "unbalance": config["init"].get("unbalance"),
                "seed": shown.seed,
                "unbalancedness": float(trace["balance/unbalancedness"][0]),
                "turning": None if np.isnan(turned) else turned,
                "departure": None if np.isnan(left) else left,
                "early": turned > shown.largest_loss,
                "protected": None if np.isnan(safe) else safe,
                "protected_turns": bool((~shown.forced[:rows_safe]).any()),
                "last_loss": float(shown.loss[-1]),
            }
        )
    if not rows:
        raise results.ResultsError(f"cannot draw departure of {sweep}: no finished run with one entry unobserved")
    schema = {"turning": pl.Float64, "protected": pl.Float64, "departure": pl.Float64, "unbalance": pl.Float64}
    return pl.DataFrame(rows, schema_overrides=schema, infer_schema_length=None)


def reference(table: pl.DataFrame) -> str:
    """The rate whose runs the laws are fit to: flow, or else the smallest learning rate."""
    rates = table["rate"].unique().to_list()
    return "flow" if "flow" in rates else min(rates, key=lambda rate: float(rate.removeprefix("lr ")))


def parts(table: pl.DataFrame) -> Iterator[tuple[float, float | None, pl.DataFrame]]:
    """Depth, `init.unbalance` (None for all together, where there are several), and the reference's runs of it."""
    used = table.filter((pl.col("unbalancedness") > LEAST_BALANCE) & (pl.col("rate") == reference(table)))
    for depth in used["depth"].unique().sort():
        of_depth = used.filter(pl.col("depth") == depth)
        shares = of_depth["unbalance"].unique().sort(descending=True, nulls_last=True).to_list()
        for share in shares:
            yield depth, share, of_depth.filter(pl.col("unbalance").eq_missing(pl.lit(share)))
        if len(shares) > 1:
            yield depth, None, of_depth


def law(part: pl.DataFrame, event: str) -> Law | None:
    """ln loss at the event against ln unbalancedness, through the medians of each share and scale; see `median_law`."""
    hidden = part[event].is_null().to_numpy()
    y = np.log(part[event].fill_null(part["last_loss"]).to_numpy())
    _, cell = np.unique(part.select(pl.struct("unbalance", "scale").rank("dense")).to_numpy(), return_inverse=True)
    return median_law(np.log(part["unbalancedness"].to_numpy()), y, hidden, cell.ravel(), part["seed"].to_numpy())


def by_the_sign(part: pl.DataFrame) -> bool:
    """Whether the sign changes early, before the runs reach the curve, in less than a quarter of them."""
    return bool(part["early"].sum() < 0.25 * len(part))


def rates(table: pl.DataFrame) -> list[tuple[float, str, np.ndarray, int]]:
    """Depth, rate, |ln departure - ln departure of the reference| of each start, and how many starts have only one."""
    first = reference(table)
    start = ["depth", "scale", "unbalance", "seed"]
    reference_runs = table.filter(pl.col("rate") == first)
    found = []
    for (depth, rate), part in (
        table.filter(pl.col("rate") != first).sort("depth", "rate").group_by("depth", "rate", maintain_order=True)
    ):
        pairs = part.join(reference_runs, on=start, nulls_equal=True)
        loss, reference_loss = pairs["departure"], pairs["departure_right"]
        gaps = (loss / reference_loss).log().abs().drop_nulls().to_numpy()
        alone = int((loss.is_null() != reference_loss.is_null()).sum())
        found.append((float(str(depth)), str(rate), gaps, alone))
    return [each for each in found if len(each[2])]


def told(table: pl.DataFrame) -> str:
    """A line for each depth and share, with the ends of the runs and a law; then one for each rate and the reference.

    The law is of the sign where few signs turn early. Elsewhere it is of the bound, and only describes.
    """
    lines = [f"the loss at an event ~ unbalancedness^slope, of {reference(table)}:"]
    for depth, share, part in parts(table):
        early, turned, left = int(part["early"].sum()), part["turning"].count(), part["departure"].count()
        line = "all shares" if share is None else f"unbalance {share:g}"
        line = (
            f"depth {depth:g}, {line}: the sign turns in {turned} of {len(part)} runs, in {early} before the bound "
            f"says anything; {left} leave the bound"
        )
        event = "turning" if share is not None and by_the_sign(part) else "departure"  # shares differ in height
        found = law(part, event)
        if found is not None:
            low, high = found.interval
            line += f"; {EVENTS[event]}: slope {found.slope:.2f} [{low:.2f}, {high:.2f}], {found.cells} medians"
            if event == "turning":
                line += f" ({predicted_exponent(depth):.2f} by scaling)"
            if share is not None and found.ahead is not None:
                at, low, high = found.ahead
                line += f"; the smallest scale's is {at:.2f} [{low:.2f}, {high:.2f}] times what the others say"
        lines.append(line)
    lines += [
        f"depth {depth:g}: {rate} leaves the bound within a factor {np.exp(np.median(gaps)):.4f} of {reference(table)} "
        f"(median of {len(gaps)} starts; at most {np.exp(gaps.max()):.3f}); {alone} starts leave it in one of both only"
        for depth, rate, gaps, alone in rates(table)
    ]
    return "\n".join(lines)


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw both events, a row each, with the slope that scaling predicts.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """
    table = curves(sweep)
    return style.save_drawn(lambda: _figure(table), sweep, "departure")


def _figure(table: pl.DataFrame) -> Figure:
    table = table.filter(pl.col("rate") == reference(table))
    depths = table["depth"].unique().sort().to_list()
    figure = Figure(figsize=(3.3 * len(depths), 5.6), layout="constrained")
    axes = figure.subplots(2, len(depths), sharey=True, sharex="col", squeeze=False)
    for row, event in zip(axes, EVENTS, strict=True):
        for axis, depth in zip(row, depths, strict=True):
            _panel(axis, table.filter(pl.col("depth") == depth), depth, event)
        row[0].set_ylabel(f"loss where {'it ' * (event == 'departure')}{EVENTS[event]}")
    for axis, depth in zip(axes[0], depths, strict=True):
        axis.set_title(f"depth {depth:g}")
    for axis in axes[1]:
        axis.set_xlabel("unbalancedness at the start")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    extra, names = axes[0, -1].get_legend_handles_labels()
    below = [Line2D([], [], color="0.5", marker="v", linestyle="none", markersize=3.5)]
    known = dict(zip([*labels, *names, "not by the last loss"], [*handles, *extra, *below], strict=True))
    style.legend_beneath(figure, known.values(), known.keys(), ncols=len(known))
    return figure


def _panel(axis: Axes, rows: pl.DataFrame, depth: float, event: str) -> None:
    look: Any = {"linewidths": 0, "alpha": 0.45, "rasterized": True}
    axis.set(xscale="log", yscale="log", ylim=(5e-5, 1.6))
    exponent = predicted_exponent(depth)
    for number, share in enumerate(rows["unbalance"].unique().sort(descending=True, nulls_last=True)):
        runs = rows.filter(pl.col("unbalance").eq_missing(pl.lit(share)))
        color = style.COLORS[number % len(style.COLORS)]
        seen, unseen = runs.filter(pl.col(event).is_not_null()), runs.filter(pl.col(event).is_null())
        label = None if share is None else f"unbalance {share:g}"
        axis.scatter(seen["unbalancedness"], seen[event], s=6, label=label, color=color, **look)
        axis.scatter(unseen["unbalancedness"], unseen["last_loss"], s=8, marker="v", color=color, **look)
        found = law(runs, event) if event == "turning" and by_the_sign(runs) else None
        if found is None:
            continue
        # Only the height in the middle is fitted; the slope is the predicted one.
        unbalancedness = np.log(runs["unbalancedness"].to_numpy())
        ends, middle = np.array([unbalancedness.min(), unbalancedness.max()]), unbalancedness.mean()
        height = np.exp(found.intercept + found.slope * middle + exponent * (ends - middle))
        axis.plot(np.exp(ends), height, color="0.1", linewidth=1, label="slope predicted by scaling")
