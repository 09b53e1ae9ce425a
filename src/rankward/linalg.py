"""Matrix products whose bits do not depend on the other matrices of a batch, and sums in one thread."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

BLAS_MULTIPLICATIONS = 64**3  # a product with more multiplications is left to BLAS, as in the compiled engine


def strict_matmul(left: Float[Tensor, "*batch n k"], right: Float[Tensor, "*batch k m"]) -> Float[Tensor, "*batch n m"]:
    """Multiply matrices with the same bits for any batch.

    Small products are summed elementwise in ascending k, since BLAS promises nothing about a batch. Products with more
    than `BLAS_MULTIPLICATIONS` multiplications are left to BLAS one by one, from memory with the same alignment.

    Example:
        >>> strict_matmul(torch.ones(5, 2, 3), torch.ones(5, 3, 2))[0, 0, 0].item()
        3.0
    """
    (rows, inner), columns = left.shape[-2:], right.shape[-1]
    if rows * inner * columns > BLAS_MULTIPLICATIONS and left.shape[:-2] == right.shape[:-2]:
        pairs = zip(left.reshape(-1, rows, inner), right.reshape(-1, inner, columns), strict=True)
        products = [_aligned(a) @ _aligned(b) for a, b in pairs]
        shape = (*left.shape[:-1], columns)
        return torch.stack(products).reshape(shape) if products else left.new_zeros(shape)
    result = left[..., :, 0, None] * right[..., None, 0, :]
    for k in range(1, inner):
        result = result + left[..., :, k, None] * right[..., None, k, :]
    return result


def _aligned(matrix: Tensor) -> Tensor:
    """Copy a matrix in row-major order into new memory: the order of BLAS's sums may depend on the alignment."""
    return matrix.clone(memory_format=torch.contiguous_format)


def product_matrix(factors: Sequence[Float[Tensor, "*batch _ _"]]) -> Float[Tensor, "*batch rows cols"]:
    """W = W_L ... W_1 (Equation 3) in float64; `factors[0]` is W_1 and layer l is [..., d_l, d_(l-1)]."""
    result = factors[0].double()
    for factor in factors[1:]:
        result = strict_matmul(factor.double(), result)
    return result


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limit torch to one thread, since the order of its sums depends on the number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
