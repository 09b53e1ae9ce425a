"""What is trained, and where it starts."""

from rankward.factorizations.base import Factorization
from rankward.factorizations.initialisation import Initialisation
from rankward.factorizations.linear import LinearFactorization
from rankward.factorizations.matrix import MatrixFactorization

__all__ = ["Factorization", "Initialisation", "LinearFactorization", "MatrixFactorization"]
