"""Balanced layers of a matrix as singular values and vectors of their product (`lr.coordinates=singular`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from rankward.config import ConfigError
from rankward.factorizations.base import Factorization, Spectral
from rankward.factorizations.initialisation import Initialisation
from rankward.linalg import product_matrix, strict_matmul

BALANCED = 1e-12  # of the largest squared layer: layers are balanced up to their rounding
TIED = 1e-14  # relative distance of singular values that are equal up to rounding


class SingularCoordinates(Factorization):
    """The factors are U [d, r], ln sigma [r] and V [d', r] of the product, r = min(d, d'); the layers are balanced.

    Balanced layers W_L, ..., W_1 (Equation 5) are determined by their product up to rotations between the layers, which
    change nothing. So flow of the layers is a flow of the product, for which the depth may be any real number. The
    smallest singular values are stored as logarithms, and stay positive however small they are.

    Args:
        dims: (d, d'), the size of the product.
        layers: depth L, a real number of at least 1.

    Raises:
        ConfigError: dims that are not of a matrix.

    Example:
        >>> SingularCoordinates((4, 6), layers=2.5).shapes
        [(4, 4), (4,), (6, 4)]

    Source: Arora, Cohen, Hazan, "On the optimization of deep networks" (ICML 2018), Theorem 1.
    """

    name = "matrix"

    def __init__(self, dims: Sequence[int], layers: float) -> None:
        if len(dims) != 2:
            raise ConfigError("lr.coordinates", "singular", f"factors: the observations have {len(dims)} axes, not 2")
        self.form_of_product = Spectral((dims[0], dims[1]), layers)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return self.form_of_product.shapes

    @property
    def form(self) -> Spectral:
        return self.form_of_product

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        """U, ln sigma and V of the product of the layers that `init` draws.

        Between two integers there are no layers to draw: those of the next integer must be balanced, and the product is
        the one that `init` draws for a single layer.

        Raises:
            ConfigError: layers that are not balanced, or a product without full rank.
        """
        rows, cols = self.form.dims
        hidden = [min(rows, cols)] * (math.ceil(self.form.depth) - 1)
        layers = init.draw((cols, *hidden, rows), seed)
        name = type(init).__name__.lower()
        if (distance := imbalance(layers)) > BALANCED:
            allowed = (
                "balanced, identity or orthogonal, since lr.coordinates=singular has balanced layers: those of this "
                f"start differ from Equation 5 by {distance:.3g} of the largest squared layer, above {BALANCED:g}"
            )
            raise ConfigError("init", name, allowed)
        if self.form.depth != len(layers):
            layers = init.draw((cols, rows), seed)
        left, values, right = np.linalg.svd(product_matrix(layers).numpy(), full_matrices=False)
        if not values[-1] > 1e-14 * values[0]:
            allowed = "a start of full rank: lr.coordinates=singular has logarithms of singular values"
            raise ConfigError("init", name, allowed)
        return [torch.from_numpy(np.ascontiguousarray(each)) for each in (left, np.log(values), right.T)]

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        left, logs, right = factors
        return (left * torch.exp(logs)) @ right.T


def imbalance(layers: Sequence[Tensor]) -> float:
    """The largest spectral norm of W_{l+1}^T W_{l+1} - W_l W_l^T, over the largest squared Frobenius norm of a layer.

    Example:
        >>> imbalance([2 * torch.eye(2), torch.eye(2)])
        0.375
    """
    matrices = [layer.double().numpy() for layer in layers]
    largest = max(float((matrix**2).sum()) for matrix in matrices)
    return max(
        (float(np.linalg.norm(above.T @ above - below @ below.T, 2)) / largest for below, above in pairwise(matrices)),
        default=0.0,
    )


def product_of_coordinates(factors: Sequence[Tensor]) -> Tensor:
    """U diag(sigma) V^T of every row, [rows, d, d'] float64, with the same bits in any company.

    Example:
        >>> product_of_coordinates([torch.eye(2)[None], torch.zeros(1, 2), torch.eye(2)[None]]).tolist()
        [[[1.0, 0.0], [0.0, 1.0]]]
    """
    left, logs, right = (factor.double() for factor in factors)
    with np.errstate(over="ignore"):
        values = torch.from_numpy(np.exp(logs.detach().contiguous().numpy()))  # each number by itself, unlike torch's
    return strict_matmul(left * values[..., None, :], right.transpose(-2, -1))


def balanced_layers(factors: Sequence[np.ndarray], depth: int) -> list[np.ndarray]:
    """Balanced layers W_1, ..., W_L of one run, or of many, whose product has these singular coordinates.

    They are sigma^(1/L) V^T, then diagonal matrices of sigma^(1/L), and U sigma^(1/L); a root below 5e-324 is zero.

    Example:
        >>> [layer.tolist() for layer in balanced_layers([np.eye(1), np.log([4.0]), np.eye(1)], 2)]
        [[[2.0]], [[2.0]]]
    """
    left, logs, right = factors
    root = np.exp(logs / depth)
    if depth == 1:
        return [(left * root[..., None, :]) @ right.swapaxes(-1, -2)]
    inner = root[..., :, None] * np.eye(root.shape[-1])
    return [root[..., :, None] * right.swapaxes(-1, -2), *[inner] * (depth - 2), left * root[..., None, :]]


def without_ties(
    left: np.ndarray, logs: np.ndarray, right: np.ndarray, gradient: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same product, with those vectors of equal singular values that flow does not turn at once.

    The product does not say which vectors belong to equal singular values. As these part, the vectors are those in
    which the symmetric part of U^T G V is diagonal. Singular values that are equal up to rounding are made equal.

    Args:
        left, logs, right: U, ln sigma and V of one run, sigma in descending order.
        gradient: G, of the loss with respect to the product.
    """
    left, logs, right = left.copy(), logs.copy(), right.copy()
    start = 0
    while start < len(logs):
        end = start + 1
        while end < len(logs) and logs[start] - logs[end] < TIED:
            end += 1
        if end > start + 1:
            block = slice(start, end)
            pull = left[:, block].T @ gradient @ right[:, block]
            turn = np.linalg.eigh(0.5 * (pull + pull.T))[1]
            left[:, block], right[:, block] = left[:, block] @ turn, right[:, block] @ turn
            logs[block] = logs[block].mean()
        start = end
    return left, logs, right
