"""Convolutional arithmetic circuits: Figure 3's, which is a CP factorization, and a deep one, a hierarchical one."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from rankward.mode_tree import mode_tree


class Circuit(nn.Module):
    """A network whose outputs on all index tuples are the entries of a tensor [*dims]."""

    dims: tuple[int, ...]

    def encoded(
        self, inputs: Int[Tensor, "batch modes"] | list[Float[Tensor, "batch _"]], operators: Sequence[Tensor]
    ) -> list[Tensor]:
        """Each input, an index or a vector, times its operator [d_n, channels]: [batch, channels] each."""
        if isinstance(inputs, Tensor):
            inputs = [
                nn.functional.one_hot(inputs[:, n].long(), dim).to(operators[n].dtype)
                for n, dim in enumerate(self.dims)
            ]
        return [vector @ operator for vector, operator in zip(inputs, operators, strict=True)]

    def tensor(self) -> Float[Tensor, "*dims"]:
        """Outputs for all index tuples, as a tensor [*dims]."""
        made: Tensor = self(torch.cartesian_prod(*(torch.arange(dim) for dim in self.dims)).reshape(-1, len(self.dims)))
        return made.reshape(self.dims)


class ConvolutionalArithmeticCircuit(Circuit):
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
        return reduce(torch.mul, self.encoded(inputs, self.factors)).sum(-1)


class DeepConvolutionalArithmeticCircuit(Circuit):
    """Figure 3's network made deep: product pooling along a mode tree, a 1x1 linear operator after each pooling.

    The inputs pass linear operators as in `ConvolutionalArithmeticCircuit`. Each inner node of the tree multiplies the
    channels of its children and applies its operator; the last one, at the root, has a single output. On all index
    tuples the outputs are the entries of the hierarchical factorization with the same factors, so learning it from
    examples is tensor completion.

    Args:
        dims: d_1, ..., d_N, N at least 2, the length of each one-hot input.
        widths: the number of channels at each level of inner nodes, from the bottom up.
        tree, arity: see `rankward.mode_tree.mode_tree`.
        scale: standard deviation of the weights at the start.
        shared: the nodes of a level have one operator (convolutions proper); the tensor then stays the same when two
            subtrees of equal form change places.

    Raises:
        ValueError: a tree that does not have each mode once, widths that are not one for each level, a size below 1, or
            operators of different shapes at a level where they are shared.

    Source: Cohen, Sharir and Shashua, "On the Expressive Power of Deep Learning: A Tensor Analysis" (COLT 2016).

    Example:
        >>> circuit = DeepConvolutionalArithmeticCircuit((2, 3, 2, 2), widths=(4, 3))
        >>> circuit(torch.tensor([[0, 0, 0, 0], [1, 2, 1, 1]])).shape
        torch.Size([2])
        >>> [tuple(factor.shape) for factor in circuit.factors]
        [(2, 4), (3, 4), (2, 4), (2, 4), (4, 3), (4, 3), (3,)]
        >>> shared = DeepConvolutionalArithmeticCircuit((2, 2, 2, 2), widths=(4, 3), shared=True)
        >>> [tuple(operator.shape) for operator in shared.parameters()]
        [(2, 4), (4, 3), (3,)]
    """

    def __init__(
        self,
        dims: Sequence[int],
        widths: Sequence[int],
        tree: Any = "neighbours",
        arity: int | None = None,
        scale: float = 1.0,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.dims, self.tree = tuple(dims), mode_tree(tree, len(dims), arity)
        if len(widths) != self.tree.levels:
            raise ValueError(f"widths: {list(widths)} are not allowed; expected {self.tree.levels} of them")
        if min(*self.dims, *widths) < 1:
            raise ValueError(
                f"dims: {list(dims)} with widths {list(widths)} are not allowed; expected at least 1 of each"
            )
        shapes = self.tree.shapes(dims, widths)
        owners = [node.level for node in self.tree.nodes] if shared else list(range(len(shapes)))
        if len(set(zip(owners, shapes, strict=True))) > len(set(owners)):
            raise ValueError(
                f"shared: True is not allowed with dims {list(dims)} and widths {list(widths)} in this tree; expected "
                f"operators of one shape at each level"
            )
        operators = {
            owner: nn.Parameter(scale * torch.randn(shape)) for owner, shape in zip(owners, shapes, strict=True)
        }
        self.factors = nn.ParameterList([operators[owner] for owner in owners])

    def forward(self, inputs: Int[Tensor, "batch modes"] | list[Float[Tensor, "batch _"]]) -> Float[Tensor, " batch"]:
        """Outputs for index tuples, or for one-hot (or any) vectors, a list of [batch, d_n]."""
        modes = len(self.dims)
        made = self.encoded(inputs, list(self.factors)[:modes])
        for node, operator in zip(self.tree.nodes[modes:], list(self.factors)[modes:], strict=True):
            made.append(reduce(torch.mul, [made[child] for child in node.children]) @ operator)
        return made[-1]
