"""Figure 5: perturbed and repositioned observations, drawn as Figure 1 is; a panel for each unobserved entry."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from rankward.figures import figure1, reads_run_folders
from rankward.figures._runs import Curve


@reads_run_folders
def draw(sweep: Path) -> list[Path]:
    """Draw the finished 2x2 runs, named by b_22: the observation across from the unobserved entry.

    Raises:
        ResultsError: no run to draw, or files that cannot be written.
    """

    def arranged(c: Curve) -> Curve:
        row, col = (index + 1 for index in c.unobserved)
        label = f"b_22: {c.values[2]:g}" if c.values else c.label
        return replace(c, panel=f"unobserved entry ({row},{col})", label=label)

    return figure1.draw_runs(sweep, "figure5", arranged=arranged)
