"""Custom torchmetrics of product matrices and factors; the maths stands in `functional`."""

from rankward.metrics.base import SpectralMetric, TraceMetric
from rankward.metrics.entries import (
    DeterminantSign,
    ProductEntries,
    ReconstructionError,
    SingularValues,
    Unbalancedness,
)
from rankward.metrics.measure import measure
from rankward.metrics.norms import FrobeniusNorm, NuclearNorm, SchattenNorm, SpectralNorm
from rankward.metrics.ranks import DistanceToInfimalRank, EffectiveRank, NumericalRank, StableRank

__all__ = [
    "DeterminantSign",
    "DistanceToInfimalRank",
    "EffectiveRank",
    "FrobeniusNorm",
    "NuclearNorm",
    "NumericalRank",
    "ProductEntries",
    "ReconstructionError",
    "SchattenNorm",
    "SingularValues",
    "SpectralMetric",
    "SpectralNorm",
    "StableRank",
    "TraceMetric",
    "Unbalancedness",
    "measure",
]
