"""What the factors of each factorization stand for, where they start, and that the compiled engine takes them."""

import itertools

import numpy as np
import pytest
import torch

from helpers.runs import composed
from rankward.config import ConfigError
from rankward.dynamics.layouts import GraphLayout, layout_of
from rankward.factorizations import (
    DiagonalFactorization,
    MatrixFactorization,
    NonlinearFactorization,
    ResidualFactorization,
    SymmetricFactorization,
    TuckerFactorization,
)
from rankward.factorizations.initialisation import Balanced, Between, Constant, Gaussian, Identity, Orthogonal
from rankward.training.ensemble import Ensemble, traits


def diagonal(layers):
    return lambda u, v: np.power(u, layers) - np.power(v, layers)


def residual(*factors):
    eye = np.eye(len(factors[0]))
    product = eye
    for factor in factors:
        product = (eye + factor) @ product
    return product - eye


def tucker(core, *matrices):
    """Entry by entry, from the definition."""
    made = np.zeros([len(matrix) for matrix in matrices])
    for place in itertools.product(*map(range, made.shape)):
        for chosen in itertools.product(*map(range, core.shape)):
            rows = zip(matrices, place, chosen, strict=True)
            made[place] += core[chosen] * np.prod([matrix[row, column] for matrix, row, column in rows])
    return made


CASES = [
    (DiagonalFactorization((7,), 2), diagonal(2)),
    (DiagonalFactorization((3, 5), 1), diagonal(1)),
    (DiagonalFactorization((2, 3, 4), 3), diagonal(3)),
    (SymmetricFactorization((4, 4)), lambda u, v: u @ u.T - v @ v.T),
    (SymmetricFactorization((5, 5), 2), lambda u, v: u @ u.T - v @ v.T),
    (ResidualFactorization((3, 3), 1), residual),
    (ResidualFactorization((3, 3), 4), residual),
    (TuckerFactorization((3, 4)), tucker),
    (TuckerFactorization((3, 4, 2), 2), tucker),
    (TuckerFactorization((3, 2, 2, 3), (1, 2, 3, 2)), tucker),
    (NonlinearFactorization((3, 5), 2, 4), lambda a, b: b @ np.tanh(a)),
    (NonlinearFactorization((3, 2), 3, [4, 5], "relu"), lambda a, b, c: c @ np.maximum(b @ np.maximum(a, 0), 0)),
]
NAMES = [f"{type(each).__name__}-{each.shapes}" for each, _ in CASES]


@pytest.mark.parametrize(("made", "oracle"), CASES, ids=NAMES)
def test_products_are_those_of_numpy(made, oracle):
    random = np.random.default_rng(0)
    factors = [random.standard_normal(shape) for shape in made.shapes]
    product = made.product([torch.from_numpy(factor) for factor in factors])
    np.testing.assert_allclose(product.numpy(), oracle(*factors), rtol=1e-13, atol=1e-13)
    assert made.form is None


@pytest.mark.parametrize(("made", "oracle"), CASES, ids=NAMES)
def test_each_has_a_graph_whose_gradient_is_a_difference_quotient(made, oracle):
    random = np.random.default_rng(1)
    factors = [random.standard_normal(shape) for shape in made.shapes]
    dims = oracle(*factors).shape
    mask, values = random.integers(0, 2, dims).astype(float), random.standard_normal(dims)
    layout = layout_of(made, dims, dims, "float64")
    assert isinstance(layout, GraphLayout)
    half, *slopes = layout.graph.evaluate(*factors, mask, values)

    def height(*moved):
        return 0.5 * np.sum((mask * (oracle(*moved) - values)) ** 2)

    assert half == pytest.approx(height(*factors))
    for index, slope in enumerate(slopes):
        direction = random.standard_normal(made.shapes[index])
        ahead, behind = (
            [*factors[:index], factors[index] + sign * 1e-5 * direction, *factors[index + 1 :]] for sign in (1, -1)
        )
        quotient = (height(*ahead) - height(*behind)) / 2e-5
        assert np.sum(slope.reshape(direction.shape) * direction) == pytest.approx(quotient, rel=1e-5, abs=1e-6)


def test_small_residual_factors_do_not_cancel_against_the_identity():
    factors = [torch.full((1, 1), 1e-20, dtype=torch.float64)] * 3
    assert ResidualFactorization((1, 1), 3).product(factors).item() == pytest.approx(3e-20, rel=1e-15)


