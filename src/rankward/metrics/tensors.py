"""Ranks and component norms of tensors as torchmetrics (Section 4.2)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import TraceMetric, positive
from rankward.metrics.functional import conserved, cp_ranks, matricizations
from rankward.metrics.functional.norms import root_of_squares
from rankward.metrics.functional.ranks import check_rtol, effective_rank_from_singular_values

Values = Mapping[tuple[int, ...], Tensor]  # of each matricization, by its row modes


class TensorNorm(TraceMetric):
    """The root of the sum of squared entries of tensors [runs, *dims], column `norm/frobenius`."""

    column = "norm/frobenius"
    kind = "tensor"

    def update(self, product: Tensor) -> None:
        self.measured.append(root_of_squares(product.double().flatten(1)))


class ComponentNorms(TraceMetric):
    """Norms of the `largest` components of CP factors [runs, d_n, R], descending: columns `cp_weight/0`, ..."""

    kind = "components"

    def __init__(self, largest: int = 10, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.largest = positive("largest", largest)

    def update(self, factors: Sequence[Tensor]) -> None:
        self.measured.append(matricizations.cp_weights(list(factors))[:, : self.largest])

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"cp_weight/{r}" for r in range(shape[0])]


class ComponentDrift(TraceMetric):
    """Drift of the quantities that gradient flow conserves, column `balance/drift`. See `component_drift`."""

    column = "balance/drift"
    kind = "components"

    def update(self, factors: Sequence[Tensor], initial: Sequence[Tensor] | None = None) -> None:
        if initial is not None:
            self.measured.append(conserved.component_drift(factors, initial))


class MatricizationMetric(TraceMetric):
    """A number for each of some matricizations of tensors [runs, *dims]."""

    kind = "tensor"

    def update(self, product: Tensor, matricization_values: Values | None = None) -> None:
        values = matricization_values or matricizations.matricization_singular_values(product)
        self.measured.append(self.of_each(values, product.ndim - 1))

    @abstractmethod
    def of_each(self, values: Values, order: int) -> Tensor:
        """The numbers [runs, count], from the singular values of every matricization."""


class MultilinearRank(MatricizationMetric):
    """Numerical rank of each single mode's matricization, columns `rank/multilinear_0`, `rank/multilinear_1`, ...

    Raises:
        ValueError: rtol outside of [0, 1).
    """

    def __init__(self, rtol: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        check_rtol(rtol)
        self.rtol = rtol

    def of_each(self, values: Values, order: int) -> Tensor:
        return matricizations.multilinear_rank_from_values(values, order, self.rtol)

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"rank/multilinear_{n}" for n in range(shape[0])]


class MatricizationEffectiveRank(MatricizationMetric):
    """Effective rank (Definition 1) of every matricization, named by its row modes: `rank/effective_0`, `_0_1`, ..."""

    def of_each(self, values: Values, order: int) -> Tensor:
        groups = matricizations.mode_groups(order)
        return torch.stack([effective_rank_from_singular_values(values[modes]) for modes in groups], dim=-1)

    def names(self, shape: Sequence[int]) -> list[str]:
        order = (shape[0] + 1).bit_length()  # 2^(order - 1) - 1 matricizations
        return [f"rank/effective_{'_'.join(map(str, modes))}" for modes in matricizations.mode_groups(order)]


class CPRank(TraceMetric):
    """Bounds on the rank within a tolerance: columns `rank/cp_lower`, `rank/cp_upper`, `rank/cp_exact` where they meet.

    Measured of a run's last row, for all runs at once. See `functional.cp_rank`.

    Args:
        tolerance: a mean squared error over all entries; one below the rounding of a decomposition is raised to that.
        relative: the tolerance is relative to the tensor's mean square.
        starts: random starts of each fit.
        seed: of the random starts.

    Raises:
        ValueError: a tolerance that is negative or not finite, or a number of starts that is not an integer of at
            least 0.

    Example:
        >>> metric = CPRank()
        >>> metric.update(torch.ones(1, 2, 2, 2))
        >>> {name: value.item() for name, value in metric.columns().items()}
        {'rank/cp_lower': 1.0, 'rank/cp_upper': 1.0, 'rank/cp_exact': 1.0}
    """

    kind = "tensor"
    last_row_only = True
    tried = False

    def __init__(
        self, tolerance: float = 1e-6, relative: bool = False, starts: int = 3, seed: int = 0, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        cp_ranks.check_tolerance(tolerance)
        if isinstance(starts, bool) or not (isinstance(starts, int) and starts >= 0):
            raise ValueError(f"starts: {starts!r} is not allowed; expected an integer of at least 0")
        self.tolerance, self.relative, self.starts, self.seed = tolerance, relative, starts, seed

    def update(self, product: Tensor) -> None:
        bounds = cp_ranks.cp_rank(product.double(), self.tolerance, self.relative, self.starts, self.seed)
        self.measured.append(torch.stack(bounds, dim=-1))

    def names(self, shape: Sequence[int]) -> list[str]:
        return ["rank/cp_lower", "rank/cp_upper", "rank/cp_exact"]

    def notes(self) -> dict[str, str]:
        size = (
            f"{self.tolerance:g} times the tensor's mean square" if self.relative else f"{self.tolerance:g}, absolute"
        )
        size += ", or that of rounding where it is larger" if self.tolerance < 1e-20 else ""
        zero = "" if self.relative else "; 0 means a tensor within that of zero, whatever its form"
        return {"rank/cp": f"smallest number of outer products within a mean squared error of {size}{zero}"}
