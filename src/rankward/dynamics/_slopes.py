"""Equation 1's half sum and its gradient, written out in batched matrix products, of many runs at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from rankward.factorizations.base import Chain, Components

# From factors [runs, *shape], operator and values to the half sums [runs] and their gradients, shaped as the factors.
Slopes = Callable[[Sequence[Tensor], Tensor, Tensor], tuple[Tensor, list[Tensor]]]


def slopes_of(structure: Chain | Components, mask: bool) -> Slopes:
    """The function for a structure, and for a mask or sensing matrices.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1, 1)
        >>> half, (slope,) = slopes_of(Chain((1, 1)), mask=True)([3 * one], one, one)
        >>> float(half), float(slope)
        (2.0, 2.0)
    """
    backward = _chain if isinstance(structure, Chain) else _components

    def slopes(factors: Sequence[Tensor], operator: Tensor, values: Tensor) -> tuple[Tensor, list[Tensor]]:
        product, back = backward(factors)
        signal, half = (_masked if mask else _sensed)(product, operator, values)
        return half, back(signal)

    return slopes


Backward = Callable[[Tensor], list[Tensor]]  # from the product's gradient to the factors'


def _masked(product: Tensor, mask: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    residual = mask * (product.reshape(values.shape) - values)
    return residual, 0.5 * (residual * residual).flatten(1).sum(1)


def _sensed(product: Tensor, matrices: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    flat = matrices.flatten(2)  # [runs, n, entries]
    residual = (flat @ product.flatten(1)[..., None])[..., 0] - values
    signal = (residual[:, None] @ flat)[:, 0]
    return signal.reshape(product.shape), 0.5 * (residual * residual).sum(1)


def _chain(factors: Sequence[Tensor]) -> tuple[Tensor, Backward]:
    """W_L ... W_1, and back."""
    partial = [factors[0]]
    for factor in factors[1:]:
        partial.append(factor @ partial[-1])

    def back(signal: Tensor) -> list[Tensor]:
        slopes = []
        for layer in range(len(factors) - 1, 0, -1):
            slopes.append(signal @ partial[layer - 1].mT)
            signal = factors[layer].mT @ signal
        return [signal, *reversed(slopes)]

    return partial[-1], back


def _components(factors: Sequence[Tensor]) -> tuple[Tensor, Backward]:
    """Equation 12 as K L', where K and L are Khatri-Rao products of the two halves of the modes; and back."""
    middle = (len(factors) + 1) // 2
    left, left_back = _khatri_rao(factors[:middle])
    right, right_back = _khatri_rao(factors[middle:])
    product = left @ right.mT

    def back(signal: Tensor) -> list[Tensor]:
        matrix = signal.reshape(product.shape)
        return [*left_back(matrix @ right), *right_back(matrix.mT @ left)]

    dims = [factor.shape[1] for factor in factors]
    return product.reshape(len(product), *dims), back


def _khatri_rao(factors: Sequence[Tensor]) -> tuple[Tensor, Backward]:
    """[runs, d_1 ... d_n, R] of factors [runs, d_n, R], and back."""
    if len(factors) == 1:
        return factors[0], lambda signal: [signal]
    middle = (len(factors) + 1) // 2
    left, left_back = _khatri_rao(factors[:middle])
    right, right_back = _khatri_rao(factors[middle:])

    def back(signal: Tensor) -> list[Tensor]:
        grid = signal.unflatten(1, (left.shape[1], right.shape[1]))
        return [*left_back((grid * right[:, None]).sum(2)), *right_back((grid * left[:, :, None]).sum(1))]

    return (left[:, :, None] * right[:, None]).flatten(1, 2), back