def test_the_published_start_of_a_diagonal_factorization():
    made = DiagonalFactorization((4, 3), 2)
    u, v = made.start(Constant(0.25), 0)
    assert u.dtype == torch.float64 and u.shape == (4, 3) and (u == 0.25).all() and (v == 0.25).all()
    assert (made.product([u, v]) == 0).all()


@pytest.mark.parametrize("made", [case for case, _ in CASES[:-2]], ids=NAMES[:-2])
def test_gaussian_starts_have_the_scale_of_each_factor_and_depend_on_the_seed_alone(made):
    one, again, other = (made.start(Gaussian(1e-2), seed) for seed in (0, 0, 1))
    assert [factor.shape for factor in one] == [torch.Size(shape) for shape in made.shapes]
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True)) and not torch.equal(one[0], other[0])
    draws = np.concatenate([f.numpy().ravel() for seed in range(300) for f in made.start(Gaussian(1e-2), seed)])
    assert draws.std() == pytest.approx(1e-2, rel=0.05) and abs(draws.mean()) < 1e-3


def test_matrices_start_as_multiples_of_the_identity_and_of_orthogonal_ones():
    for factor in SymmetricFactorization((4, 4), 2).start(Identity(0.5), 0):
        assert factor.tolist() == [[0.5, 0], [0, 0.5], [0, 0], [0, 0]]
    for factor in ResidualFactorization((3, 3), 2).start(Orthogonal(0.5), 0):
        np.testing.assert_allclose(factor.numpy() @ factor.numpy().T, 0.25 * np.eye(3), atol=1e-12)


def test_a_nonlinear_start_is_that_of_a_chain():
    for init in (Gaussian(0.1), Balanced(0.1), Orthogonal(0.1)):
        ours, chain = (kind((3, 4), 3, 5).start(init, 1) for kind in (NonlinearFactorization, MatrixFactorization))
        assert all(torch.equal(a, b) for a, b in zip(ours, chain, strict=True))


def test_the_entries_of_a_constant_chain_are_the_scale():
    chain = MatrixFactorization((3, 4), 3, [5, 2])
    np.testing.assert_allclose(chain.product(chain.start(Constant(0.1), 0)).numpy(), 0.1, rtol=1e-14)


def test_starts_without_meaning_are_refused():
    for made, wrong in (
        (DiagonalFactorization((4,), 2), [Balanced(1.0), Between(1.0, 0.5), Identity(1.0), Orthogonal(1.0)]),
        (TuckerFactorization((3, 3, 3)), [Balanced(1.0), Identity(1.0), Orthogonal(1.0)]),
        (ResidualFactorization((3, 3), 2), [Balanced(1.0), Between(1.0, 0.5)]),
    ):
        for init in wrong:
            with pytest.raises(
                ConfigError, match=f"init: '{type(init).__name__.lower()}' is not allowed; expected gauss"
            ):
                made.start(init, 0)
        with pytest.raises(ConfigError, match=r"init\.determinant"):
            made.start(Gaussian(1.0, "positive"), 0)
    with pytest.raises(ConfigError, match=r"init\.determinant"):
        NonlinearFactorization((2, 2), 2).start(Gaussian(1.0, "positive"), 0)


RUNS = [
    ["factorization=diagonal", "init=constant"], ["factorization=symmetric"], ["factorization=residual"],
    ["factorization=nonlinear"], ["factorization=nonlinear", "factorization.activation=relu"],
    ["factorization=diagonal", "observations=sensing", "observations.dims=[6]", "metrics=vector"],
    ["factorization=linear", "observations=sensing", "observations.dims=[6]", "metrics=vector"],
    ["factorization=tucker", "observations=tensor_order3", "observations.dims=[3,4,2]", "observations.count=9", "metrics=tensor"],
]  # fmt: skip


@pytest.mark.parametrize("overrides", RUNS, ids=" ".join)
def test_the_compiled_engine_is_chosen(overrides):
    run, _ = composed("logger=none", *overrides)
    assert Ensemble.of([run]).engine().name == "fused"


def test_runs_whose_products_differ_share_no_ensemble():
    """Factors of one shape, of a power 2 and 3, or through tanh and relu."""

    def alike(*pair):
        one, other = (composed("logger=none", *overrides)[0] for overrides in pair)
        return traits(one) == traits(other)

    diagonal = ["factorization=diagonal", "init=constant"]
    assert not alike([*diagonal, "depth='2'"], [*diagonal, "depth='3'"])
    nonlinear = ["factorization=nonlinear", "depth='2'"]
    assert not alike([*nonlinear, "factorization.activation=tanh"], [*nonlinear, "factorization.activation=relu"])
    assert alike(["factorization=linear", "depth='2'"], ["factorization=linear", "depth='3'"])
