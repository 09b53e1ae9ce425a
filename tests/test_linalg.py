"""Matrix products agree with NumPy and have the same bits alone and in a batch."""

import time

import numpy as np
import torch

from rankward.linalg import product_matrix, strict_matmul


def normal(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


def test_strict_matmul_against_numpy():
    rng = np.random.default_rng(2)
    left, right = rng.standard_normal((9, 3, 4)), rng.standard_normal((9, 4, 5))
    np.testing.assert_allclose(
        strict_matmul(torch.from_numpy(left), torch.from_numpy(right)).numpy(), left @ right, rtol=1e-12
    )


def test_product_matrix_multiplies_from_the_left():
    factors = [torch.randn(4, 3, 2), torch.randn(4, 5, 3), torch.randn(4, 2, 5)]
    expected = np.stack([f[2] @ f[1] @ f[0] for f in zip(*[f.double().numpy() for f in factors], strict=True)])
    np.testing.assert_allclose(product_matrix(factors).numpy(), expected, rtol=1e-12)


def test_large_products_agree_with_numpy_and_have_the_same_bits_alone():
    left, right = normal(0, 5, 67, 71), normal(1, 5, 71, 65)
    batch = strict_matmul(*tensors([left, right]))
    np.testing.assert_allclose(batch.numpy(), left @ right, atol=1e-13 * 71)
    for run in range(5):
        alone = strict_matmul(*tensors([left[run : run + 1].copy(), right[run : run + 1].copy()]))
        assert torch.equal(alone[0], batch[run])
    transposed = strict_matmul(torch.from_numpy(left.transpose(0, 2, 1).copy()).mT, torch.from_numpy(right))
    assert torch.equal(transposed, batch)
    assert strict_matmul(torch.zeros(0, 99, 99), torch.zeros(0, 99, 99)).shape == (0, 99, 99)


def test_large_product_is_fast():
    square = torch.from_numpy(normal(2, 1, 600, 600))
    start = time.process_time()
    strict_matmul(square, square)
    assert time.process_time() - start < 0.5  # elementwise 1.5 s and more, and ten times that at 1,000
