"""The sharpness against closed forms and against Hessians made of finite differences."""

import numpy as np
import pytest
import torch

from rankward.dynamics.sharpness import EXACT, sharpness
from rankward.factorizations import MatrixFactorization, TensorFactorization


def tensors(*arrays):
    return [torch.from_numpy(np.asarray(array, dtype=np.float64)) for array in arrays]


def differences(factorization, factors, operator, values, scale):
    """The Hessian's largest eigenvalue, by second differences of the loss in NumPy."""
    shapes, sizes = [f.shape for f in factors], [f.numel() for f in factors]
    point = np.concatenate([f.numpy().ravel() for f in factors])

    def loss(flat):
        parts = [
            torch.from_numpy(p).reshape(s) for p, s in zip(np.split(flat, np.cumsum(sizes)[:-1]), shapes, strict=True)
        ]
        product = factorization.product(parts).numpy()
        masked = operator.shape == values.shape
        residual = (
            operator * (product - values) if masked else operator.reshape(len(values), -1) @ product.ravel() - values
        )
        return scale * 0.5 * (residual**2).sum()

    h, n = 1e-4, len(point)
    steps = h * np.eye(n)
    hessian = [
        [
            (loss(point + a + b) - loss(point + a - b) - loss(point - a + b) + loss(point - a - b)) / (4 * h * h)
            for b in steps
        ]
        for a in steps
    ]
    return np.linalg.eigvalsh(np.array(hessian))[-1]


def test_of_a_scalar_chain_at_a_minimum_it_is_the_squared_norm_of_the_products_gradient():
    """(w_3 w_2 w_1 - y)^2 / 2 at w = (1, 2, 3), y = 6: the Hessian is g g^T, g = (6, 3, 2), of norm^2 49."""
    factors = tensors([[1.0]], [[2.0]], [[3.0]])
    one, six = tensors([[1.0]], [[6.0]])
    assert sharpness(MatrixFactorization((1, 1), 3), factors, one, six) == pytest.approx(49, rel=1e-12)


@pytest.mark.parametrize("sensing", [False, True])
def test_of_a_matrix_away_from_a_minimum(sensing):
    rng = np.random.default_rng(0)
    factorization = MatrixFactorization((2, 3), 3)
    factors = tensors(*(rng.standard_normal(shape) for shape in factorization.shapes))
    operator = rng.standard_normal((4, 2, 3)) if sensing else (rng.random((2, 3)) < 0.7).astype(float)
    values = rng.standard_normal(4 if sensing else (2, 3))
    expected = differences(factorization, factors, operator, values, 0.3)
    assert sharpness(factorization, factors, *tensors(operator, values), 0.3) == pytest.approx(expected, rel=1e-5)


def test_of_a_tensor():
    rng = np.random.default_rng(1)
    factorization = TensorFactorization((2, 3, 2), 3)
    factors = tensors(*(rng.standard_normal(shape) for shape in factorization.shapes))
    mask, values = rng.integers(0, 2, (2, 3, 2)).astype(float), rng.standard_normal((2, 3, 2))
    expected = differences(factorization, factors, mask, values, 2 / mask.sum())
    assert sharpness(factorization, factors, *tensors(mask, values), 2 / mask.sum()) == pytest.approx(
        expected, rel=1e-5
    )


def test_many_parameters_take_lanczos_and_agree_with_the_closed_form():
    """Depth 2 at an exact fit of all entries: the largest eigenvalue of W_1 W_1^T and W_2^T W_2's sizes together.

    There the Hessian is J^T J, with J J^T = (W_1^T W_1) x I + I x (W_2 W_2^T): its largest eigenvalue is the sum of both.
    """
    rng = np.random.default_rng(2)
    size = 12
    factorization = MatrixFactorization((size, size), 2)
    lower, upper = rng.standard_normal((2, size, size))
    factors = tensors(lower, upper)
    assert sum(f.numel() for f in factors) > EXACT
    mask, values = tensors(np.ones((size, size)), upper @ lower)
    expected = np.linalg.norm(lower, 2) ** 2 + np.linalg.norm(upper, 2) ** 2
    assert sharpness(factorization, factors, mask, values) == pytest.approx(expected, rel=1e-6)


def test_what_is_not_finite_has_none():
    one = torch.ones(1, 1)
    assert np.isnan(sharpness(MatrixFactorization((1, 1), 2), [one * torch.nan, one], one, one))
