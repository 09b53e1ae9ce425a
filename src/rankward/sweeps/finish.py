"""What happens when a sweep has ended: one table of its runs, its figures, and where everything lies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rankward import results


def finish(sweep: Path, figures: Sequence[str]) -> None:
    """Write `runs.parquet`, draw the figures, and say where they and the W&B runs lie.

    Raises:
        ResultsError: a table or picture that cannot be written, or a figure whose runs are all missing.
    """
    if not results.run_folders(sweep):
        return
    table = results.write_runs(sweep)
    for name in figures:
        from rankward.figures import draw

        for picture in draw(name, sweep):
            print(f"figure:  {picture}")
    print(f"table:   {table}")
    wandb = sweep / results.WANDB
    if wandb.is_dir():
        print(f"W&B:     {wandb}  (upload: wandb sync {wandb}/offline-run-*)")
