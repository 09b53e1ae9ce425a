"""The end of a sweep: its table of runs, its figures, its W&B summary, and the closing table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from rankward import results
from rankward.config import RankwardError
from rankward.config.overrides import unquoted
from rankward.loggers import wandb_environment
from rankward.results.load import load
from rankward.sweeps.status import RANKS
from rankward.terminal import align, say, visible

ERRORS = ("error/reconstruction", "error/heldout_rmse")
BASELINES = "heldout.baselines."  # columns with errors of simple predictions of the held-out entries
STAGES = "rank/stages"  # the number of components that rise
EQUAL = "equal_to"  # column with the job whose results an equal job has
MAX_SETTINGS = 10_000  # rows of the largest table that W&B shows
MAX_ROWS = 12  # of the closing table; runs.parquet has all
IGNORED = ("logger=", "hydra.")  # overrides that, like seeds, do not make another setting


def finish(
    sweep: Path,
    figures: Sequence[str],
    wandb: Any = None,
    tables: Mapping[str, pl.DataFrame] | None = None,
    known: results.KnownRuns | None = None,
) -> None:
    """Write `runs.parquet`, draw the figures, log both to W&B, and print the closing table and the paths.

    Args:
        sweep: the sweep's folder.
        figures: names of modules in `rankward.figures`.
        wandb: the config's `logger.wandb`, or None.
        tables: additional tables for W&B.
        known: configs of the runs, as for `results.gather`.

    Raises:
        ResultsError: a table or picture cannot be written, or all runs of a figure are missing.
    """
    in_parts = results.is_table(sweep)
    if not (results.table_parts(sweep) if in_parts else results.run_folders(sweep)):
        return
    table = sweep / results.RUNS if in_parts else results.write_runs(sweep, known)
    loaded = load(sweep)
    if not wandb_environment.is_on({"wandb": wandb}):
        wandb = None
    pictures, curves, failures = _draw(sweep, figures, with_curves=wandb is not None)
    for picture in pictures:
        if picture.suffix == ".png":
            others = [p.suffix for p in pictures if p != picture and p.with_suffix(".png") == picture]
            say(f"figure:  {picture}" + (f" (and {', '.join(others)})" if others else ""))
    settings, equal = settings_table(results.table_frames(sweep) if in_parts else [loaded.runs])
    say(*_format_table(settings, equal))
    say(f"table:   {table}")
    if wandb is not None:
        from rankward.loggers.charts import charts
        from rankward.loggers.target import LoggerError
        from rankward.loggers.wandb import log_sweep
        from rankward.sweeps.command import original_command

        small = {} if in_parts else {"runs": loaded.runs}  # a table of very many runs is too large for W&B
        small |= {"settings": settings} if settings.height <= MAX_SETTINGS else {}
        drawn = {} if in_parts else charts(loaded)
        logged, last = {**small, **(tables or {}), **curves}, over_seeds(settings)
        try:
            log_sweep(wandb, sweep, original_command(sweep), logged, pictures, drawn, last)
        except LoggerError as error:
            failures.append(str(error))
    folder = (wandb_environment.folder(sweep) if wandb is not None else sweep) / results.WANDB
    if folder.is_dir():
        is_offline = next(folder.glob("offline-run-*"), None) is not None
        say(f"W&B:     {folder}" + f"  (upload: wandb sync {folder}/offline-run-*)" * is_offline)
    if failures:
        raise results.ResultsError("; ".join(failures))


def _draw(
    sweep: Path, figures: Sequence[str], with_curves: bool
) -> tuple[list[Path], dict[str, pl.DataFrame], list[str]]:
    """Draw figures and print their sentences: pictures, tables by the figure's name, and errors, each in a line."""
    from rankward.figures import figure

    pictures: list[Path] = []
    curves: dict[str, pl.DataFrame] = {}
    failures: list[str] = []
    for name in figures:
        module = figure(name)
        sentences = getattr(module, "told", None)
        try:
            pictures += module.draw(sweep)
            if hasattr(module, "curves") and (sentences or with_curves):
                curves[name] = module.curves(sweep)
        except Exception as error:  # a user's figure may raise anything; the sweep still gets its table
            is_plain = isinstance(error, OSError | RankwardError)
            line = str(error) if is_plain else f"cannot draw {name}: {type(error).__name__}: {error}"
            failures.append(line)
            continue
        if sentences:
            say(*sentences(curves[name]).split("\n"))
    return pictures, curves, failures


def closing_table(parts: Iterable[pl.DataFrame]) -> str:
    """Format the `settings_table` of a sweep's runs for the terminal."""
    return "\n".join(_format_table(*settings_table(parts)))


