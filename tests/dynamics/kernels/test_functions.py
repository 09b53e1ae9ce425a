"""Exponential, logarithm, tangent and logistic function of the kernels, against mpmath over all floating-point numbers."""

import mpmath
import numpy as np
import pytest
import torch

from rankward.dynamics.kernels import blocked, store
from rankward.dynamics.tracing import trace_product
from rankward.threads import side_by_side

NAMES = {"exp": torch.exp, "log": torch.log, "tanh": torch.tanh, "sigmoid": torch.sigmoid}
EXACT = {"exp": mpmath.exp, "log": mpmath.log, "tanh": mpmath.tanh, "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x))}
# In units in the last place of the exact value.
LARGEST = {
    "float64": {"exp": 1.5, "log": 1.0, "tanh": 2.0, "sigmoid": 2.5},
    "float32": {"exp": 1.5, "log": 1.0, "tanh": 2.0, "sigmoid": 2.5},
}
COUNT = 2048


def computed(name, kind, x):
    """The function of each number, by the kernel of that kind."""
    dtype = x.dtype.name
    shape = (16,)
    graph = trace_product(lambda factors: NAMES[name](factors[0]), [shape])
    rows = np.concatenate([x, np.zeros(-len(x) % 16, x.dtype)]).reshape(-1, 16)
    out = np.empty_like(rows)
    sizes = blocked.encoded_product(graph, kind != "lanes")
    evaluate = store.blocked_kernels(kind, dtype, "descent").evaluate
    side_by_side(1, evaluate, np.zeros(1, np.int64), sizes, rows, out)
    return out.reshape(-1)[: len(x)]


def arguments(name, dtype):
    """Numbers of all sizes, and those about which something changes."""
    random = np.random.default_rng(3)
    info = np.finfo(dtype)
    sizes = 2.0 ** random.uniform(info.minexp - info.nmant, info.maxexp - 0.01, COUNT)
    near = random.uniform(-2, 2, COUNT)
    far = random.uniform(-1.1, 1.1, COUNT) * -np.log(float(info.smallest_subnormal))
    edges = [0.625, 0.5 * np.log(2), np.log(float(info.max)), np.log(float(info.tiny)), np.sqrt(2), 1.0, float(info.tiny)]
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
