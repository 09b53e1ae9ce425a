"""How near a run comes to a solution that something else prefers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from rankward.metrics.base import TraceMetric, stacked_columns
from rankward.metrics.functional.entries import reconstruction_error
from rankward.metrics.functional.norms import schatten_norm_from_singular_values

KNOWN = ("nuclear", "frobenius")


class DistanceToSolution(TraceMetric):
    """The Frobenius distance from a rival solution, and the ratio of nuclear norms.

    Columns `distance/<label>_solution`, and `ratio/nuclear_norm_to_<label>`: above 1 where the rival's norm is smaller;
    infinity where that is zero. Beside them, of the rival itself, `rival/<label>_effective_rank` and where there is a
    ground truth `rival/<label>_error`.

    Args:
        solution: `nuclear` (of least nuclear norm among those that meet the observations), `frobenius` (of least
            Frobenius norm: zeros elsewhere), or the path of a matrix, `.npy` or `.csv`.
        label: in the columns' names; None for the solution's own.

    Raises:
        ValueError: a solution of one's own without a label.
    """

    kind = "matrix"
    effective_ranks: list[Tensor]
    errors: list[Tensor]

    def __init__(self, solution: str, label: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if label is None and solution not in KNOWN:
            raise ValueError(f"label: a solution from a file ({solution}) needs one for its columns")
        self.solution, self.label = solution, label or solution
        self.add_state("effective_ranks", default=[], dist_reduce_fx="cat")
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, product: Tensor, singular_values: Tensor, solutions: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Measure each of `product` [rows, d, d'] against its run's solution."""
        rival = solutions[self.solution]
        distance = reconstruction_error(product, rival["matrix"])
        ratio = schatten_norm_from_singular_values(singular_values, 1) / rival["nuclear_norm"]
        self.measured.append(torch.stack([distance, ratio], dim=-1))
        if "effective_rank" in rival:
            self.effective_ranks.append(rival["effective_rank"])
        if "error" in rival:
            self.errors.append(rival["error"])

    def columns(self) -> dict[str, Tensor]:
        names = [f"distance/{self.label}_solution", f"ratio/nuclear_norm_to_{self.label}"]
        found = stacked_columns(self.gathered(), names)
        more = {"effective_rank": self.effective_ranks, "error": self.errors}
        return found | {f"rival/{self.label}_{key}": dim_zero_cat(each) for key, each in more.items() if len(each)}
