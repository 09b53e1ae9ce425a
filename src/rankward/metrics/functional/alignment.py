"""How far the gradient is diagonal in the singular vectors of the product matrix."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def gradient_alignment(
    product: Float[Tensor, "*batch rows cols"], gradient: Float[Tensor, "*batch rows cols"]
) -> Float[Tensor, "*batch 4"]:
    """Mean and standard deviation of the diagonal and of the off-diagonal entries of |U^T G V|, float64.

    U S V^T is the singular value decomposition of the product matrix W, with min(rows, cols) columns in U and V, and G
    the gradient of the loss in W. If the off-diagonal entries are near zero, gradient flow from a balanced start moves
    the singular values and hardly turns the singular vectors. The four numbers are the mean of the diagonal entries,
    their standard deviation, and both of the off-diagonal entries; the standard deviation has n - 1 in its denominator.

    Singular vectors of equal singular values are those that LAPACK returns. A zero matrix has none: its four numbers
    are NaN, as are those of a matrix or gradient that is not finite. The mean of no entries and the standard deviation
    of fewer than two are NaN.

    Source: Arora, Cohen, Hu and Luo, "Implicit Regularization in Deep Matrix Factorization" (NeurIPS 2019), Section 3.

    Example:
        >>> W, G = torch.diag(torch.tensor([2.0, 1.0])), torch.tensor([[1.0, 0.5], [0.5, -3.0]])
        >>> [round(value, 4) for value in gradient_alignment(W, G).tolist()]
        [2.0, 1.4142, 0.5, 0.0]
    """
    rows, cols = product.shape[-2:]
    lead, least = product.shape[:-2], min(rows, cols)
    flat, slopes = (each.reshape(-1, rows, cols).double() for each in (product, gradient))
    found = torch.full((len(flat), 4), torch.nan, dtype=torch.float64, device=flat.device)
    diagonal = torch.eye(least, dtype=torch.bool, device=flat.device)
    usable = (flat != 0).any(-1).any(-1) & torch.isfinite(flat + slopes).all(-1).all(-1)
    # One by one: LAPACK's bits depend on how a matrix is aligned in memory, and so on its place in a batch.
    for index in torch.nonzero(usable).flatten().tolist():
        left, _, right = torch.linalg.svd(flat[index].clone(), full_matrices=False)
        entries = (left.mT @ slopes[index] @ right.mT).abs()
        found[index] = torch.stack([*_mean_and_deviation(entries[diagonal]), *_mean_and_deviation(entries[~diagonal])])
    return found.reshape(*lead, 4)


def _mean_and_deviation(values: Tensor) -> tuple[Tensor, Tensor]:
    return values.mean(), values.std() if len(values) > 1 else values.new_tensor(torch.nan)
