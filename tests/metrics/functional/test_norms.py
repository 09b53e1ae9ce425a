"""Schatten norms against NumPy and SciPy."""

import numpy as np
import pytest
import scipy.linalg
import torch

from rankward.metrics.functional import frobenius_norm, nuclear_norm, schatten_norm, spectral_norm


@pytest.mark.parametrize("dims", [(2, 2), (3, 5), (6, 4), (1, 4)])
@pytest.mark.parametrize("p", [0.3, 0.5, 1.0, 1.7, 2.0, 5.0, np.inf])
def test_schatten_against_numpy_singular_values(dims, p):
    matrix = np.random.default_rng(0).standard_normal((11, *dims))
    values = np.linalg.svd(matrix, compute_uv=False)
    expected = values[:, 0] if np.isinf(p) else (values**p).sum(-1) ** (1 / p)
    np.testing.assert_allclose(schatten_norm(torch.from_numpy(matrix), p).numpy(), expected, rtol=1e-12)


def test_named_norms_against_scipy():
    matrix = np.random.default_rng(1).standard_normal((3, 4))
    tensor = torch.from_numpy(matrix)
    assert frobenius_norm(tensor).item() == pytest.approx(scipy.linalg.norm(matrix, "fro"), rel=1e-13)
    assert spectral_norm(tensor).item() == pytest.approx(scipy.linalg.norm(matrix, 2), rel=1e-13)
    assert nuclear_norm(tensor).item() == pytest.approx(np.linalg.norm(matrix, "nuc"), rel=1e-13)


def test_extreme_sizes_do_not_overflow():
    huge = 1e200 * torch.eye(2, dtype=torch.float64)
    assert frobenius_norm(huge).item() == pytest.approx(2**0.5 * 1e200)
    assert schatten_norm(huge, 0.25).item() == pytest.approx(16e200)


def test_zero_and_nan():
    assert schatten_norm(torch.zeros(2, 2), 0.5).item() == 0
    assert torch.isnan(schatten_norm(torch.full((2, 2), torch.nan), 0.5))


@pytest.mark.parametrize("p", [0, -1, float("nan")])
def test_p_out_of_range_is_named(p):
    with pytest.raises(ValueError, match="^p:"):
        schatten_norm(torch.eye(2), p)
