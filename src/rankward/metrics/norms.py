"""Norms and quasi-norms of the product matrix as torchmetrics (Section 2.1)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import SpectralMetric, stacked_columns
from rankward.metrics.functional.norms import powers, schatten_norm_from_singular_values


class NuclearNorm(SpectralMetric):
    """The sum of singular values, column `norm/nuclear`.

    Example:
        >>> NuclearNorm()(torch.eye(2)[None]).item()
        2.0
    """

    def measure(self, singular_values: Tensor) -> Tensor:
        return schatten_norm_from_singular_values(singular_values, 1)

    def columns(self) -> dict[str, Tensor]:
        return {"norm/nuclear": self.gathered()}


class FrobeniusNorm(SpectralMetric):
    """The root of the sum of squared entries, column `norm/frobenius`."""

    def measure(self, singular_values: Tensor) -> Tensor:
        return schatten_norm_from_singular_values(singular_values, 2)

    def columns(self) -> dict[str, Tensor]:
        return {"norm/frobenius": self.gathered()}


class SpectralNorm(SpectralMetric):
    """The largest singular value, column `norm/spectral`."""

    def measure(self, singular_values: Tensor) -> Tensor:
        return schatten_norm_from_singular_values(singular_values, math.inf)

    def columns(self) -> dict[str, Tensor]:
        return {"norm/spectral": self.gathered()}


class SchattenNorm(SpectralMetric):
    """Schatten-p (quasi-)norms for one or several p in (0, inf], columns `norm/schatten_<p>`.

    Args:
        p: a number, or a list of numbers.

    Raises:
        ValueError: a p that is not above 0.

    Example:
        >>> metric = SchattenNorm(p=[0.5, 2.0])
        >>> metric.update(torch.eye(2)[None])
        >>> {name: round(float(value), 6) for name, value in metric.columns().items()}
        {'norm/schatten_0.5': 4.0, 'norm/schatten_2': 1.414214}
    """

    def __init__(self, p: float | Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.p = powers(p)

    def measure(self, singular_values: Tensor) -> Tensor:
        return torch.stack([schatten_norm_from_singular_values(singular_values, p) for p in self.p], dim=-1)

    def columns(self) -> dict[str, Tensor]:
        return stacked_columns(self.gathered(), [f"norm/schatten_{p:g}" for p in self.p])
