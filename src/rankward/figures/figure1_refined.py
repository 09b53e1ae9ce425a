"""Figure 1 of a refinement: the last two rounds of each cell; where it has settled, both converged and agree."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from rankward import results
from rankward.figures import figure1

NEEDS_FOLDERS = True  # it reads runs' own files


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
    table = pl.read_parquet(path, glob=False)
    last = table.filter(pl.col("round") >= pl.col("round").max().over("cell") - 1)
    return figure1.draw_runs(sweep, "figure1_refined", {str(job) for job in last["job"]})
