"""What is traced gives autograd's numbers; what cannot be traced says why."""

import random

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from helpers.odd_factorizations import EDGES, ODD, SMOOTH, Written, dims_of, half_and_gradients, numbers, observed
from rankward.config import ConfigError
from rankward.dynamics import Problem, Schedule, choose_engine
from rankward.dynamics.tracing import Untraceable, trace, trace_product

SQUARE = (3, 3)
GRID = torch.arange(9, dtype=torch.float64).reshape(3, 3)


def traced(factorization, sensing=False, dtype="float64", seed=9, scale=1.0):
    """What the graph makes of numbers that it was not traced with, and what autograd does."""
    operator, values = observed(dims_of(factorization), seed, sensing)
    graph = trace(factorization.product, factorization.shapes, operator.shape, values.shape, dtype)
    factors = [torch.from_numpy(np.asarray(scale * each)) for each in numbers(factorization.shapes, seed)]
    half, gradients = half_and_gradients(factorization, factors, torch.from_numpy(operator), torch.from_numpy(values))
    ours = graph.evaluate(*(factor.numpy() for factor in factors), operator, values)
    return ours, [each.numpy() for each in (half, *gradients)]


def agree(ours, theirs, tolerance=1e-12):
    """Relative to an array's largest number; a gradient that is zero is so to rounding errors of the others."""
    scales = [np.abs(other[np.isfinite(other)]).max(initial=0.0) for other in theirs]
    for mine, other, scale in zip(ours, theirs, scales, strict=True):
        least = tolerance * scale + 1e-15 * max(scales)
        np.testing.assert_allclose(mine.reshape(other.shape), other, rtol=tolerance, atol=least)


@pytest.mark.parametrize("name", ODD)
def test_half_sum_and_gradients_are_those_of_autograd(name):
    for sensing in (False, True):
        agree(*traced(ODD[name], sensing))
    agree(*traced(ODD[name], dtype="float32"), tolerance=1e-5)


@pytest.mark.parametrize("name", ["chain", "tucker 3", "softmax", "norms and means", "filled in place", "powers"])
def test_gradients_are_differences_of_half_sums(name):
    """To the accuracy of central differences, in every coordinate."""
    assert name in SMOOTH
    factorization, step = ODD[name], 1e-5
    operator, values = observed(dims_of(factorization), 2)
    graph = trace(factorization.product, factorization.shapes, operator.shape, values.shape, "float64")
    factors = numbers(factorization.shapes, 2)
    gradients = graph.evaluate(*factors, operator, values)[1:]
    for number, factor in enumerate(factors):
        for at in np.ndindex(*factor.shape):
            half = []
            for sign in (1, -1):
                moved = [each.copy() for each in factors]
                moved[number][at] += sign * step
                half.append(float(graph.evaluate(*moved, operator, values)[0]))
            gradient = gradients[number].reshape(factor.shape)[at]
            assert (half[0] - half[1]) / (2 * step) == pytest.approx(gradient, rel=1e-6, abs=1e-8)


