"""Factorizations that can be trained, and their initialisations."""

from rankward.factorizations.base import Chain, Components, Factorization, Hierarchy, ignores_init
from rankward.factorizations.diagonal import DiagonalFactorization
from rankward.factorizations.hierarchical import HierarchicalFactorization
from rankward.factorizations.initialisation import Initialisation
from rankward.factorizations.linear import LinearFactorization
from rankward.factorizations.matrix import MatrixFactorization
from rankward.factorizations.nonlinear import NonlinearFactorization
from rankward.factorizations.residual import ResidualFactorization
from rankward.factorizations.symmetric import SymmetricFactorization
from rankward.factorizations.tensor import TensorFactorization
from rankward.factorizations.tucker import TuckerFactorization

__all__ = [
    "Chain",
    "Components",
    "DiagonalFactorization",
    "Factorization",
    "HierarchicalFactorization",
    "Hierarchy",
    "Initialisation",
    "LinearFactorization",
    "MatrixFactorization",
    "NonlinearFactorization",
    "ResidualFactorization",
    "SymmetricFactorization",
    "TensorFactorization",
    "TuckerFactorization",
    "ignores_init",
]
