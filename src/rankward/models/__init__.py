"""Networks in plain PyTorch that correspond to a factorization."""

from rankward.models.circuit import ConvolutionalArithmeticCircuit, DeepConvolutionalArithmeticCircuit

__all__ = ["ConvolutionalArithmeticCircuit", "DeepConvolutionalArithmeticCircuit"]