class Straight(torch.autograd.Function):
    """A gradient of one's own, which is not the derivative."""

    @staticmethod
    def forward(ctx, x):
        return torch.sign(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient


class BranchesBack(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return 2 * x

    @staticmethod
    def backward(ctx, gradient):
        return gradient * 0 if gradient.abs().max() > 1e6 else gradient * 2


def overwritten(a):
    view = (a * 1).view(-1)
    view[0] = 3.0
    view += a.reshape(-1)
    return view.view(3, 3)


def with_later_constant(a):
    """A constant that changes after it was used."""
    constant = GRID.clone()
    first = a + constant
    constant += 5
    return first * constant


def without_gradient(function):
    def inside(*factors):
        with torch.no_grad():
            return function(*factors)

    return inside


BUFFER = torch.zeros(SQUARE, dtype=torch.float64)
EYE = torch.eye(3, dtype=torch.bool)
RIGHT = {
    "a gradient of one's own": lambda a: Straight.apply(a) * a,
    "a factor itself": lambda a: a,
    "a view of a factor": lambda a: a.T,
    "not contiguous": lambda a, b: (a @ b).T,
    "a factor that is not used": lambda a, b: a * 2,
    "the same gradient": lambda a, b: a + b,
    "a gradient that is a factor": lambda a, b: a * b,
    "detached": lambda a, b: a.detach() * b + a,
    "without gradient": lambda a: a * without_gradient(torch.tanh)(a),
    "a buffer from outside": lambda a: a * BUFFER.copy_(a.detach()),
    "a view overwritten": overwritten,
    "a constant that changes": with_later_constant,
    "zero times": lambda a: a * 0.0,
    "whole numbers and truth": lambda a: a * torch.arange(9).view(3, 3) + EYE,
    "constants of another type": lambda a: torch.cat([a, torch.ones(2, 3), torch.full((1, 3), 2)])[1:5][1:],
    "padded": lambda a: F.pad(a, (1, 1), value=2.0)[:, :3] + F.pad(a, (1, 1))[:, 2:],
    "powers in an array": lambda a: a ** torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64) + a**0,
    "powers of two arrays": lambda a, b: a.abs() ** b,
    "three operands": lambda a, b: torch.addcmul(a, a, b, value=0.3),
    "not": lambda a: torch.logical_not(a.relu()) * a + (~(a > 0)) * a.relu().bool() * a,
    "and": lambda a, b: torch.logical_and(a.relu(), b.relu()) * a + ((a > 0) & (b > 0)) * b,
    "or": lambda a, b: torch.logical_or(a.relu(), b.relu()) * a + ((a > 0) | (b > 0)) * b,
    "counts": lambda a: a * (a > 0).sum() + a * (a > 0).sum(1),
    "no influence": lambda a, b: a * b.softmax(1).sum(),
    "largest of all": lambda a, b: torch.fmax(a, b) * a.max() + torch.fmin(a, b) * b.min(),
    "hard tangent": lambda a: F.hardtanh(a, -0.2, 0.3),
    "one number": lambda a: (a.sum() * a.mean()).expand(3, 3) * 1,
    "many at once": lambda a: torch.vmap(lambda row: row * row.sum())(a),
    "an inner gradient": lambda a: torch.autograd.functional.vjp(lambda x: x**3, a, a, create_graph=True)[1],
    "fewer columns": lambda a: a.as_strided((3, 3), (1, 3)) + a.expand(2, 3, 3)[1],
    "affine": lambda a, b: torch.addmm(a, a, b, beta=0.5, alpha=2) + F.linear(a, b, b[0]),
    "kronecker": lambda a, b: torch.kron(a, b)[2:5, 2:5],
    "chosen by constants": lambda a: a[EYE].diag() + torch.where(EYE, a, a * 2) + a.masked_fill(EYE, 7.0),
}  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_unusual_expressions_are_traced_correctly(name):
    function = RIGHT[name]
    factorization = Written(function, *[SQUARE] * function.__code__.co_argcount)
    for seed in (9, 10):
        agree(*traced(factorization, seed=seed))


@pytest.mark.parametrize("name", EDGES)
def test_axes_of_no_elements_and_of_one(name):
    for sensing in (False, True):
        agree(*traced(EDGES[name], sensing))


def test_infinities_and_nan_are_those_of_autograd():
    functions = [
        lambda a: torch.log(a), lambda a: torch.sqrt(a), lambda a: a.exp().exp(), lambda a: a.relu() / a.relu(),
        lambda a: torch.maximum(a, a.log()), lambda a: a.clamp(-1, 1).log().clamp(-2, 2), lambda a: a.sign() / a.relu(),
        lambda a: torch.where(a > 0, a, a.sqrt()), lambda a: torch.fmax(a.log(), a), lambda a: a.abs().pow(-1.5).pow(300),
    ]  # fmt: skip
    for function in functions:
        ours, theirs = traced(Written(function, SQUARE), scale=1e3)
        for mine, other in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(mine.reshape(other.shape), other, rtol=1e-11)


def changed(a):
    with torch.no_grad():
        a.mul_(2)
    return a * 1


def set_where(limit):
    def inside(a):
        result = a.clone()
        result[result > limit] = 0
        return result

    return inside


class Failing:
    """Fails when it is called once more than autograd needs."""

    calls = 0

    def __call__(self, a):
        self.calls += 1
        if self.calls > 3:
            raise KeyError("a", "b")
        return a * 1


class Counting:
    calls = 0

    def __call__(self, a):
        self.calls += 1
        return a * self.calls


LOOKS = "it looks at an array's numbers while it runs"
OTHER = "what it computes depends on the factors in a way that one trace does not show"
PLACES = "where it takes or puts numbers depends on the factors' numbers"
REFUSED = {
    "a branch": (lambda a: a if a.sum() < 1e9 else -a, f"{LOOKS} (aten._local_scalar_dense), as a branch on them does"),
    "a branch of a derivative": (lambda a: BranchesBack.apply(a), f"{LOOKS} (aten._local_scalar_dense), as a branch on"),
    "a list": (lambda a: a * 2 if a.tolist()[0][0] < 1e9 else a, f"{LOOKS} (Tensor.tolist)"),
    "numpy": (lambda a: a * 2 if np.asarray(a.detach()).max() < 1e9 else a, f"{LOOKS} (Tensor.__array__)"),
    "numpy's own": (lambda a: a * 2 if a.detach().numpy().max() < 1e9 else a, f"{LOOKS} (Tensor.numpy)"),
    "state": (Counting(), OTHER),
    "an error": (Failing(), "it raises KeyError while it is traced"),
    "Python's random": (lambda a: a * random.random(), OTHER),
    "torch's random": (lambda a: a * torch.rand(3, 3), "it draws random numbers (aten.rand)"),
    "dropout": (lambda a: F.dropout(a), "it draws random numbers (aten.bernoulli_)"),
    "a factor changed": (changed, "it changes a factor in place"),
    "places": (set_where(1e9), PLACES),
    "places by order": (lambda a: a[a.detach().argmax(0)], "aten.argmax makes numbers of type int64 in a run of float64"),
    "complex": (lambda a: torch.fft.fft(a).real, "aten._fft_r2c makes numbers of type complex128 in a run of float64"),
    "complex views": (
        lambda a: torch.view_as_complex(a[:, :2].contiguous()).abs() * a,
        "aten.view_as_complex reads numbers as others of type complex128",
    ),
    "half": (lambda a: a.half().double(), "aten._to_copy makes numbers of type float16 in a run of float64"),
    "bits": (lambda a: (a.detach().view(torch.int64) > 0) * a, "aten.view reads numbers as others of type int64"),
    "unknown": (lambda a: torch.linalg.svd(a)[0] * a, "aten._linalg_svd is not an operation that can be compiled"),
    "unknown, of several": (lambda a: a.sort(0)[0], "aten.sort is not an operation that can be compiled"),
    "a negative base": (
        lambda a: (-2.0) ** a.detach() * a,
        "aten.pow of a number that is not positive is not an operation that can be compiled",
    ),
    "a norm": (lambda a: a / a.norm(3), "a norm of order 3 is not an operation that can be compiled"),
    "into a place": (
        lambda a: a * without_gradient(lambda x: torch.add(x, 1, out=torch.zeros(3, 3, dtype=torch.float64)))(a),
        "aten.add as it is used is not an operation that can be compiled",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_untraceable_products_have_a_reason(name):
    """In a clause that goes on `this factorization cannot be compiled (...)`, of the engine's note."""
    function, why = REFUSED[name]
    with pytest.raises(Untraceable) as error:
        trace(Written(function, SQUARE).product, [SQUARE], SQUARE, SQUARE, "float64")
    said = str(error.value)
    assert said.startswith(why) and "\n" not in said and not said.endswith(".")


def problem(dims):
    one = torch.ones(1, dtype=torch.float64)
    return Problem(torch.ones(1, *dims).double(), torch.ones(1, *dims).double(), one, one, torch.tensor([10]), one)


def test_the_reference_engine_notes_why():
    engine = choose_engine(
        "auto", Written(lambda a: torch.fft.fft(a).real, SQUARE), Schedule(), problem=problem(SQUARE)
    )
    assert engine.name == "reference"
    assert engine.note == (
        "reference, which is slow: this factorization cannot be compiled "
        "(aten._fft_r2c makes numbers of type complex128 in a run of float64)"
    )


@pytest.mark.parametrize("engine", ["auto", "reference", "fused"])
@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda a: a[:2], "'2x3' is not allowed; expected 3x3, the shape of the observations"),
        (lambda a: a[:, :1], "'3x1' is not allowed; expected 3x3, the shape of the observations"),
        (lambda a: a[None], "'1x3x3' is not allowed; expected 3x3, the shape of the observations"),
        (lambda a: a.sum(), "'one number' is not allowed; expected 3x3, the shape of the observations"),
        (lambda a: a.detach() * 2, "'a constant' is not allowed; expected an array that depends on the factors"),
        (lambda a: torch.fft.fft(a), "'complex128' is not allowed; expected real numbers"),
    ],
)
def test_a_product_that_cannot_be_trained_is_refused_before_training(engine, function, said):
    with pytest.raises(ConfigError) as error:
        choose_engine(engine, Written(function, SQUARE), Schedule(), problem=problem(SQUARE))
    assert str(error.value) == f"factorization.product: {said}"


