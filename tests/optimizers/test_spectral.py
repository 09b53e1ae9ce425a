"""Spectral descent: the polar factor of SciPy, singular values by a polynomial of numbers, torch's Muon, and engines."""

import numpy as np
import pytest
import scipy.linalg
import torch

from helpers.engines import ensemble
from helpers.optimizing import optimized, picked, with_rule
from rankward.config import ConfigError
from rankward.dynamics import BatchedEngine, FusedEngine, ReferenceEngine, Schedule
from rankward.dynamics.layouts import layout_of
from rankward.optimizers import Spectral
from rankward.optimizers.spectral import FAST, orthogonal_factor

SHAPES = [(2, 2), (3, 2), (1, 4), (5, 5), (4, 20)]


def drawn(shape, condition, seed=0):
    """A matrix with a given condition number and a size far from 1."""
    random, inner = np.random.default_rng([seed, *shape]), min(shape)
    left, right = (np.linalg.qr(random.standard_normal((side, inner)))[0] for side in shape)
    return (left * np.geomspace(1, 1 / condition, inner)) @ right.T * 10.0 ** random.uniform(-200, 200)


@pytest.mark.parametrize(("condition", "error"), [(1, 1e-14), (1e3, 1e-12), (1e5, 1e-10), (1e6, 1e-9)])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_exact_factor_is_the_polar_factor(shape, condition, error):
    for seed in range(3):
        matrix = drawn(shape, condition, seed)
        expected = scipy.linalg.polar(matrix / np.abs(matrix).max())[0]
        assert np.abs(orthogonal_factor(torch.from_numpy(matrix)).numpy() - expected).max() <= error


def test_a_singular_value_of_zero_stays_zero():
    matrix = torch.outer(torch.tensor([1.0, 2.0, 2.0]), torch.tensor([3.0, 4.0])).double() / 7
    assert torch.allclose(orthogonal_factor(matrix), matrix * 7 / 15, rtol=0, atol=2e-8)
    assert torch.equal(orthogonal_factor(0 * matrix), 0 * matrix)


@pytest.mark.parametrize("shape", SHAPES)
def test_newton_schulz_steps_change_singular_values_alone(shape):
    matrix = drawn(shape, 30)
    left, values, right = np.linalg.svd(matrix / np.abs(matrix).max(), full_matrices=False)
    values = values / np.sqrt((values**2).sum())
    for _ in range(5):
        values = FAST[0] * values + FAST[1] * values**3 + FAST[2] * values**5
    got = orthogonal_factor(torch.from_numpy(matrix), (FAST,) * 5).numpy()
    np.testing.assert_allclose(got, (left * values) @ right, rtol=0, atol=1e-13)


@pytest.mark.parametrize("nesterov", [True, False])
def test_steps_are_those_of_muon_to_the_precision_of_its_bfloat16(nesterov):
    weight = torch.randn(4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    ours, theirs = weight.clone(), weight.clone().requires_grad_()
    muon = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.5, momentum=0.8, nesterov=nesterov)
    mine, state = Spectral(0.8, nesterov, 0.5), {"mean": torch.zeros_like(weight)}
    for _ in range(3):
        theirs.grad = theirs.detach() ** 3
        muon.step()
        ours, state = mine.update(ours, ours**3, state, torch.tensor(0.1), torch.tensor(1.0))
    moved = (ours - weight).norm()
    assert float(moved) > 0.01 and float((ours - theirs.detach()).norm()) < 0.02 * float(moved)


def test_other_factors_than_matrices_are_refused():
    with pytest.raises(ConfigError, match="optimizer: 'spectral' .*another one: a factor of shape 3 is no matrix"):
        Spectral().check([(2, 2), (3,)])


@pytest.mark.slow
@pytest.mark.parametrize(("steps", "form"), [(5, "unrolled"), (None, "blocked")])
def test_engines_agree_and_company_changes_no_bit(steps, form):
    factorization, factors, problem = ensemble((2, 3, 2), 9, max_iterations=100, eta=(1e-3, 1e-2))
    problem = with_rule(problem, [Spectral(0.5 + 0.05 * n, ns_steps=steps) for n in range(9)])
    assert layout_of(factorization, (2, 2), (2, 2), "float64", problem.rule).form == form
    got, _, rows = optimized(FusedEngine(factorization, Schedule(), 1), factors, problem)
    alone = optimized(FusedEngine(factorization, Schedule()), *picked(factors, problem, [5]), length=50)
    assert alone[2][0] == rows[5]
    for engine in (ReferenceEngine(factorization, Schedule()), BatchedEngine(factorization, Schedule())):
        expected = optimized(engine, factors, problem)[0]
        for ours, theirs in zip(got, expected, strict=True):
            assert float((ours - theirs).abs().max()) <= 1e-9
