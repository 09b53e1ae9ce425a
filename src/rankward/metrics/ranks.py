"""Surrogates of rank as torchmetrics (Definitions 1 and 2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rankward.metrics.base import SpectralMetric, spectra
from rankward.metrics.functional import ranks


class EffectiveRank(SpectralMetric):
    """Definition 1, column `rank/effective`; NaN for the zero matrix.

    Example:
        >>> import torch
        >>> EffectiveRank()(torch.diag(torch.tensor([1.0, 0.0]))[None]).item()
        1.0
    """

    column = "rank/effective"

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.effective_rank_from_singular_values(singular_values)


class StableRank(SpectralMetric):
    """Squared Frobenius norm over squared spectral norm, column `rank/stable`; NaN for the zero matrix."""

    column = "rank/stable"

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.stable_rank_from_singular_values(singular_values)


class NumericalRank(SpectralMetric):
    """How many singular values exceed `rtol` times the largest, column `rank/numerical`.

    Raises:
        ValueError: rtol outside of [0, 1).
    """

    column = "rank/numerical"

    def __init__(self, rtol: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        ranks.check_rtol(rtol)
        self.rtol = rtol

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.numerical_rank_from_singular_values(singular_values, self.rtol)


class DistanceToInfimalRank(SpectralMetric):
    """Definition 2: the distance from the matrices whose rank is the solution set's infimal rank or less.

    Column `rank/distance_to_infimal`; NaN where the infimal rank is not known.

    Args:
        rank: the infimal rank; None for that of each run's own problem, which `update` is then given.

    Raises:
        ValueError: a rank that is not an integer of at least 0; in `update`, neither it nor `infimal_rank` is given.

    Example:
        >>> import torch
        >>> metric = DistanceToInfimalRank()
        >>> metric.update(torch.eye(2).repeat(2, 1, 1), infimal_rank=torch.tensor([1.0, 2.0]))
        >>> metric.gathered().tolist()
        [1.0, 0.0]
    """

    column = "rank/distance_to_infimal"

    def __init__(self, rank: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if rank is not None:
            ranks.check_rank(rank)
        self.rank = rank

    def update(
        self, product: Tensor | None, singular_values: Tensor | None = None, infimal_rank: Tensor | None = None
    ) -> None:
        """Measure each matrix of `product` [runs, d, d']; `infimal_rank` [runs] is NaN where it is not known."""
        values = spectra(product, singular_values)
        if self.rank is not None:
            self.measured.append(self.measure(values))
        elif infimal_rank is not None:
            self.measured.append(ranks.distance_to_ranks_from_singular_values(values, infimal_rank))
        else:
            raise ValueError("rank: the infimal rank of the solution set is needed; DistanceToInfimalRank(rank=...)")

    def measure(self, singular_values: Tensor) -> Tensor:
        assert self.rank is not None
        return ranks.distance_to_rank_from_singular_values(singular_values, self.rank)
