"""Exponential, logarithm, tangent and logistic function of the kernels, against mpmath over all floating-point numbers."""

import mpmath
import numpy as np
import pytest
import torch

from rankward.dynamics.kernels import blocked, cache
from rankward.dynamics.tracing import trace_product
from rankward.parallel import side_by_side

NAMES = {"exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
EXACT = {"exp": mpmath.exp, "log": mpmath.log, "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x))}
# In units in the last place of the exact value.
LARGEST = {"exp": 1.5, "log": 1.0, "tanh": 1.5, "sigmoid": 2.5}
KINDS = [("lanes", "float64")] + [
    pytest.param(*each, marks=pytest.mark.slow)
    for each in (("single", "float64"), ("lanes", "float32"), ("single", "float32"))
]
COUNT = 150


def computed(name, kind, x):
    """The function of each number, by the kernel of that kind."""
    dtype = x.dtype.name
    graph = trace_product(lambda factors: NAMES[name](factors[0]), [(16,)])
    rows = np.concatenate([x, np.zeros(-len(x) % 16, x.dtype)]).reshape(-1, 16)
    out = np.empty_like(rows)
    sizes = blocked.encoded_product(graph, kind != "lanes")
    evaluate = cache.blocked_kernels(kind, dtype, "descent").evaluate
    side_by_side(1, evaluate, np.zeros(1, np.int64), sizes, rows, out)
    return out.reshape(-1)[: len(x)]


def arguments(name, dtype):
    """Numbers of all sizes, and those about which something changes."""
    random = np.random.default_rng(3)
    info = np.finfo(dtype)
    sizes = 2.0 ** random.uniform(info.minexp - info.nmant, info.maxexp - 0.01, COUNT)
    near = random.uniform(-2, 2, COUNT)
    far = random.uniform(-1.1, 1.1, COUNT) * -np.log(float(info.smallest_subnormal))
    edges = [
        0.625,
        0.5 * np.log(2),
        np.log(float(info.max)),
        np.log(float(info.tiny)),
        np.sqrt(2),
        1.0,
        float(info.tiny),
    ]
    around = [np.array(edges, dtype)]
    for towards in (-np.inf, np.inf):
        around.append(np.nextafter(around[0], dtype(towards)))
    x = np.concatenate([sizes, near, far, *around, [info.smallest_subnormal]]).astype(dtype)
    x = np.concatenate([x, -x])
    return x[x > 0] if name == "log" else x


def error(name, x, got):
    """In units in the last place of the exact value, at its size."""
    info = np.finfo(got.dtype)
    with mpmath.workdps(60):
        exact = EXACT[name](mpmath.mpf(float(x)))
        largest = mpmath.mpf(float(info.max)) * (1 + mpmath.mpf(2) ** -(info.nmant + 2))
        if not np.isfinite(got):
            return mpmath.mpf(0) if abs(exact) >= largest else mpmath.inf
        digits = mpmath.frexp(exact)[1] - 1 if exact else info.minexp
        unit = mpmath.mpf(2) ** (max(int(digits), info.minexp) - info.nmant)
        return abs(mpmath.mpf(float(got)) - exact) / unit


def worst(name, kind, dtype):
    x = arguments(name, getattr(np, dtype))
    if name == "sigmoid":  # below, exp(-x) overflows, and it is zero
        x = x[x > -np.log(float(np.finfo(dtype).max))]
    got = computed(name, kind, x)
    errors = [error(name, *each) for each in zip(x, got, strict=True)]
    at = int(np.argmax(errors))
    return float(errors[at]), x[at]


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_errors_are_small_over_all_numbers(name, kind, dtype):
    largest, at = worst(name, kind, dtype)
    assert largest <= LARGEST[name], at


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
def test_zeros_infinities_and_nan(kind, dtype):
    nan, inf = np.nan, np.inf
    x = np.array([0.0, -0.0, inf, -inf, nan, -1e-300 if dtype == "float64" else -1e-40], dtype)
    expected = {
        "exp": [1, 1, inf, 0, nan, 1],
        "log": [-inf, -inf, inf, nan, nan, nan],
        "tanh": [0.0, -0.0, 1, -1, nan, x[-1]],
        "sigmoid": [0.5, 0.5, 1, 0, nan, 0.5],
    }
    for name, values in expected.items():
        got = computed(name, kind, x)
        np.testing.assert_array_equal(got, np.array(values, dtype), err_msg=name)
        assert (np.signbit(got) == np.signbit(np.array(values, dtype)))[:4].all(), name


@pytest.mark.parametrize(("kind", "dtype"), KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_number_has_the_same_bits_in_every_lane_and_kernel(name, kind, dtype):
    """And in other company: the numbers in another order, and alone; and as one run's."""
    x = arguments(name, getattr(np, dtype))
    order = np.random.default_rng(1).permutation(len(x))
    whole = computed(name, kind, x)
    assert (computed(name, kind, x[order]) == whole[order]).all()
    assert computed(name, kind, x[7:8]) == whole[7]
    if kind == "single":
        assert (computed(name, "lanes", x) == whole).all()


def test_the_logistic_function_is_zero_where_an_exponential_overflows():
    assert computed("sigmoid", "lanes", np.array([-709.0, -710.0, -1e300])).tolist() == [
        pytest.approx(float(mpmath.exp(-709)), rel=1e-15), 0.0, 0.0,
    ]  # fmt: skip
