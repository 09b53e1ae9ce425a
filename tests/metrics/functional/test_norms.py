"""Schatten norms against NumPy and SciPy."""

import mpmath
import numpy as np
import pytest
import scipy.linalg
import torch

from rankward.metrics import DepthSchattenNorm
from rankward.metrics.functional import frobenius_norm, nuclear_norm, parameter_norm, schatten_norm, spectral_norm


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


def test_parameter_norm_against_numpy_and_mpmath():
    random = np.random.default_rng(2)
    arrays = [random.standard_normal((7, *shape)) for shape in ((3, 4), (5,), (2, 2, 2), ())]
    arrays[0][1], arrays[1][2] = 1e-170, 1e200  # squares out of float64's range
    found = parameter_norm([torch.from_numpy(each) for each in arrays]).numpy()
    for run in range(7):
        flat = np.concatenate([each[run].ravel() for each in arrays])
        exact = mpmath.sqrt(mpmath.fsum(mpmath.mpf(float(x)) ** 2 for x in flat))
        assert found[run] == pytest.approx(float(exact), rel=1e-15)
        assert run == 2 or found[run] == pytest.approx(np.linalg.norm(flat), rel=1e-14)
    assert parameter_norm([torch.full((1, 2), 1e-200, dtype=torch.float64)]).item() == pytest.approx(2**0.5 * 1e-200)
    assert parameter_norm([torch.zeros(2, 3)]).tolist() == [0, 0] and len(parameter_norm([torch.zeros(0, 3)])) == 0
    assert parameter_norm([torch.tensor([[torch.nan, 1.0]])]).isnan().all()
    float32 = torch.full((1, 3), 0.1)
    assert parameter_norm([float32]).item() == pytest.approx(3**0.5 * float(float32[0, 0]), rel=1e-15)


@pytest.mark.parametrize("layers", [1, 2, 3, 6])
def test_schatten_2_over_depth_against_mpmath(layers):
    matrix = np.random.default_rng(3).standard_normal((4, 3, 5))
    metric = DepthSchattenNorm()
    metric.update([torch.zeros(4, 1, 1)] * layers, torch.from_numpy(matrix))
    with mpmath.workdps(40):
        for run, found in enumerate(metric.columns()["norm/schatten_2_over_L"].tolist()):
            values = mpmath.svd_r(mpmath.matrix(matrix[run].tolist()), compute_uv=False)
            power = mpmath.mpf(2) / layers
            exact = mpmath.fsum(value**power for value in values) ** (1 / power)
            assert found == pytest.approx(float(exact), rel=1e-12)