def over_seeds(settings: pl.DataFrame) -> dict[str, Any]:
    """The row of a `settings_table` by names for W&B's summary; empty if it has several settings, with a row each.

    Example:
        >>> over_seeds(pl.DataFrame({"setting": ["all"], "runs": [5], "best loss": [0.1], "rank/effective": [1.2]}))
        {'runs': 5, 'best/loss': 0.1, 'median/rank/effective': 1.2}
    """
    if settings.height != 1:
        return {}
    named = {"best loss": "best/loss", "median loss": "median/loss", "spread": "spread/loss"}
    counts = ("runs", "converged", "failed", *results.RESUMABLE)
    row = settings.drop("setting").row(0, named=True)
    return {named.get(key, key if key in counts else f"median/{key}"): value for key, value in row.items()}


def settings_table(parts: Iterable[pl.DataFrame]) -> tuple[pl.DataFrame, int]:
    """Best, median and interquartile range of the last loss over seeds for each setting, and the runs' ends.

    A setting is the set of overrides that differ between runs, without seeds. Diverged and missing runs count as
    failed; runs that were interrupted or have ended at `max_seconds` have a column if there are any. Medians of a rank,
    of the number of stages, of the reconstruction error, of the held-out error and of the errors of simple predictions
    follow.
    Jobs that have the results of an equal one are not counted here; their number is the second value.

    Args:
        parts: tables of the sweep's runs. A text is stored once for each setting, so that millions of runs need little
            memory.
    """
    labels: dict[str, str] = {}  # of each override; empty if it does not make another setting
    settings: dict[tuple[str, ...], int] = {}

    def setting_index(overrides: str) -> int:
        setting = []
        for override in overrides.split(" "):
            if override not in labels:
                ignored = override.startswith(IGNORED) or results.is_seed(override.partition("=")[0])
                labels[override] = "" if ignored else unquoted(override)
            if label := labels[override]:
                setting.append(label)
        return settings.setdefault(tuple(setting), len(settings))

    frames, equal = [], 0
    for part in parts:
        if EQUAL in part.columns:
            equal += part.height - part[EQUAL].null_count()
            part = part.filter(pl.col(EQUAL).is_null())
        index = pl.Series([setting_index(text) for text in part["overrides"].fill_null("")], dtype=pl.Int32)
        columns = ["job", "status", "loss", *RANKS, STAGES, *ERRORS]
        kept = [name for name in part.columns if name in columns or name.startswith(BASELINES)]
        frames.append(part.select(kept).with_columns(setting=index))
    runs = pl.concat(frames, how="diagonal_relaxed")
    runs = runs.sort("job", maintain_order=True) if len(frames) > 1 else runs
    common = set(next(iter(settings))).intersection(*settings)
    names = [visible(" ".join(part for part in setting if part not in common) or "all") for setting in settings]
    status, ended = pl.col("status"), pl.col("status").is_in(results.ENDED)
    resumable = [name for name in results.RESUMABLE if name in runs["status"]]
    rank = next((name for name in RANKS if name in runs.columns), None)
    medians = {name: name for name in (rank, STAGES, *ERRORS) if name in runs.columns}
    medians |= {name: f"RMSE of {name.removeprefix(BASELINES)}" for name in runs.columns if name.startswith(BASELINES)}
    loss = pl.col("loss").filter(ended) if "loss" in runs.columns else pl.lit(None, dtype=pl.Float64)
    table = runs.group_by("setting", maintain_order=True).agg(
        pl.len().alias("runs"),
        (status == "converged").sum().alias("converged"),
        (~ended & ~status.is_in(results.RESUMABLE)).sum().alias("failed"),
        *((status == name).sum().alias(name) for name in resumable),
        loss.min().alias("best loss"),
        loss.median().alias("median loss"),
        (loss.quantile(0.75) - loss.quantile(0.25)).alias("spread"),
        *(pl.col(name).filter(ended).median().alias(shown) for name, shown in medians.items()),
    )
    return table.with_columns(setting=pl.Series([names[index] for index in table["setting"]], dtype=pl.String)), equal


def _format_table(table: pl.DataFrame, equal: int) -> list[str]:
    rows = [[name, *map(_cell, values)] for name, *values in table.head(MAX_ROWS).rows()]
    lines = align([table.columns, *rows])
    if table.height > MAX_ROWS:
        lines.append(f"... and {table.height - MAX_ROWS} more settings")
    if equal:
        lines.append(f"{equal:,} more jobs have the results of an equal one ({EQUAL} in {results.RUNS})")
    return lines


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3g}" if isinstance(value, float) else visible(value)
