"""Losses: torch's functions and autograd's gradients, in every engine, and the same bits in any company."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from helpers.engines import InTurn, ensemble, trained
from helpers.optimizing import picked
from rankward.config import ConfigError
from rankward.dynamics import BatchedEngine, FusedEngine, ReferenceEngine, Schedule, SplitEngine, choose_engine
from rankward.dynamics.layouts import GraphLayout, layout_of
from rankward.dynamics.reference import loss_and_cotangent, negative_gradients
from rankward.dynamics.sharpness import sharpness
from rankward.dynamics.tracing import trace
from rankward.factorizations import MatrixFactorization, TensorFactorization
from rankward.losses import L1, SQUARED, Huber, Logistic, Loss
from rankward.losses.base import check_value

RUNS = 5
LOSSES = {
    "huber": (Huber(0.3), lambda p, y: F.huber_loss(p, y, delta=0.3, reduction="sum")),
    "l1": (L1(), lambda p, y: F.l1_loss(p, y, reduction="sum")),
    "logistic": (Logistic(), lambda p, y: F.binary_cross_entropy_with_logits(p, (y + 1) / 2, reduction="sum")),
}
loss_cases = pytest.mark.parametrize("case", LOSSES)


class Poisson(Loss):
    """Without a finite value where nothing is observed: the logarithm of 0."""

    def value(self, prediction, observed):
        return prediction.exp() - observed * prediction + observed.log()


class Branching(Loss):
    def value(self, prediction, observed):
        return (prediction if prediction.sum() > 1e9 else -prediction) - observed


def problem_of(case, dtype=torch.float64, sizes=(2, 2, 2), iterations=1000):
    """Runs of a chain with signs as observed values, which each loss allows."""
    factorization, factors, problem = ensemble(sizes, RUNS, dtype, max_iterations=iterations, eta=(1e-3, 5e-2))
    signs = torch.where(problem.values >= 0, 1.0, -1.0).to(dtype) * problem.operator
    return factorization, factors, replace(problem, values=signs, loss=LOSSES[case][0])


def by_autograd(case, factorization, factors, problem, run):
    """Factors after all iterations, and the last loss, by torch's own function of the observed entries alone."""
    weights, seen = [factor[run].clone().requires_grad_() for factor in factors], problem.operator[run] > 0

    def loss():
        return LOSSES[case][1](factorization.product(weights)[seen], problem.values[run][seen])

    for _ in range(int(problem.max_iterations[run])):
        gradients = torch.autograd.grad(loss(), weights)
        with torch.no_grad():
            for weight, gradient in zip(weights, gradients, strict=True):
                weight -= problem.eta[run] * gradient
    return [weight.detach() for weight in weights], float(loss().detach())


def assert_like_autograd(case, run, factorization, factors, problem, ended):
    expected, last = by_autograd(case, factorization, factors, problem, run)
    for mine, other in zip(ended[0], expected, strict=True):
        torch.testing.assert_close(mine[run], other, rtol=1e-12, atol=1e-12)
    assert ended[2][run][-1][1] == pytest.approx(last, rel=1e-11)


@loss_cases
@pytest.mark.parametrize("sensed", [False, True])
def test_a_traced_loss_has_the_value_and_the_gradients_of_torch(case, sensed):
    loss, oracle = LOSSES[case]
    factorization, random = MatrixFactorization((3, 4), 2), torch.Generator().manual_seed(1)
    operator = torch.rand((5, 3, 4) if sensed else (3, 4), generator=random, dtype=torch.float64)
    operator = operator if sensed else (operator > 0.5).double()
    values = torch.randn(5 if sensed else (3, 4), generator=random, dtype=torch.float64).sign()
    factors = [
        torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in factorization.shapes
    ]
    product = factorization.product(factors)
    if sensed:
        height = oracle(torch.tensordot(operator, product, 2), values)
    else:
        height = oracle(product[operator > 0], values[operator > 0])
    expected = [height, *torch.autograd.grad(height, factors)]
    graph = trace(factorization.product, factorization.shapes, operator.shape, values.shape, "float64", None, loss)
    values = values if sensed else values * operator
    made = graph.evaluate(*(factor.detach().numpy() for factor in factors), operator.numpy(), values.numpy())
    for mine, other in zip(made, expected, strict=True):
        np.testing.assert_allclose(mine.reshape(other.shape), other.detach(), rtol=1e-12, atol=1e-13)


@loss_cases
def test_reference_and_batched_engines_agree_with_autograd(case):
    factorization, factors, problem = problem_of(case, iterations=100)
    (factors, problem), schedule = picked(factors, problem, [0, 4]), Schedule()
    ended = trained(ReferenceEngine(factorization, schedule), factors, problem)
    assert_like_autograd(case, 1, factorization, factors, problem, ended)
    batched = trained(BatchedEngine(factorization, schedule), factors, problem)
    for mine, other in zip(batched[0], ended[0], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-13)


@pytest.mark.slow
@pytest.mark.parametrize(("case", "sizes"), [  # two unrolled, two blocked
    ("huber", (2, 2, 2)), ("logistic", (2, 2, 2)), ("logistic", (9, 9, 9)), ("l1", (9, 9, 9)),
])  # fmt: skip
def test_compiled_losses_agree_with_autograd_and_have_the_same_bits_in_company(case, sizes):
    factorization, factors, problem = problem_of(case, sizes=sizes)
    schedule = Schedule()
    engine = FusedEngine(factorization, schedule)
    ended = trained(engine, factors, problem)
    for run in (0, RUNS - 1):
        assert_like_autograd(case, run, factorization, factors, problem, ended)
    split = SplitEngine([engine, FusedEngine(factorization, schedule, 1)], 2 * [torch.device("cpu")])
    assert trained(InTurn(engine, split), factors, problem, 150)[2] == ended[2]
    for run in (1, RUNS - 1):
        assert trained(engine, *picked(factors, problem, [run]))[2][0] == ended[2][run]


