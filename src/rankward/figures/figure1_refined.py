"""Figure 1 of a refinement: the last round of each cell, and faintly behind it the round before."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import polars as pl

from rankward import results
from rankward.figures import figure1, reads_run_folders
from rankward.figures._runs import Curve


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the last two rounds of every cell of `refinement.parquet`.

    Raises:
        ResultsError: no refinement there, or no run to draw.
    """
    path = sweep / results.REFINEMENT
    if not path.is_file():
        raise results.ResultsError(
            f"cannot draw figure1_refined of {sweep}: no {results.REFINEMENT}, as hydra/sweeper=refine leaves"
        )
    table = results.read_frame(path)
    newest = pl.col("round").max().over("cell")
    last, both = (table.filter(pl.col("round") >= newest - before) for before in (0, 1))
    strong, rounds = ({str(job) for job in part["job"]} for part in (last, both))

    def arranged(c: Curve) -> Curve:
        return replace(c, faint=c.run not in strong)

    return figure1.draw_runs(sweep, "figure1_refined", rounds, arranged)
