"""Unbalancedness and drift of wide layers agree with NumPy, with the same bits alone and in a batch."""

import numpy as np
import pytest
import torch

from rankward.metrics.functional import unbalancedness
from rankward.metrics.functional.conserved import matrix_drift


def numbers(seed, *shape):
    return np.random.default_rng(seed).standard_normal(shape)


def tensors(arrays):
    return [torch.from_numpy(array) for array in arrays]


@pytest.mark.parametrize(("below", "hidden", "above"), [(2, 65, 3), (3, 200, 2), (40, 90, 45), (5, 70, 60)])
def test_unbalancedness_of_wide_layers_against_numpy(below, hidden, above):
    factors = [numbers(3, 4, hidden, below), numbers(4, 4, above, hidden)]
    factors[1][2] = 0
    factors[0][3] = np.linalg.qr(factors[1][3].T)[0][:, :1] * np.ones(below)
    expected = [np.linalg.norm(a.T @ a - b @ b.T, 2) for b, a in zip(*factors, strict=True)]
    measured = unbalancedness(tensors(factors))
    np.testing.assert_allclose(measured.numpy(), expected, rtol=1e-12)
    for run in range(4):
        assert torch.equal(unbalancedness(tensors([f[run : run + 1].copy() for f in factors]))[0], measured[run])


def test_unbalancedness_of_a_wide_balanced_chain_is_zero_to_rounding():
    basis = np.linalg.qr(numbers(5, 500, 3))[0]  # W_2^T W_2 = W_1 W_1^T = U diag(9, 4, 1) U^T
    factors = [basis * np.array([3.0, 2, 1]), (basis * np.array([3.0, 2, 1])).T]
    assert unbalancedness(tensors([factor[None] for factor in factors])).item() < 9 * 1e-14


def test_drift_of_wide_layers_against_numpy():
    now = [numbers(6, 2, 300, 4), numbers(7, 2, 3, 300)]
    then = [factor + 1e-7 * numbers(8 + i, *factor.shape) for i, factor in enumerate(now)]

    def difference(factors, run):
        return factors[1][run].T @ factors[1][run] - factors[0][run] @ factors[0][run].T

    size = [max(np.linalg.norm(factor[run]) ** 2 for factor in now) for run in range(2)]
    expected = [np.linalg.norm(difference(now, run) - difference(then, run)) / size[run] for run in range(2)]
    measured = matrix_drift(tensors(now), tensors(then))
    np.testing.assert_allclose(measured.numpy(), expected, rtol=1e-6)  # 9 of 16 digits are left to NumPy
    assert matrix_drift(tensors(now), tensors(now)).tolist() == [0, 0]


def test_layers_of_a_million_units_need_no_matrix_of_their_square():
    width = 1_000_000  # 8 TB
    factors = [torch.ones(1, width, 2, dtype=torch.float64), 2 * torch.ones(1, 2, width, dtype=torch.float64)]
    # 4 * 2 * 1 1^T - 2 * 1 1^T on a million units: 6 times their number
    assert unbalancedness(factors).item() == pytest.approx(6 * width, rel=1e-12)
    assert matrix_drift(factors, factors).item() == 0.0


def test_a_wide_layer_that_is_not_finite_has_nan_alone():
    factors = [numbers(9, 2, 100, 3), numbers(10, 2, 3, 100)]
    factors[0][0, 5, 1] = np.nan
    assert torch.isnan(unbalancedness(tensors(factors))).tolist() == [True, False]
    assert torch.isnan(matrix_drift(tensors(factors), tensors(factors))).tolist() == [True, False]
