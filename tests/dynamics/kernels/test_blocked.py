"""Instructions over arrays: odd factorizations and random expressions against autograd, in any company."""

import functools

import pytest
import torch
from hypothesis import HealthCheck, given, note, settings

from helpers.drawn_expressions import expressions
from helpers.engines import trained
from helpers.odd_factorizations import (
    EDGES,
    ODD,
    SMOOTH,
    Written,
    afresh,
    chosen,
    descended,
    forced,
    half_and_gradients,
    problem_of,
)  # fmt: skip
from rankward.dynamics import FusedEngine, Progress, ReferenceEngine, Schedule, Status
from rankward.dynamics.graph import Array, Builder
from rankward.dynamics.kernels.blocked import Group, Room, units

# Sums of one order, and no matrix products, whose order is that of torch's BLAS.
ONE_ORDER = ("diagonal", "deep diagonal", "moved", "picked", "filled in place", "summed in place", "views")
FAST = ("tucker 3", "tanh", "softmax", "powers", "summed in place")


def relative(ours, theirs):
    return max(float((a - b).norm() / b.norm()) for a, b in zip(ours, theirs, strict=True))


@functools.cache
def expected(name, dtype, dynamics, sensing):
    """The middle one of three runs by autograd; of a flow by the reference engine."""
    factors, problem = problem_of(ODD[name], 3, dtype, dynamics, sensing)
    if dynamics != "flow":
        return descended(ODD[name], factors, problem, 1, int(problem.max_iterations[1]))
    made = trained(ReferenceEngine(ODD[name], Schedule()), [f[1:2] for f in factors], chosen(problem, [1]))
    return [each[0] for each in made[0]]


def agrees(name, dtype, dynamics, sensing):
    """The middle one of three runs as expected; and every run's bits in other company, threads and chunks."""
    factorization = afresh(ODD[name])
    factors, problem = problem_of(factorization, 3, dtype, dynamics, sensing)
    whole = trained(FusedEngine(factorization, Schedule(), 1), factors, problem)
    ours, want = [each[1] for each in whole[0]], expected(name, dtype, dynamics, sensing)
    limit = 1e-8 if dynamics == "flow" else 1e-12
    assert relative(ours, want) <= (limit if dtype == torch.float64 else 1e-4), name
    if name in ONE_ORDER and dtype == torch.float64 and dynamics == "descent" and not sensing:
        assert all(map(torch.equal, ours, want)), name
    for threads, length in ((2, 10_000), (1, 150)):
        again = trained(FusedEngine(factorization, Schedule(), threads), factors, problem, length)
        assert again[2] == whole[2] and all(map(torch.equal, again[0], whole[0])), name
    alone = trained(FusedEngine(factorization, Schedule(), 1), [f[1:2] for f in factors], chosen(problem, [1]))
    assert alone[2][0] == whole[2][1], name
    return whole


@pytest.mark.parametrize("name", FAST)
def test_an_odd_factorization_is_that_of_autograd(name, monkeypatch):
    forced(monkeypatch, "lanes")
    agrees(name, torch.float64, "descent", False)


