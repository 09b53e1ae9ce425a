"""Singular values of stacks of weights and of products, by a small triangle where a matrix is long."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.metrics.functional.singular_values import singular_values

LONG = 2  # a matrix at least so many times as long as it is wide is reduced: its SVD alone takes several times as long


def spectrum(factors: Sequence[Float[Tensor, "matrices _ _"]]) -> Float[Tensor, "matrices least"]:
    """Singular values of `factors[0] @ factors[1] @ ...`, in descending order, float64.

    A long matrix is Q R, and R has its singular values. A product of rank at most k is Q_1 (R_1 R_2^T) Q_2^T with a
    k x k matrix in the middle, and the singular values beyond k are 0 exactly. A matrix with NaN or infinity has NaN
    singular values. Errors are a few roundings of float64, relative to the norms of the factors.

    Args:
        factors: one stack of matrices, or several whose product is meant.

    Example:
        >>> left = torch.tensor([[[3.0], [0.0], [4.0]]])
        >>> [round(value, 12) for value in spectrum([left, left.mT])[0].tolist()]
        [25.0, 0.0, 0.0]
    """
    *first, last = [factor.double() for factor in factors]
    if first:
        left = reduce(torch.matmul, first)
        least = min(left.shape[-2], last.shape[-1])
        core = _short(left) @ _short(last.mT).mT
    else:
        least = min(last.shape[-2:])
        core = last
    values = singular_values(_short(core if core.shape[-2] >= core.shape[-1] else core.mT))
    zeros = torch.where(torch.isfinite(values[:, :1]), 0.0, torch.nan).expand(-1, least - values.shape[-1])
    return torch.cat([values, zeros], dim=-1)


def _short(matrix: Tensor) -> Tensor:
    """R of Q R for a long matrix, and else the matrix."""
    rows, cols = matrix.shape[-2:]
    return torch.linalg.qr(matrix, mode="r").R if rows >= LONG * cols else matrix