def test_logistic_values_keep_their_digits_and_stay_finite():
    sizes = [-1e3, -40.0, -1e-9, 0.0, 1e-9, 3.0, 40.0, 600.0, 1e3]
    shape = (len(sizes),)
    graph = trace(lambda f: f[0] + 0, [shape], shape, shape, "float64", None, Logistic())
    for label in (1.0, -1.0):
        for place, size in enumerate(sizes):
            one = np.zeros(shape)
            one[place] = 1.0
            value, slope = graph.evaluate(np.array(sizes), one, label * one)
            grown = mpmath.exp(mpmath.mpf(-label * size))
            assert float(value.item()) == pytest.approx(float(mpmath.log1p(grown)), rel=4e-15, abs=0)
            assert float(slope[place]) == pytest.approx(float(-label * grown / (1 + grown)), rel=4e-15, abs=0)


def test_a_residual_of_zero_has_a_subgradient_of_zero():
    one = torch.ones(2, 2)
    for loss in (L1(), Huber(0.5)):
        assert not loss_and_cotangent(one, one, one, loss)[1].any()


def test_values_that_are_not_observed_do_not_count_also_where_they_are_not_finite():
    mask = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    values, product = 2 * mask, torch.tensor([[0.5, 1e4]], dtype=torch.float64)
    total, cotangent = loss_and_cotangent(product, mask, values, Poisson())
    expected = np.exp(0.5) - 1 + np.log(2)
    assert float(total) == pytest.approx(expected, rel=1e-15)
    assert cotangent.tolist() == [[pytest.approx(np.exp(0.5) - 2), 0.0]]


def test_sharpness_is_the_largest_eigenvalue_of_the_hessian_of_that_loss():
    """Of W = w_2 w_1 with one observed entry: the Hessian in closed form, of the logistic loss and of Huber's."""
    one = torch.ones(1, 1, 1, dtype=torch.float64)
    first, second = 0.7 * one, -1.1 * one
    p = -0.77
    for loss, slope, curvature in (
        (Logistic(), -1 / (1 + np.exp(p)), np.exp(p) / (1 + np.exp(p)) ** 2),
        (Huber(0.5), -0.5, 0.0),
    ):
        off = slope + curvature * p
        hessian = np.array([[1.21 * curvature, off], [off, 0.49 * curvature]])
        found = sharpness(lambda f: f[1] @ f[0], [first, second], one, one, 3 * one.reshape(1), loss)
        assert float(found) == pytest.approx(3 * np.linalg.eigvalsh(hessian)[-1], rel=1e-12)


def test_large_components_have_a_graph_for_other_losses():
    factorization = TensorFactorization((8, 8, 8), components=64)
    assert not isinstance(layout_of(factorization, (8, 8, 8), (8, 8, 8), "float64"), GraphLayout)
    assert isinstance(layout_of(factorization, (8, 8, 8), (8, 8, 8), "float64", loss=L1()), GraphLayout)


def test_a_loss_that_cannot_be_compiled_is_named():
    factorization, _, problem = problem_of("l1")
    problem = replace(problem, loss=Branching())
    engine = choose_engine("auto", factorization, Schedule(), problem=problem)
    assert engine.note.startswith("reference, which is slow: this loss cannot be compiled (it looks at")
    with pytest.raises(ConfigError, match="engine: 'fused' .*this loss"):
        choose_engine("fused", factorization, Schedule(), problem=problem)


@pytest.mark.parametrize(("function", "words"), [
    (lambda p, y: p / 0 if p.ndim else p, "depends on this entry alone"),
    (lambda p, y: (p - y) / p.sum(), "depends on this entry alone"),
    (lambda p, y: (p - y).sum(), "the prediction's shape"),
    (lambda p, y: p @ y.nothing, "AttributeError"),
])  # fmt: skip
def test_a_value_that_is_none_of_each_entry_is_refused(function, words):
    made = type("Own", (Loss,), {"value": lambda self, prediction, observed: function(prediction, observed)})
    with pytest.raises(ValueError, match=words):
        check_value(made())


def test_constants_tell_losses_apart():
    assert Huber(0.5).constants == Huber(0.5).constants != Huber(0.25).constants
    assert len({each.constants for each in (SQUARED, L1(), Logistic(), Huber(1.0))}) == 4


@loss_cases
def test_gradients_of_recorded_products_are_those_of_torch(case):
    loss, oracle = LOSSES[case]
    random = torch.Generator().manual_seed(2)
    products = torch.randn(3, 2, 2, generator=random, dtype=torch.float64)
    mask, signs = (products.abs() > 0.4).double(), torch.ones(3, 2, 2, dtype=torch.float64)
    run, scale = torch.tensor([2, 0]), torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    found = negative_gradients(products[run], run, mask, mask * signs, scale, loss)
    for row, which in enumerate(run.tolist()):
        variable, seen = products[which].clone().requires_grad_(), mask[which] > 0
        (expected,) = torch.autograd.grad(scale[which] * oracle(variable[seen], signs[which][seen]), variable)
        torch.testing.assert_close(found[row], -expected, rtol=1e-13, atol=1e-15)
