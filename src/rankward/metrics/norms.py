"""Norms and quasi-norms of the product matrix (Section 2.1), and of the parameters, as torchmetrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from rankward.metrics.base import SpectralMetric, TraceMetric, spectra
from rankward.metrics.functional.norms import parameter_norm, powers, schatten_norm_from_singular_values


class NuclearNorm(SpectralMetric):
    """The sum of singular values, column `norm/nuclear`.

    Example:
        >>> NuclearNorm()(torch.eye(2)[None]).item()
        2.0
    """

    column = "norm/nuclear"

    def measure(self, singular_values: Tensor) -> Tensor:
        return schatten_norm_from_singular_values(singular_values, 1)


class FrobeniusNorm(SpectralMetric):
    """The root of the sum of squared entries, column `norm/frobenius`."""

    column = "norm/frobenius"

    def measure(self, singular_values: Tensor) -> Tensor:
        return schatten_norm_from_singular_values(singular_values, 2)


class SpectralNorm(SpectralMetric):
    """The largest singular value, column `norm/spectral`."""

    column = "norm/spectral"

    def measure(self, singular_values: Tensor) -> Tensor:
        return schatten_norm_from_singular_values(singular_values, math.inf)


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

    def names(self, shape: Sequence[int]) -> list[str]:
        return [f"norm/schatten_{p:g}" for p in self.p]


class DepthSchattenNorm(TraceMetric):
    """The Schatten-2/L (quasi-)norm of a product of L matrices, column `norm/schatten_2_over_L`.

    (sum_r sigma_r^(2/L))^(L/2): the Frobenius norm at depth 1, the nuclear norm at depth 2, and a quasi-norm beyond.
    The least sum of squared entries of L factors with this product is L times its power 2/L. Rounding counts at large
    depths: a singular value of 0 that rounding makes 1e-16 of the largest adds a share of 1e-16 to the power 2/L.

    Example:
        >>> metric, two = DepthSchattenNorm(), 2 * torch.eye(2, dtype=torch.float64)[None]
        >>> metric.update([two, two, two], 8 * torch.eye(2, dtype=torch.float64)[None])
        >>> round(metric.columns()["norm/schatten_2_over_L"].item(), 9)  # (2 * 8^(2/3))^(3/2)
        22.627416998
    """

    column = "norm/schatten_2_over_L"
    kind = "chain"

    def update(self, factors: Sequence[Tensor], product: Tensor | None, singular_values: Tensor | None = None) -> None:
        """Measure the product [runs, d, d'] of each run's factors."""
        values = spectra(product, singular_values)
        self.measured.append(schatten_norm_from_singular_values(values, 2 / len(factors)))


class ParameterNorm(TraceMetric):
    """The root of the sum of squares of all parameters, column `norm/parameters`.

    Example:
        >>> metric = ParameterNorm()
        >>> metric.update([torch.full((1, 1, 1), 3.0), torch.full((1, 2, 2), 2.0)])
        >>> metric.compute().item()
        5.0
    """

    column = "norm/parameters"

    def update(self, factors: Sequence[Tensor]) -> None:
        """Measure the factors, [runs, *shape] each."""
        self.measured.append(parameter_norm(factors))
