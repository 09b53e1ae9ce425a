"""Straight-line text: executed as plain Python beside autograd, and compiled beside the kernel of instructions."""

import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, note, settings

from helpers.drawn_expressions import expressions
from helpers.engines import trained
from helpers.odd_factorizations import (
    EDGES,
    ODD,
    afresh,
    chosen,
    descended,
    dims_of,
    forced,
    half_and_gradients,
    numbers,
    observed,
    problem_of,
)  # fmt: skip
from rankward.dynamics import FusedEngine, ReferenceEngine, Schedule
from rankward.dynamics.kernels import functions, unrolled
from rankward.dynamics.tracing import trace, trace_rate
from rankward.optimizers import AdaptiveDescent

ALSO = ("tanh", "filled in place")  # in other precisions and dynamics


class Undecorated:
    """`numba`, of which nothing is compiled."""

    @staticmethod
    def njit(**_):
        return lambda function: function


def store(array, at, value):
    array[at] = value


def executed(graph, adaptive=False):
    """What the text defines, in Python, one run a register."""
    names = {
        "numba": Undecorated,
        "math": math,
        "LANES": 1,
        "load": lambda array, at: array[at],
        "store": store,
        "fill": lambda like, value: np.dtype(graph.dtype).type(value),
        "quotient": np.divide,
        "root": np.sqrt,
        "choose": lambda a, b, then, otherwise: then if a <= b else otherwise,
        "power_of_two": lambda power: np.ldexp(np.dtype(graph.dtype).type(1), int(power)),
        "exponent": lambda x: np.dtype(graph.dtype).type(np.frexp(x)[1] - 1),
        "mantissa": lambda x: 2 * np.frexp(x)[0],
        "step_size": lambda state, rates, square: state[rates],
    }
    text = functions.source(graph.dtype) + unrolled.source(graph, adaptive)
    exec(compile(text, "text", "exec"), names)
    return names, text


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_size_of_an_adaptive_step_has_the_bits_of_its_formula(dtype):
    names, _ = executed(trace(lambda w: w[0], [(1,)], (1,), (1,), dtype.__name__))
    text = unrolled.rate_source(trace_rate(AdaptiveDescent(), dtype.__name__))
    exec(compile(text, "text", "exec"), names)
    eta, scale, beta, eps, mean, weight, square = map(dtype, (0.1, 0.3, 0.9, 0.01, 0.7, 0.4, 2.3))
    state = np.array([0, eta, scale, beta, eps, 5, mean, weight], dtype)
    step = names["step_size"](state, 1, square)
    mean = beta * mean + (dtype(1) - beta) * (square * (scale * scale))
    weight = beta * weight + (dtype(1) - beta)
    assert step == eta / (np.sqrt(mean / weight) + eps) * scale
    assert state.tolist() == np.array([0, eta, scale, beta, eps, 5, mean, weight], dtype).tolist()


def as_text(factorization, seed=4):
    """Half sum and gradients by the text's `losses` and `slopes`, and factors after one step of `advance`."""
    operator, values = observed(dims_of(factorization), seed)
    graph = trace(factorization.product, factorization.shapes, operator.shape, values.shape, "float64")
    names, _ = executed(graph)
    drawn = numbers(factorization.shapes, seed)
    flat = np.concatenate([each.reshape(-1) for each in (*drawn, operator, values)])
    state = np.array([*flat, 0.125])
    loss, scratch, weights = np.zeros(1), np.zeros(len(flat) + 1), names["weights_of"](None)
    with np.errstate(all="ignore"):
        names["losses"](state, scratch, None, loss)
        names["slopes"](state, 0, state, scratch, None, 0)
        names["advance"](state, scratch, None, 1)
    factors = [torch.from_numpy(each) for each in drawn]
    half, slopes = half_and_gradients(factorization, factors, torch.from_numpy(operator), torch.from_numpy(values))
    expected = np.concatenate([slope.numpy().reshape(-1) for slope in slopes])
    scale = max(np.abs(expected).max(initial=0.0), float(half))
    assert names["rates_of"](None) == len(flat)
    assert loss[0] == pytest.approx(float(half), rel=1e-12, abs=1e-13) and scratch[weights] == loss[0]
    np.testing.assert_allclose(scratch[:weights], expected, rtol=1e-11, atol=1e-12 * scale)
    np.testing.assert_array_equal(state[:weights], flat[:weights] - 0.125 * scratch[:weights])


@pytest.mark.parametrize("name", ODD)
def test_the_text_says_what_autograd_computes(name):
    as_text(ODD[name])


