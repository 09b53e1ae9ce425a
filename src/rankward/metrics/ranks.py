"""Surrogates of rank as torchmetrics (Definitions 1 and 2)."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from rankward.metrics.base import SpectralMetric
from rankward.metrics.functional import ranks


class EffectiveRank(SpectralMetric):
    """Definition 1, column `rank/effective`; NaN for the zero matrix.

    Example:
        >>> import torch
        >>> EffectiveRank()(torch.diag(torch.tensor([1.0, 0.0]))[None]).item()
        1.0
    """

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.effective_rank_from_singular_values(singular_values)

    def columns(self) -> dict[str, Tensor]:
        return {"rank/effective": self.gathered()}


class StableRank(SpectralMetric):
    """Squared Frobenius norm over squared spectral norm, column `rank/stable`; NaN for the zero matrix."""

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.stable_rank_from_singular_values(singular_values)

    def columns(self) -> dict[str, Tensor]:
        return {"rank/stable": self.gathered()}


class NumericalRank(SpectralMetric):
    """How many singular values exceed `rtol` times the largest, column `rank/numerical`.

    Raises:
        ValueError: rtol outside of [0, 1).
    """

    def __init__(self, rtol: float = 1e-3, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        ranks.check_rtol(rtol)
        self.rtol = rtol

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.numerical_rank_from_singular_values(singular_values, self.rtol)

    def columns(self) -> dict[str, Tensor]:
        return {"rank/numerical": self.gathered()}


class DistanceToInfimalRank(SpectralMetric):
    """Definition 2 for a solution set of infimal rank `rank`, column `rank/distance_to_infimal`.

    Raises:
        ValueError: rank below 0.
    """

    def __init__(self, rank: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        ranks.check_rank(rank)
        self.rank = rank

    def measure(self, singular_values: Tensor) -> Tensor:
        return ranks.distance_to_rank_from_singular_values(singular_values, self.rank)

    def columns(self) -> dict[str, Tensor]:
        return {"rank/distance_to_infimal": self.gathered()}
