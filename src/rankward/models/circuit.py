"""Figure 3: the convolutional arithmetic circuit that a CP factorization is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class ConvolutionalArithmeticCircuit(nn.Module):
    """A network with one hidden layer, multiplicative non-linearity and output sum (Figure 3).

    Each of N inputs, a one-hot vector, passes a locally connected 1x1 linear operator with R channels; product pooling
    over the inputs and a sum over the channels follow. On all index tuples its outputs are the entries of the tensor
    that the operator's weights factorize (Equation 12), so learning it from examples is tensor completion.

    Args:
        dims: d_1, ..., d_N, the length of each one-hot input.
        channels: R.
        shared: one operator for all inputs (a convolution proper); the tensor is then symmetric.
        scale: standard deviation of the weights at the start.

    Raises:
        ValueError: inputs of different lengths with a shared operator, or fewer than one input or channel.

    Example:
        >>> circuit = ConvolutionalArithmeticCircuit((2, 3), channels=4)
        >>> circuit(torch.tensor([[0, 0], [1, 2]])).shape
        torch.Size([2])
        >>> circuit.tensor().shape
        torch.Size([2, 3])
    """

    def __init__(self, dims: Sequence[int], channels: int, shared: bool = False, scale: float = 1.0) -> None:
        super().__init__()
        self.dims = tuple(dims)
        if not self.dims or min(*self.dims, channels) < 1:
            raise ValueError(
                f"dims: {list(dims)} with {channels} channels are not allowed; expected at least 1 of each"
            )
        if shared and len(set(self.dims)) > 1:
            raise ValueError(f"shared: True is not allowed with dims {list(dims)}; expected inputs of one length")
        operators = self.dims[:1] if shared else self.dims
        self.operators = nn.ParameterList([nn.Parameter(scale * torch.randn(dim, channels)) for dim in operators])

    @property
    def factors(self) -> list[Tensor]:
        """The operator of each input, [d_n, R]: mode n's factor of the tensor."""
        return [self.operators[n if len(self.operators) > 1 else 0] for n in range(len(self.dims))]

    def forward(self, inputs: Int[Tensor, "batch modes"] | list[Float[Tensor, "batch _"]]) -> Float[Tensor, " batch"]:
        """Outputs for index tuples, or for one-hot (or any) vectors, a list of [batch, d_n]."""
        if isinstance(inputs, Tensor):
            encoded = [
                nn.functional.one_hot(inputs[:, n].long(), dim).to(self.factors[n].dtype)
                for n, dim in enumerate(self.dims)
            ]
        else:
            encoded = inputs
        pooled = encoded[0] @ self.factors[0]
        for vector, operator in zip(encoded[1:], self.factors[1:], strict=True):
            pooled = pooled * (vector @ operator)
        return pooled.sum(-1)

    def tensor(self) -> Float[Tensor, "*dims"]:
        """Outputs for all index tuples, as a tensor [*dims]."""
        return self(
            torch.cartesian_prod(*(torch.arange(dim) for dim in self.dims)).reshape(-1, len(self.dims))
        ).reshape(self.dims)