@settings(max_examples=25, derandomize=True, deadline=None)
@given(expressions())
def test_the_text_of_a_random_expression(factorization):
    note(factorization.steps)
    as_text(factorization)


@pytest.mark.parametrize("name", EDGES)
def test_axes_of_no_elements_and_of_one(name):
    as_text(EDGES[name])


def test_nothing_is_written_twice_and_nothing_that_is_not_used():
    def product(a, b):
        unused = torch.exp(b) @ a
        return (a @ b + unused * 0).detach() * 0 + a @ b + (a @ b) * 2

    operator, values = observed((3, 3), 1)
    _, text = executed(trace(product_of(product), [(3, 3)] * 2, operator.shape, values.shape, "float64"))
    body = text[text.index("def advance") :]
    right = [
        line.split(" = ", 1)[1]
        for line in body[: body.index("def losses")].splitlines()
        if line.strip().startswith("t")
    ]
    assert len(right) == len(set(right))
    _, text = executed(trace(lambda f: f[0] + 0 * f[1].detach(), [(3, 3)] * 2, (3, 3), (3, 3), "float64"), True)
    assert "exponential(" not in text[text.index("def advance") :]


def product_of(function):
    return lambda factors: function(*factors)


def compared(name, factorization, dtype, dynamics, monkeypatch):
    """The compiled text beside autograd; beside the kernel of instructions, alone and in company, to the last bit."""
    factors, problem = problem_of(factorization, 3, dtype, dynamics)
    forced(monkeypatch, "unrolled")
    text = trained(FusedEngine(afresh(factorization), Schedule(), 1), factors, problem)
    split = trained(FusedEngine(afresh(factorization), Schedule(), 2), factors, problem, 150)
    alone = trained(FusedEngine(afresh(factorization), Schedule()), [f[2:] for f in factors], chosen(problem, [2]))
    forced(monkeypatch, "lanes")
    instructions = trained(FusedEngine(afresh(factorization), Schedule(), 1), factors, problem)
    assert text[2] == split[2] == instructions[2] and alone[2][0] == text[2][2], name
    if dynamics == "flow":
        reference = ReferenceEngine(factorization, Schedule())
        want = [each[0] for each in trained(reference, [f[1:2] for f in factors], chosen(problem, [1]))[0]]
    else:
        want = descended(factorization, factors, problem, 1, int(problem.max_iterations[1]))
    limit = 1e-4 if dtype == torch.float32 else 1e-8 if dynamics == "flow" else 1e-12
    for ours, theirs in zip(text[0], want, strict=True):
        assert float((ours[1] - theirs).norm()) <= limit * float(theirs.norm()), name


@pytest.mark.slow
@pytest.mark.parametrize("name", list(ODD)[::5])  # seconds each; the text of all of them is carried out above
def test_compiled_text_agrees_with_autograd_and_instructions(name, monkeypatch):
    compared(name, ODD[name], torch.float64, "descent", monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("name", ALSO)
@pytest.mark.parametrize(("dtype", "dynamics"), [("float32", "descent"), ("float64", "adaptive"), ("float64", "flow")])
def test_compiled_text_in_other_precisions_and_dynamics(name, dtype, dynamics, monkeypatch):
    compared(name, ODD[name], getattr(torch, dtype), dynamics, monkeypatch)


TRAINED = """
import sys, hashlib
import torch
from helpers.odd_factorizations import ODD, problem_of
from helpers.engines import trained
from rankward.dynamics import FusedEngine, Schedule
factors, problem = problem_of(ODD["tanh"], 3, limit=200)
print(sorted(trained(FusedEngine(ODD["tanh"], Schedule()), factors, problem)[2].items()))
"""


@pytest.mark.slow
def test_two_processes_that_compile_at_once(tmp_path):
    """From a cold cache, the same kernel: both get its numbers, and nothing is said."""
    tests = Path(__file__).parent.parent.parent
    paths = os.pathsep.join(map(str, (tests, *filter(None, [os.environ.get("PYTHONPATH")]))))
    own = os.environ | {"RANKWARD_CACHE": str(tmp_path / "cache"), "PYTHONPATH": paths}
    command = [sys.executable, "-W", "ignore", "-c", TRAINED]
    both = [
        subprocess.Popen(command, env=own, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [each.communicate(timeout=600) for each in both]
    again = subprocess.run(command, env=own, capture_output=True, text=True)
    assert [each.returncode for each in both] == [0, 0], said
    assert (
        said[0] == said[1] == (again.stdout, again.stderr)
        and again.stdout.startswith("[(0, [(0, ")
        and not again.stderr
    )