CASES = [
    ("descent", "float64"),
    ("adaptive", "float32"),
    ("flow", "float64"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("dynamics", "dtype"), CASES)
def test_all_kinds_agree_with_autograd_and_with_each_other(dynamics, dtype, monkeypatch):
    exact = dtype == "float64" and dynamics != "flow"  # else a kink is crossed an iteration earlier or later
    names = ODD if exact else SMOOTH
    for name, sensing in [*((name, False) for name in names), *((name, True) for name in FAST)]:
        made = {}
        for kind in ("lanes", "single", "blas") if dynamics == "descent" else ("lanes", "single"):
            forced(monkeypatch, kind)
            made[kind] = agrees(name, getattr(torch, dtype), dynamics, sensing)
        assert all(map(torch.equal, made["lanes"][0], made["single"][0])), name
        assert made["lanes"][2] == made["single"][2], name


def one_step(factorization, runs=9):
    """Losses at the start and factors after one step, by the engine; and the problem."""
    factors, problem = problem_of(factorization, runs, limit=1)
    problem.max_iterations[:] = 1
    moved, _, rows = trained(FusedEngine(factorization, Schedule(stride=1)), factors, problem)
    return factors, problem, moved, [rows[run][0][1] for run in range(runs)]


@settings(max_examples=25, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(expressions())
def test_a_random_expression_is_that_of_autograd(monkeypatch, factorization):
    note(factorization.steps)
    forced(monkeypatch, "lanes")
    factors, problem, moved, losses = one_step(factorization)
    for run in (0, 8):
        given = [factor[run] for factor in factors]
        half, slopes = half_and_gradients(factorization, given, problem.operator[run], problem.values[run])
        assert losses[run] == pytest.approx(float(half), rel=1e-12, abs=1e-13)
        scale = max(1.0, *(float(slope.abs().max()) for slope in slopes))
        for start, end, slope in zip(given, moved, slopes, strict=True):
            want = start - problem.eta[run] * slope
            torch.testing.assert_close(end[run], want, rtol=1e-12, atol=1e-12 * scale)


def test_a_run_that_leaves_the_numbers_leaves_the_others_alone(monkeypatch):
    """Its logarithm is NaN after some steps, or its exponential is infinite from the first."""
    forced(monkeypatch, "lanes")

    def product(a, b):
        return torch.log(a + 0.5) @ torch.exp(b * 40).tanh()

    factorization = Written(product, (2, 3), (3, 2))
    factors, problem = problem_of(factorization, 12, limit=400)
    factors[0].abs_()
    calm = trained(FusedEngine(factorization, Schedule(), 1), factors, problem)
    problem.eta[7] = 1e3
    factors[1][3] = 1e200
    factors[1][3, 0] = float("inf")
    factors[1][4] = float("nan")
    wild = trained(FusedEngine(factorization, Schedule(), 1), factors, problem)
    assert wild[1].status[[4, 7]].tolist() == [Status.DIVERGED] * 2
    others = [run for run in range(12) if run not in (3, 4, 7)]
    assert all(wild[2][run] == calm[2][run] for run in others)
    assert all(torch.equal(a[others], b[others]) for a, b in zip(wild[0], calm[0], strict=True))


@pytest.mark.parametrize("dynamics", ["descent", pytest.param("adaptive", marks=pytest.mark.slow)])
def test_a_run_that_is_taken_up_again_goes_on_to_the_same_bits(dynamics, monkeypatch):
    forced(monkeypatch, "lanes")
    factorization = afresh(ODD["tanh"])
    factors, problem = problem_of(factorization, 4, dynamics=dynamics, limit=300)
    whole = trained(FusedEngine(factorization, Schedule(), 1), factors, problem)
    progress, kept = Progress.start(4), [factor.clone() for factor in factors]
    FusedEngine(factorization, Schedule(), 2).advance(kept, problem, progress, 100)
    saved = {name: value.clone() for name, value in progress.state_dict().items()}
    again, kept = Progress(**saved), [factor.clone() for factor in kept]
    while len(again.running):
        FusedEngine(afresh(factorization), Schedule(), 1).advance(kept, problem, again, 50)
    assert all(map(torch.equal, kept, whole[0]))


@pytest.mark.parametrize("name", EDGES)
def test_axes_of_no_elements_and_of_one(name, monkeypatch):
    forced(monkeypatch, "lanes")
    factorization = afresh(EDGES[name])
    factors, problem, moved, losses = one_step(factorization)
    given = [factor[2] for factor in factors]
    half, slopes = half_and_gradients(factorization, given, problem.operator[2], problem.values[2])
    assert losses[2] == pytest.approx(float(half), rel=1e-13)
    for start, end, slope in zip(given, moved, slopes, strict=True):
        torch.testing.assert_close(end[2], start - problem.eta[2] * slope, rtol=1e-13, atol=1e-15)


def test_neighbouring_steps_over_the_same_elements_are_one_instruction():
    builder = Builder("float64")
    x, y = builder.input((4,)), builder.input((4,))
    both = builder.elementwise("multiply", (4,), builder.elementwise("add", (4,), x, y), x)
    total = builder.total(both, [0])
    graph = builder.graph([builder.elementwise("root", (), total)])
    kinds = [len(unit.steps) if isinstance(unit, Group) else type(unit).__name__ for unit in units(graph.steps)]
    assert kinds == [2, "Total", 1]
    turned = Builder("float64")
    z = turned.input((2, 2))
    made = turned.elementwise("multiply", (2, 2), z, 2.0)
    graph = turned.graph([turned.elementwise("add", (2, 2), made, Array(made.block, (2, 2), (1, 2)))])
    assert len(units(graph.steps)) == 2  # an element of the second needs another element of the first


def test_room_is_given_once_and_taken_back():
    room = Room(32)
    places = [room.take(size) for size in (5, 17, 1)]
    assert places == [32, 48, 80] and room.end == 96
    room.give(places[0], 5)
    room.give(places[1], 17)
    assert room.take(40) == 32 and room.take(1) == 96
