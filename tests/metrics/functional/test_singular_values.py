"""Singular values against mpmath and LAPACK, and the same bits in any company."""

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from rankward.metrics.functional import singular_values


def exact_2x2(matrix: np.ndarray) -> list[float]:
    """By mpmath with 80 digits, from the eigenvalues of W^T W."""
    with mpmath.workdps(80):
        a, b, c, d = (mpmath.mpf(float(x)) for x in matrix.ravel())
        trace, det = a * a + b * b + c * c + d * d, abs(a * d - b * c)
        largest = mpmath.sqrt((trace + mpmath.sqrt(trace * trace - 4 * det * det)) / 2)
        return [float(largest), float(det / largest) if largest else 0.0]


@pytest.mark.parametrize("ratio", [1.0, 1e-3, 1e-12, 1e-14])
@pytest.mark.parametrize("size", [1e-150, 1e-5, 1.0, 1e150])
def test_2x2_is_accurate_relative_to_each_value(ratio, size):
    rng = np.random.default_rng(0)
    matrices = []
    for _ in range(50):
        left, right = (np.linalg.qr(rng.standard_normal((2, 2)))[0] for _ in range(2))
        matrices.append(size * left @ np.diag([1.0, ratio]) @ right)
    found = singular_values(torch.from_numpy(np.stack(matrices))).numpy()
    expected = np.array([exact_2x2(matrix) for matrix in matrices])
    assert np.abs(found / expected - 1).max() < 4e-15


@given(st.lists(st.floats(-1e100, 1e100, allow_subnormal=False), min_size=4, max_size=4))
def test_2x2_of_any_entries(entries):
    matrix = np.array(entries).reshape(2, 2)
    largest, smallest = singular_values(torch.from_numpy(matrix)).tolist()
    exact = exact_2x2(matrix)
    assert largest == pytest.approx(exact[0], rel=1e-14)
    # Entries so far apart that scaling makes one subnormal lose digits of its own, never of sigma_1.
    assert smallest == pytest.approx(exact[1], rel=1e-13, abs=1e-280 * (1 + exact[0]))


@pytest.mark.parametrize("dims", [(1, 1), (1, 5), (5, 1), (3, 5), (6, 4)])
def test_other_sizes_against_lapack(dims):
    matrix = np.random.default_rng(1).standard_normal((7, 3, *dims))
    np.testing.assert_allclose(
        singular_values(torch.from_numpy(matrix)).numpy(), np.linalg.svd(matrix, compute_uv=False), rtol=1e-12
    )


@pytest.mark.parametrize("dims", [(1, 3), (2, 2), (3, 3)])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_value_that_is_not_finite_gives_nan_and_spares_its_neighbours(dims, bad):
    matrix = torch.ones(3, *dims, dtype=torch.float64)
    matrix[1, 0, 0] = bad
    values = singular_values(matrix)
    assert torch.isnan(values[1]).all()
    assert torch.isfinite(values[[0, 2]]).all()


def test_zero_matrix_and_float32():
    assert singular_values(torch.zeros(2, 2)).tolist() == [0.0, 0.0]
    assert singular_values(torch.eye(2)).dtype == torch.float64
