"""Determinant, balancedness and reconstruction against NumPy."""

from fractions import Fraction

import numpy as np
import pytest
import torch

from rankward.metrics.functional import determinant_sign, reconstruction_error, unbalancedness


def test_determinant_sign_is_exact_for_2x2():
    """Nearly singular matrices, where ad - bc in float64 loses its sign; the oracle is exact rational arithmetic."""
    rng = np.random.default_rng(0)
    base = rng.standard_normal((500, 2, 1)) @ rng.standard_normal((500, 1, 2))
    exact = [Fraction(m[0, 0]) * Fraction(m[1, 1]) - Fraction(m[0, 1]) * Fraction(m[1, 0]) for m in base.astype(object)]
    naive = np.sign(base[:, 0, 0] * base[:, 1, 1] - base[:, 0, 1] * base[:, 1, 0])
    expected = np.array([(d > 0) - (d < 0) for d in exact], dtype=float)
    assert (naive != expected).any()  # the test is worth its name
    np.testing.assert_array_equal(determinant_sign(torch.from_numpy(base)).numpy(), expected)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_determinant_sign_of_other_sizes(size):
    matrix = np.random.default_rng(1).standard_normal((30, size, size))
    np.testing.assert_array_equal(determinant_sign(torch.from_numpy(matrix)).numpy(), np.sign(np.linalg.det(matrix)))


def test_determinant_sign_where_there_is_none():
    assert torch.isnan(determinant_sign(torch.ones(4, 2, 3))).all()
    bad = torch.eye(2).repeat(2, 1, 1)
    bad[0, 0, 0] = torch.inf
    assert torch.isnan(determinant_sign(bad)).tolist() == [True, False]


def test_unbalancedness_against_numpy():
    rng = np.random.default_rng(2)
    factors = [rng.standard_normal((6, 3, 4)), rng.standard_normal((6, 5, 3)), rng.standard_normal((6, 2, 5))]
    expected = [
        max(
            np.linalg.norm(above[r].T @ above[r] - below[r] @ below[r].T, 2)
            for below, above in zip(factors, factors[1:], strict=False)
        )
        for r in range(6)
    ]
    np.testing.assert_allclose(unbalancedness([torch.from_numpy(f) for f in factors]).numpy(), expected, rtol=1e-12)
    assert unbalancedness([torch.ones(3, 2, 2)]).tolist() == [0, 0, 0]


def test_reconstruction_error_against_numpy():
    rng = np.random.default_rng(3)
    matrix, truth = rng.standard_normal((5, 3, 4)), rng.standard_normal((3, 4))
    expected = np.linalg.norm(matrix - truth, axis=(1, 2))
    tensors = torch.from_numpy(matrix), torch.from_numpy(truth)
    np.testing.assert_allclose(reconstruction_error(*tensors).numpy(), expected, rtol=1e-13)
    np.testing.assert_allclose(
        reconstruction_error(*tensors, relative=True).numpy(), expected / np.linalg.norm(truth), rtol=1e-13
    )
