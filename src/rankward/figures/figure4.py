"""Figure 4: larger matrices (Appendix E), drawn as Figure 1 is; a row of panels a size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rankward.figures import figure1, reads_run_folders
from rankward.figures._runs import Curve


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the finished runs, a panel for each size and depth.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """

    def arranged(c: Curve) -> Curve:
        return replace(c, panel=f"{c.dims[0]}x{c.dims[1]}, depth {c.depth:g}")

    return figure1.draw_runs(sweep, "figure4", arranged=arranged, by_depth=True)
