"""Distance to a baseline solution: of minimum nuclear or Frobenius norm, or a given matrix."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from rankward.metrics.base import TraceMetric, stacked_columns
from rankward.metrics.functional.entries import reconstruction_error
from rankward.metrics.functional.norms import schatten_norm_from_singular_values

BASELINES = ("nuclear", "frobenius")


class DistanceToSolution(TraceMetric):
    """The Frobenius distance from a baseline solution, and the ratio of nuclear norms.

    The columns are `distance/<label>_solution` and `ratio/nuclear_norm_to_<label>`: above 1 if the baseline's norm is
    smaller, infinity if that is zero. The baseline itself has columns `rival/<label>_effective_rank` and, with a ground
    truth, `rival/<label>_error`.

    Args:
        solution: `nuclear` (minimum nuclear norm among the matrices that agree with the observations), `frobenius`
            (minimum Frobenius norm: zeros elsewhere), or the path of a matrix, `.npy` or `.csv`.
        label: label in the column names; None for the name of the solution.

    Raises:
        ValueError: a solution from a file has no label.
    """

    kind = "matrix"
    effective_ranks: list[Tensor]
    errors: list[Tensor]

    def __init__(self, solution: str, label: str | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if label is None and solution not in BASELINES:
            raise ValueError(f"label: a solution from a file ({solution}) needs one for its columns")
        self.solution, self.label = solution, label or solution
        self.add_state("effective_ranks", default=[], dist_reduce_fx="cat")
        self.add_state("errors", default=[], dist_reduce_fx="cat")

    def update(self, product: Tensor, singular_values: Tensor, solutions: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Measure each of `product` [rows, d, d'] against its run's solution."""
        baseline = solutions[self.solution]
        distance = reconstruction_error(product, baseline["matrix"])
        ratio = schatten_norm_from_singular_values(singular_values, 1) / baseline["nuclear_norm"]
        self.measured.append(torch.stack([distance, ratio], dim=-1))
        if "effective_rank" in baseline:
            self.effective_ranks.append(baseline["effective_rank"])
        if "error" in baseline:
            self.errors.append(baseline["error"])

    def columns(self) -> dict[str, Tensor]:
        names = [f"distance/{self.label}_solution", f"ratio/nuclear_norm_to_{self.label}"]
        found = stacked_columns(self.gathered(), names)
        details = {"effective_rank": self.effective_ranks, "error": self.errors}
        return found | {f"rival/{self.label}_{key}": dim_zero_cat(each) for key, each in details.items() if len(each)}