def test_factors_without_a_number_are_refused():
    with pytest.raises(ConfigError, match=r"factorization.shapes: '2x0, 0x3' is not allowed; expected .* one number"):
        trace(lambda factors: factors[0] @ factors[1], [(2, 0), (0, 3)], (2, 3), (2, 3), "float64")


def test_errors_of_the_product_are_not_those_of_tracing():
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        trace(lambda factors: factors[0] @ factors[0], [(2, 3)], (2, 3), (2, 3), "float64")


def test_a_product_alone_is_traced():
    graph = trace_product(lambda factors: factors[0].tanh() @ factors[1], [(2, 3), (3, 2)])
    left, right = numbers([(2, 3), (3, 2)], 4)
    np.testing.assert_allclose(graph.evaluate(left, right)[0], np.tanh(left) @ right, rtol=1e-14)


@pytest.mark.slow
def test_tracing_imports_no_algebra_system():
    """Its import by torch takes longer than many runs; in a process of its own."""
    import subprocess
    import sys

    text = (
        "import sys\nfrom rankward.dynamics.tracing import trace\n"
        "trace(lambda f: f[0] @ f[1], [(2, 2)] * 2, (2, 2), (2, 2), 'float64')\n"
        "sys.exit('sympy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-W", "ignore", "-c", text]).returncode == 0
