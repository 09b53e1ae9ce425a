"""Custom torchmetrics of product matrices and factors; the mathematics is in `functional`."""

# ruff: noqa: E402 - torchmetrics is imported before any module that imports it

from rankward.environment import RANKS, hidden, import_matplotlib

import_matplotlib()  # as torchmetrics does
with hidden(*RANKS):
    import torchmetrics as _  # noqa: F401

from rankward.metrics.alignment import GradientAlignment
from rankward.metrics.base import SpectralMetric, TraceMetric
from rankward.metrics.baselines import DistanceToSolution
from rankward.metrics.collection import measure
from rankward.metrics.curvature import Sharpness
from rankward.metrics.entries import (
    ChainSingularValues,
    ConservedDrift,
    DeterminantResolution,
    DeterminantSign,
    HeldOutErrors,
    ProductEntries,
    ReconstructionError,
    SingularValues,
    Unbalancedness,
)
from rankward.metrics.hierarchical import HierarchicalRank, LocalComponentDrift, LocalComponentNorms
from rankward.metrics.motion import ComponentMotion, LocalComponentMotion, SingularValueMotion
from rankward.metrics.norms import (
    DepthSchattenNorm,
    FrobeniusNorm,
    NuclearNorm,
    ParameterNorm,
    SchattenNorm,
    SpectralNorm,
)
from rankward.metrics.ranks import DistanceToInfimalRank, EffectiveRank, NumericalRank, StableRank
from rankward.metrics.samples import SampleErrors
from rankward.metrics.tensors import (
    ComponentDrift,
    ComponentNorms,
    CPRank,
    MatricizationEffectiveRank,
    MultilinearRank,
    TensorNorm,
)
from rankward.metrics.vectors import VectorEntries, VectorNorm

__all__ = [
    "CPRank",
    "ChainSingularValues",
    "ComponentDrift",
    "ComponentMotion",
    "ComponentNorms",
    "ConservedDrift",
    "DepthSchattenNorm",
    "DeterminantResolution",
    "DeterminantSign",
    "DistanceToInfimalRank",
    "DistanceToSolution",
    "EffectiveRank",
    "FrobeniusNorm",
    "GradientAlignment",
    "HeldOutErrors",
    "HierarchicalRank",
    "LocalComponentDrift",
    "LocalComponentMotion",
    "LocalComponentNorms",
    "MatricizationEffectiveRank",
    "MultilinearRank",
    "NuclearNorm",
    "NumericalRank",
    "ParameterNorm",
    "ProductEntries",
    "ReconstructionError",
    "SampleErrors",
    "SchattenNorm",
    "Sharpness",
    "SingularValueMotion",
    "SingularValues",
    "SpectralMetric",
    "SpectralNorm",
    "StableRank",
    "TensorNorm",
    "TraceMetric",
    "Unbalancedness",
    "VectorEntries",
    "VectorNorm",
    "measure",
]
