"""A sweep in a few lines: what there is to do before it, and what became of it after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import polars as pl

from rankward import results
from rankward.config import RunConfig
from rankward.config.checks import GIB
from rankward.config.overrides import unquoted
from rankward.terminal import visible

RANKS = ("rank/cp_upper", "rank/effective", "rank/numerical")  # the first that runs have is told
ERROR = "error/reconstruction"
ROWS = 12  # of the closing table at most; all are in runs.parquet
APART = ("logger=", "hydra.")  # overrides that make no other setting, beside those of seeds


def closing_table(parts: Iterable[pl.DataFrame]) -> str:
    """Best, median and spread of the last loss over seeds for each setting, and how runs have ended.

    A setting is what the overrides say that differ between runs, but for the seed. Runs that diverged or are missing
    count as failed, interrupted ones apart where there are any. A rank and the reconstruction error follow, as medians.

    Args:
        parts: of the sweep's runs; texts are kept once for each setting, so that millions of runs need little memory.
    """
    told_once: dict[str, str] = {}  # an override, as it is told; empty for one that makes no other setting
    places: dict[tuple[str, ...], int] = {}

    def place(text: str) -> int:
        told = []
        for part in text.split(" "):
            if part not in told_once:
                apart = part.startswith(APART) or results.is_seed(part.partition("=")[0])
                told_once[part] = "" if apart else unquoted(part)
            if shown := told_once[part]:
                told.append(shown)
        return places.setdefault(tuple(told), len(places))

    frames = []
    for part in parts:
        mine = pl.Series([place(text) for text in part["overrides"].fill_null("")], dtype=pl.Int32)
        wanted = ["job", "status", "loss", *RANKS, ERROR]
        frames.append(part.select(name for name in wanted if name in part.columns).with_columns(place=mine))
    runs = pl.concat(frames, how="diagonal_relaxed")
    runs = runs.sort("job", maintain_order=True) if len(frames) > 1 else runs
    common = set(next(iter(places))).intersection(*places)
    labels = [visible(" ".join(part for part in setting if part not in common) or "all") for setting in places]
    ended, stopped = pl.col("status").is_in(results.ENDED), pl.col("status") == "interrupted"
    rank = next((name for name in RANKS if name in runs.columns), None)
    told = [name for name in (rank, ERROR) if name in runs.columns]
    loss = pl.col("loss").filter(ended) if "loss" in runs.columns else pl.lit(None, dtype=pl.Float64)
    table = runs.group_by("place", maintain_order=True).agg(
        pl.len().alias("runs"),
        (pl.col("status") == "converged").sum().alias("converged"),
        (~ended & ~stopped).sum().alias("failed"),
        *([stopped.sum().alias("interrupted")] if "interrupted" in runs["status"] else []),
        loss.min().alias("best loss"),
        loss.median().alias("median loss"),
        (loss.quantile(0.75) - loss.quantile(0.25)).alias("spread"),
        *(pl.col(name).filter(ended).median().alias(name) for name in told),
    )
    rows = [[labels[number], *map(_cell, values)] for number, *values in table.head(ROWS).rows()]
    lines = _aligned([["setting", *table.columns[1:]], *rows])
    if table.height > ROWS:
        lines.append(f"... and {table.height - ROWS} more settings")
    return "\n".join(lines)


def plan(batches: Sequence[Sequence[RunConfig]]) -> str:
    """What a sweep would do: a line for each ensemble, with estimates of its memory and, from a few iterations, time.

    Args:
        batches: configs of each ensemble's runs.
    """
    from rankward.training.calibrate import max_training_seconds
    from rankward.training.ensemble import bytes_per_run

    seconds = [max_training_seconds(batch) for batch in batches]
    head = ["ensemble", "runs", "memory GiB", "at most", "what"]
    rows = [
        [
            str(number),
            str(len(batch)),
            f"{len(batch) * bytes_per_run(batch[0]) / GIB:.2f}",
            duration(time),
            _what(batch),
        ]
        for number, (batch, time) in enumerate(zip(batches, seconds, strict=True))
    ]
    total = sum(len(batch) for batch in batches)
    lines = _aligned([head, *rows])
    return "\n".join(
        [*lines, f"{total} runs, at most about {duration(sum(seconds))} of training; nothing was trained or written"]
    )


def _what(batch: Sequence[RunConfig]) -> str:
    from rankward.training.job import describe

    names = list(dict.fromkeys(describe(run) for run in batch))
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else visible(value)


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """The first column to the left, the others to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if not i else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]


def duration(seconds: float) -> str:
    """Whole units that one can read at a glance.

    Example:
        >>> duration(0.4), duration(75), duration(120), duration(7300)
        ('1 s', '1 min 15 s', '2 min', '2 h 1 min')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    large, small, units = (minutes, rest, ("min", "s")) if minutes < 60 else (*divmod(minutes, 60), ("h", "min"))
    return f"{large} {units[0]} {small} {units[1]}" if small else f"{large} {units[0]}"
