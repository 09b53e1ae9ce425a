"""The Hessian's largest eigenvalue against closed forms, SciPy, finite differences and torch.func."""

import numpy as np
import pytest
import scipy.sparse.linalg
import torch

from rankward.dynamics.sharpness import least_sharpness, sharpness
from rankward.factorizations import Chain, LinearFactorization, MatrixFactorization, TensorFactorization
from rankward.factorizations.initialisation import Balanced, Gaussian
from rankward.observations import random_matrix, random_tensor, sensing, two_by_two


def measured(factorization, factors, measurement, scale=1.0):
    operator = measurement.matrices if hasattr(measurement, "matrices") else measurement.mask
    one = [torch.as_tensor(np.asarray(a))[None] for a in (operator, measurement.values)]
    scale = torch.tensor([scale], dtype=torch.float64)
    return sharpness(factorization.product, [f[None] for f in factors], *one, scale).item()


def whole_hessian(factorization, factors, measurement, scale=1.0):
    """By torch.func, from a loss written anew."""
    shapes = [f.shape for f in factors]

    def height(point):
        parts = torch.split(point, [s.numel() for s in shapes])
        made = factorization.product([p.reshape(s) for p, s in zip(parts, shapes, strict=True)])
        if hasattr(measurement, "matrices"):
            seen = torch.einsum("nij,ij->n", torch.from_numpy(measurement.matrices), made)
            return scale / 2 * (seen - torch.from_numpy(measurement.values)).square().sum()
        mask = torch.from_numpy(measurement.mask)
        return scale / 2 * (made[mask] - torch.from_numpy(measurement.values)[mask]).square().sum()

    return torch.func.hessian(height)(torch.cat([f.flatten() for f in factors])).numpy()


def test_sharpness_of_one_layer_is_one_and_of_a_mean_two_over_the_entries():
    seen = random_matrix((3, 4), 1, 5)
    for factorization in (LinearFactorization((3, 4)), MatrixFactorization((3, 4), 1)):
        assert measured(factorization, [torch.randn(3, 4).double()], seen) == pytest.approx(1, rel=1e-13)
        assert measured(factorization, [torch.randn(3, 4).double()], seen, 2 / 5) == pytest.approx(0.4, rel=1e-13)


@pytest.mark.parametrize("layers", [2, 3, 4])
def test_sharpness_of_balanced_scalar_layers_is_known(layers):
    # f = (w_L ... w_1 - b)^2 / 2 at w_l = b^(1/L): the Hessian is g g^T with g_l = b^(1 - 1/L)
    b = 7.0
    factors = [torch.full((1, 1), b ** (1 / layers), dtype=torch.float64)] * layers
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    factorization = MatrixFactorization((1, 1), layers)
    found = sharpness(factorization.product, [f[None] for f in factors], one, b * one, torch.ones(1))
    assert found.item() == pytest.approx(layers * b ** (2 - 2 / layers), rel=1e-12)


def test_a_negative_eigenvalue_is_not_the_largest():
    # f = (w_2 w_1 - 1)^2 / 2 has the Hessian [[w_2^2, 2 w_1 w_2 - 1], [2 w_1 w_2 - 1, w_1^2]]
    factorization = MatrixFactorization((1, 1), 2)
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    assert sharpness(factorization.product, [0 * one, 0 * one], one, one, torch.ones(1)).item() == pytest.approx(1)
    # At (3, -3) it is [[9, -19], [-19, 9]], with the eigenvalues 28 and -10.
    assert sharpness(factorization.product, [3 * one, -3 * one], one, one, torch.ones(1)).item() == pytest.approx(28)


CASES = {
    "depth 3 at a solution of Equation 6": (MatrixFactorization((2, 2), 3), Balanced(1.0), two_by_two(), 1.0),
    "wide": (MatrixFactorization((3, 4), 2, 5), Gaussian(1.0), random_matrix((3, 4), 1, 7), 1.0),
    "sensing": (MatrixFactorization((3, 2), 3), Gaussian(1.0), sensing((3, 2), 1, 4), 1.0),
    "tensor": (TensorFactorization((3, 4, 2), 3), Gaussian(0.5), random_tensor((3, 4, 2), 2, 9), 2 / 9),
    "large matrix": (MatrixFactorization((12, 10), 3), Gaussian(1.0), random_matrix((12, 10), 2, 60), 1.0),
    "large tensor": (TensorFactorization((6, 6, 6), 20), Gaussian(0.5), random_tensor((6, 6, 6), 2, 90), 2 / 90),
}


