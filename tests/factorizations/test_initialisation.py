"""Where factors start: Equation 5, scales, signs and seeds."""

from functools import reduce

import numpy as np
import pytest
import torch

from rankward.config import ConfigError
from rankward.factorizations import LinearFactorization, MatrixFactorization
from rankward.factorizations.initialisation import Around, Balanced, Between, Gaussian, Identity, Orthogonal


def product(factors):
    return reduce(np.matmul, [f.numpy() for f in reversed(factors)])


@pytest.mark.parametrize("sizes", [(2, 2), (2, 2, 2), (2, 2, 2, 2, 2), (3, 4, 5)])
@pytest.mark.parametrize("scheme", [Gaussian, Balanced])
def test_entries_of_the_product_have_the_wanted_deviation(scheme, sizes):
    entries = np.stack([product(scheme(scale=0.01).draw(sizes, seed)) for seed in range(4000)])
    # A product of many normals has heavy tails: the tolerance grows with depth.
    assert entries.std() == pytest.approx(0.01, rel=0.06 * len(sizes))


@pytest.mark.parametrize("sizes", [(2, 2, 2), (3, 3, 3, 3, 3), (4, 3, 3), (3, 7, 5, 4)])
def test_balanced_is_equation_5(sizes):
    factors = [f.numpy() for f in Balanced(scale=1.0).draw(sizes, seed=1)]
    assert [f.shape for f in factors] == [(sizes[i + 1], sizes[i]) for i in range(len(sizes) - 1)]
    for below, above in zip(factors, factors[1:], strict=False):
        np.testing.assert_allclose(above.T @ above, below @ below.T, atol=1e-12)
    assert np.linalg.matrix_rank(product([torch.from_numpy(f) for f in factors])) == min(sizes)


def test_orthogonal_and_identity():
    for factor in Orthogonal(scale=0.008).draw((3, 3, 3, 3), seed=0):
        np.testing.assert_allclose(factor.numpy() @ factor.numpy().T, 0.04 * np.eye(3), atol=1e-12)
    np.testing.assert_allclose(product(Identity(scale=0.3).draw((2, 2, 2), 0)), 0.3 * np.eye(2))


@pytest.mark.parametrize("scheme", [Gaussian, Balanced, Orthogonal])
@pytest.mark.parametrize(("wanted", "sign"), [("positive", 1), ("negative", -1)])
def test_the_determinant_has_the_wanted_sign(scheme, wanted, sign):
    for seed in range(20):
        for depth in (2, 4):
            drawn = product(scheme(1e-5, wanted).draw((2,) * (depth + 1), seed))
            assert np.sign(drawn[0, 0] * drawn[1, 1] - drawn[0, 1] * drawn[1, 0]) == sign


@pytest.mark.parametrize("scheme", [Gaussian, Balanced, Orthogonal])
def test_a_seed_is_a_start(scheme):
    one, again, other = (scheme(1e-2).draw((3, 3, 3), seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])


def test_factors_around_a_mean_have_its_moments_and_a_chain_has_none():
    drawn = torch.stack([Around(1e-3, mean=1.0).each([(50, 20)], seed)[0] for seed in range(20)]).numpy()
    assert drawn.mean() == pytest.approx(1, abs=5e-5) and drawn.std() == pytest.approx(1e-3, rel=0.02)
    with pytest.raises(ConfigError, match="another one for a chain of matrices"):
        Around(1e-3, mean=1.0).draw((2, 2, 2), seed=0)


def test_signs_that_cannot_be_are_refused():
    for scheme, sizes, wanted in (
        (Gaussian, (3, 3, 2), "positive"),  # not square
        (Gaussian, (3, 2, 3), "negative"),  # a hidden layer too narrow
        (Identity, (2, 2, 2), "negative"),
    ):
        with pytest.raises(ConfigError, match=r"init\.determinant"):
            scheme(1.0, wanted).draw(sizes, 0)
    with pytest.raises(ConfigError, match="hidden sizes"):
        Balanced(1.0).draw((3, 2, 3), 0)


def test_shapes_of_factorizations():
    assert MatrixFactorization((4, 6), layers=3).shapes == [(4, 6), (4, 4), (4, 4)]
    assert MatrixFactorization((4, 6), layers=3, hidden=[5, 7]).form.sizes == (6, 5, 7, 4)
    assert MatrixFactorization((2, 2), layers=1).shapes == [(2, 2)]
    start = LinearFactorization((2, 3)).start(Gaussian(1.0), 0)
    assert start[0].tolist() == [[0, 0, 0], [0, 0, 0]]
    with pytest.raises(ConfigError, match=r"factorization\.hidden"):
        MatrixFactorization((2, 2), layers=3, hidden=[2])


@pytest.mark.parametrize(("depth", "ratio"), [(2, 1.9), (3, 2.6), (4, 3.6)])
def test_between_at_1_is_larger_than_its_balanced_part_by_the_factor_that_is_stated(depth, ratio):
    draws = Between(1.0, 1.0).factors((2,) * (depth + 1), np.random.default_rng(0), (100_000,))
    assert reduce(np.matmul, draws[::-1]).std() == pytest.approx(ratio, rel=0.02)


def test_wide_hidden_layers_make_an_orthogonal_start_smaller():
    random = np.random.default_rng(0)
    for sizes, equal in (((3, 3, 3), True), ((4, 4, 6), True), ((2, 4, 2), False)):
        product = reduce(np.matmul, Orthogonal(0.1).factors(sizes, random)[::-1])
        values = np.linalg.svd(product, compute_uv=False)
        assert (values < 0.1 * (1 + 1e-12)).all()
        assert np.allclose(values, 0.1, rtol=1e-12) == equal
