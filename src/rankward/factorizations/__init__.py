"""What is trained, and where it starts."""

from rankward.factorizations.base import Chain, Components, Factorization
from rankward.factorizations.circuit import ConvolutionalArithmeticCircuit
from rankward.factorizations.initialisation import Initialisation
from rankward.factorizations.linear import LinearFactorization
from rankward.factorizations.matrix import MatrixFactorization
from rankward.factorizations.tensor import TensorFactorization

__all__ = [
    "Chain",
    "Components",
    "ConvolutionalArithmeticCircuit",
    "Factorization",
    "Initialisation",
    "LinearFactorization",
    "MatrixFactorization",
    "TensorFactorization",
]