@pytest.mark.parametrize("case", CASES)
def test_against_torch_func_and_scipy(case):
    factorization, init, seen, scale = CASES[case]
    factors = factorization.start(init, seed=3)
    if case.startswith("depth 3"):
        root = torch.tensor([[20.0, 1], [1, 0]], dtype=torch.float64)  # fits Equation 6; its layers are balanced
        left, values, right = torch.linalg.svd(root)
        cube = torch.diag(values ** (1 / 3))
        factors = [cube @ right, cube, left @ cube]
    hessian = whole_hessian(factorization, factors, seen, scale)
    expected = scipy.sparse.linalg.eigsh(hessian, k=1, which="LA", return_eigenvectors=False)[0]
    assert measured(factorization, factors, seen, scale) == pytest.approx(
        expected, rel=1e-10 if len(hessian) <= 256 else 1e-4
    )


def test_bits_do_not_depend_on_the_batch_and_non_finite_input_gives_nan():
    factorization = MatrixFactorization((12, 10), 3)  # more parameters than are diagonalised
    small = MatrixFactorization((2, 2), 2)
    for each, seen in ((factorization, random_matrix((12, 10), 2, 60)), (small, two_by_two())):
        starts = [each.start(Gaussian(1.0), seed) for seed in range(4)]
        starts[2][0][0, 0] = torch.nan
        starts[3][0][:] = 1e200
        factors = [torch.stack(layer) for layer in zip(*starts, strict=True)]
        operator, values = (torch.as_tensor(a).expand(4, *a.shape) for a in (seen.mask, seen.values))
        together = sharpness(each.product, factors, operator, values, torch.ones(4))
        assert together[:2].isfinite().all() and together[2:].isnan().all()
        for run in range(2):
            assert together[run].item() == measured(each, starts[run], seen)


def test_float32_factors_are_measured_in_float64():
    factorization, seen = MatrixFactorization((2, 2), 3), two_by_two()
    factors = [f.float() for f in factorization.start(Gaussian(1.0), 0)]
    assert measured(factorization, factors, seen) == measured(factorization, [f.double() for f in factors], seen)


@pytest.mark.parametrize("seed", range(5))
def test_no_solution_has_less_than_the_least_sharpness(seed):
    for factorization, scale in (
        (MatrixFactorization((3, 4), 3, [2, 5]), 1.0),
        (TensorFactorization((2, 3, 2), 3), 0.5),
    ):
        factors = factorization.start(Gaussian(10.0 ** (seed - 2)), seed)
        made = factorization.product(factors)
        ones = torch.ones_like(made)[None]  # all observed, and fit
        found = sharpness(factorization.product, [f[None] for f in factors], ones, made[None], torch.tensor([scale]))
        assert found.item() >= least_sharpness(factorization.form, made.abs().max().item(), scale) * (1 - 1e-12)


def test_the_least_sharpness_is_reached():
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    for layers in (1, 2, 3, 5):
        factors = [7.0 ** (1 / layers) * one] * layers
        product = MatrixFactorization((1, 1), layers).product
        found = sharpness(product, factors, one, 7 * one, torch.ones(1)).item()
        assert found == pytest.approx(least_sharpness(Chain((1,) * (layers + 1)), 7.0), rel=1e-12)
    factorization = TensorFactorization((1, 1, 1), 4)  # four components of 7/4 each
    factors = [torch.full((1, 1, 4), (7 / 4) ** (1 / 3), dtype=torch.float64)] * 3
    found = sharpness(factorization.product, factors, one[None], 7 * one[None], torch.tensor([2.0])).item()
    assert found == pytest.approx(least_sharpness(factorization.form, 7.0, 2.0), rel=1e-12)
    assert least_sharpness(None, 7.0) == 0
