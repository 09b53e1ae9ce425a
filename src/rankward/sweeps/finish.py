"""What happens when a sweep has ended: one table of its runs, its figures, and where everything lies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from rankward import results
from rankward.config import RankwardError
from rankward.loggers import wandb_environment
from rankward.results.load import load
from rankward.sweeps.summary import closing_table
from rankward.terminal import say


def finish(
    sweep: Path,
    figures: Sequence[str],
    wandb: Any = None,
    more: Mapping[str, pl.DataFrame] | None = None,
    known: results.KnownRuns | None = None,
) -> None:
    """Write `runs.parquet`, draw the figures, log both as a summary to W&B, and say where everything lies.

    Args:
        sweep: its folder.
        figures: names of modules in `rankward.figures`.
        wandb: the config's `logger.wandb`, or None.
        more: tables for W&B beside that of the runs.
        known: configs of its runs, as for `results.gather`.

    Raises:
        ResultsError: a table or picture that cannot be written, or a figure whose runs are all missing.
    """
    in_parts = results.is_table(sweep)
    if not (results.table_parts(sweep) if in_parts else results.run_folders(sweep)):
        return
    table = sweep / results.RUNS if in_parts else results.write_runs(sweep, known)
    loaded = load(sweep)
    if not wandb_environment.is_on({"wandb": wandb}):
        wandb = None
    pictures: list[Path] = []
    tables: dict[str, pl.DataFrame] = {}
    failed: list[str] = []
    for name in figures:
        from rankward.figures import figure

        module = figure(name)
        told = getattr(module, "told", None)
        try:
            pictures += module.draw(sweep)
            if hasattr(module, "curves") and (told or wandb is not None):
                tables[name] = module.curves(sweep)
        except Exception as error:  # whatever a user's own raises: the rest is told all the same
            is_plain = isinstance(error, OSError | RankwardError)
            why = str(error) if is_plain else f"cannot draw {name}: {type(error).__name__}: {error}"
            failed.append(why)
            continue
        if told:
            say(*told(tables[name]).split("\n"))
    for picture in pictures:
        if picture.suffix == ".png":
            beside = [p.suffix for p in pictures if p != picture and p.with_suffix(".png") == picture]
            say(f"figure:  {picture}" + (f" (and {', '.join(beside)})" if beside else ""))
    say(*closing_table(results.table_frames(sweep) if in_parts else [loaded.runs]).split("\n"))
    say(f"table:   {table}")
    if wandb is not None:
        from rankward.loggers.charts import charts
        from rankward.loggers.target import LoggerError
        from rankward.loggers.wandb import log_sweep
        from rankward.sweeps.command import told_command

        own = {} if in_parts else {"runs": loaded.runs}  # of very many runs pictures and figures' tables alone
        drawn = {} if in_parts else charts(loaded)
        try:
            log_sweep(wandb, sweep, told_command(sweep), {**own, **(more or {}), **tables}, pictures, drawn)
        except LoggerError as error:
            failed.append(str(error))
    folder = (wandb_environment.folder(sweep) if wandb is not None else sweep) / results.WANDB
    if folder.is_dir():
        say(f"W&B:     {folder}  (upload: wandb sync {folder}/offline-run-*)")
    if failed:
        raise results.ResultsError("; ".join(failed))
