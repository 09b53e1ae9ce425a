"""Graphs in NumPy: random expressions against autograd, and what makes no step twice."""

import numpy as np
import torch
from hypothesis import given, note, settings

from helpers.drawn_expressions import expressions
from helpers.odd_factorizations import dims_of, half_and_gradients, numbers, observed
from rankward.dynamics.graph import Array, Builder
from rankward.dynamics.tracing import trace


def compared(factorization, ours, operator, values, factors, tolerance=1e-10):
    """Against autograd's half sum and gradients, relative to the largest number of all."""
    half, gradients = half_and_gradients(factorization, factors, torch.from_numpy(operator), torch.from_numpy(values))
    expected = [half.numpy(), *(gradient.numpy() for gradient in gradients)]
    scale = max(np.abs(each[np.isfinite(each)]).max(initial=0.0) for each in expected)
    for mine, other in zip(ours, expected, strict=True):
        np.testing.assert_allclose(mine.reshape(other.shape), other, rtol=tolerance, atol=tolerance * scale)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(expressions())
def test_a_random_expression_is_that_of_autograd(factorization):
    note(factorization.steps)
    operator, values = observed(dims_of(factorization), 4)
    graph = trace(factorization.product, factorization.shapes, operator.shape, values.shape, "float64")
    drawn = numbers(factorization.shapes, 4)
    factors = [torch.from_numpy(each) for each in drawn]
    compared(factorization, graph.evaluate(*drawn, operator, values), operator, values, factors)


def test_no_step_is_made_twice_and_zeros_keep_their_signs():
    builder = Builder("float64")
    x = builder.input((2,))
    first, second = (builder.elementwise("multiply", (2,), x, 2.0) for _ in range(2))
    assert first == second
    assert builder.elementwise("multiply", (2,), x, 1.0) == x
    zeros = [builder.elementwise("multiply", (2,), x, zero) for zero in (0.0, -0.0)]
    made = builder.graph(
        [*zeros, builder.elementwise("add", (2,), first, builder.elementwise("multiply", (2,), x, -1.0))]
    )
    plus, minus, difference = made.evaluate(np.array([3.0, 5.0]))
    assert not np.signbit(plus).any() and np.signbit(minus).all()
    assert difference.tolist() == [3.0, 5.0] and [step.function for step in made.steps].count("subtract") == 1


def test_constants_keep_their_value():
    builder, values = Builder("float64"), np.array([1.0, 2.0])
    made = builder.graph([builder.elementwise("add", (2,), builder.input((2,)), builder.constant(values))])
    values[:] = 7
    assert made.evaluate(np.zeros(2))[0].tolist() == [1.0, 2.0]


def test_sums_over_nothing_are_zero():
    builder = Builder("float32")
    x = builder.input((2, 0))
    left = Array(x.block, (1, 2, 0), (0, 0, 1))
    made = builder.graph([builder.total(x, [1]), builder.product(left, Array(x.block, (1, 0, 3), (0, 3, 1)))])
    total, product = made.evaluate(np.zeros((2, 0), np.float32))
    assert total.tolist() == [0, 0] and product.tolist() == [[[0, 0, 0], [0, 0, 0]]]


def test_outputs_need_their_own_steps_only():
    builder = Builder("float64")
    x = builder.input((3,))
    first, second = builder.elementwise("root", (3,), x), builder.elementwise("exponential", (3,), x)
    made = builder.graph([first, second])
    assert made.operations == 6 and made.only(1).operations == 3 and made.only(1).functions == {"exponential"}
