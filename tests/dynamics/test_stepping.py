"""Optimizers: the numbers of torch's, the same in every engine, and the same bits in any company, chunk and resumption."""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from helpers.engines import ensemble
from helpers.optimizing import by_torch, optimized, picked, with_rule
from rankward.config import ConfigError
from rankward.dynamics import (
    BatchedEngine,
    FusedEngine,
    Problem,
    ReferenceEngine,
    Schedule,
    SplitEngine,
    choose_engine,
)
from rankward.dynamics.kernels import cache
from rankward.dynamics.layouts import GraphLayout, layout_of
from rankward.dynamics.stepping import check_update
from rankward.factorizations import DiagonalFactorization, TensorFactorization
from rankward.optimizers import Adam, AdamW, Cosine, Descent, Momentum, Optimizer, RMSprop, Scheduled, SignDescent

RUNS = 9
SGD = torch.optim.SGD
CASES = {
    "descent": (Descent(0.1), partial(SGD, weight_decay=0.1)),
    "momentum": (Momentum(0.9, weight_decay=0.01), partial(SGD, momentum=0.9, weight_decay=0.01)),
    "dampened": (Momentum(0.8, dampening=0.3), partial(SGD, momentum=0.8, dampening=0.3)),
    "nesterov": (
        Momentum(0.9, nesterov=True, weight_decay=0.01),
        partial(SGD, momentum=0.9, nesterov=True, weight_decay=0.01),
    ),
    "adam": (
        Adam((0.8, 0.99), 1e-6, 0.01),
        partial(torch.optim.Adam, betas=(0.8, 0.99), eps=1e-6, weight_decay=0.01),
    ),
    "adamw": (AdamW(weight_decay=0.1), partial(torch.optim.AdamW, weight_decay=0.1)),
    "rmsprop": (RMSprop(0.9, 1e-3, 0.5, weight_decay=0.01),
                partial(torch.optim.RMSprop, alpha=0.9, eps=1e-3, momentum=0.5, weight_decay=0.01)),
    "centered": (RMSprop(0.9, 1e-2, centered=True), partial(torch.optim.RMSprop, alpha=0.9, eps=1e-2, centered=True)),
}  # fmt: skip


class Shift(Optimizer):
    """Heavy ball by the factor before, a learning rate that falls, and a clipped gradient: what a user may write."""

    per_parameter = ("before",)
    per_run = ("steps",)

    def __init__(self, beta):
        self.beta, self.limit = beta, 0.5

    def update(self, parameter, gradient, state, eta, iteration):
        steps = state["steps"] + 1
        before = torch.where(iteration > 1, state["before"], parameter)
        clipped = gradient.clamp(-self.limit, self.limit)
        moved = parameter - eta / steps.sqrt() * clipped + self.beta * (parameter - before)
        return moved, {"before": parameter, "steps": steps}


class Normed(Optimizer):
    """Momentum along gradients of at most a given norm over all factors, and the largest norm so far."""

    per_parameter = ("mean",)
    per_run = ("largest", "steps")

    def __init__(self, limit):
        self.limit = limit

    def rate_of_run(self, eta, square, state, iteration):
        norm = square.sqrt()
        return eta / torch.clamp(norm / self.limit, min=1), {"largest": torch.maximum(state["largest"], norm)}

    def update(self, parameter, gradient, state, eta, iteration):
        mean = 0.5 * state["mean"] + gradient
        return parameter - eta / state["largest"] * mean, {"mean": mean, "steps": state["steps"] + 1}


class Branching(Optimizer):
    """It branches on a number."""

    def __init__(self, momentum):
        self.momentum = momentum

    def update(self, parameter, gradient, state, eta, iteration):
        return parameter - eta * (2 * gradient if self.momentum > 0.5 else gradient), {}


def chain(sizes=(2, 2, 2), dtype=torch.float64, runs=RUNS, iterations=400, eta=(1e-4, 2e-3)):
    return ensemble(sizes, runs, dtype, max_iterations=iterations, eta=eta)


def diagonal():
    _, _, problem = chain((3, 3, 3))
    factorization = DiagonalFactorization((3, 3), layers=2)
    drawn = [torch.randn(RUNS, 3, 3, generator=torch.Generator().manual_seed(s), dtype=torch.float64) for s in (0, 1)]
    return factorization, drawn, problem


def nearly(ours, theirs, tolerance):
    return all(
        float((a - b).abs().max()) <= tolerance * float(b.abs().max()) for a, b in zip(ours, theirs, strict=True)
    )


@pytest.mark.parametrize("case", CASES)
def test_the_reference_and_the_batched_engine_have_the_numbers_of_torch(case):
    optimizer, make = CASES[case]
    factorization, factors, problem = chain()
    problem = with_rule(problem, [optimizer] * RUNS)
    expected = by_torch(factorization, factors, problem, 4, make, 400)
    one = optimized(ReferenceEngine(factorization, Schedule()), *picked(factors, problem, [4]))[0]
    assert nearly([each[0] for each in one], expected, 1e-9)
    many = optimized(BatchedEngine(factorization, Schedule()), *picked(factors, problem, [3, 4]))[0]
    assert nearly([each[1] for each in many], expected, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("made", [chain, diagonal, partial(chain, (10, 10, 10))], ids=["chain", "traced", "blocked"])
def test_the_compiled_engine_has_the_numbers_of_torch(case, made):
    optimizer, make = CASES[case]
    factorization, factors, problem = made()
    if isinstance(optimizer, RMSprop):
        # With larger steps it jumps around minima: a start moved by 1e-16 then moves torch's own end by up to 2e-3.
        problem = replace(problem, eta=problem.eta / 20)
    problem = with_rule(problem, [optimizer] * RUNS)
    got = optimized(FusedEngine(factorization, Schedule()), factors, problem)[0]
    for run in (0, RUNS - 1):
        expected = by_torch(factorization, factors, problem, run, make, 400)
        assert nearly([each[run] for each in got], expected, 1e-9)


def test_sign_descent_moves_every_entry_by_eta():
    factorization, factors, problem = chain(iterations=100)
    problem = with_rule(problem, [SignDescent(0.5)] * RUNS)
    got = optimized(ReferenceEngine(factorization, Schedule(stride=1, every=1)), *picked(factors, problem, [3]))[2][0]
    w, m, eta = [f[3].numpy().copy() for f in factors], [0.0, 0.0], float(problem.eta[3])
    mask, values = problem.operator[3].numpy(), problem.values[3].numpy()
    for row in got:
        assert row[2:] == tuple(each.tobytes() for each in w)
        error = mask * (w[1] @ w[0] - values)
        gradients = [w[1].T @ error, error @ w[0].T]
        m = [0.5 * a + 0.5 * g for a, g in zip(m, gradients, strict=True)]
        w = [a - eta * ((b > 0) * 1.0 - (b < 0) * 1.0) for a, b in zip(w, m, strict=True)]


@pytest.mark.slow
@pytest.mark.parametrize(
    "optimizer", [Adam(), Momentum(nesterov=True), SignDescent(0.5), Shift(0.9)], ids=lambda each: type(each).__name__
)
def test_forms_agree(optimizer, monkeypatch):
    """Unrolled, blocked in registers and one by one, batched, and the reference engine."""
    made = {}
    for form, limit in (("unrolled", cache.UNROLLED_LIMIT), ("blocked", 0)):
        monkeypatch.setattr(cache, "UNROLLED_LIMIT", limit)
        factorization, factors, problem = chain((3, 2, 3), iterations=100)
        problem = with_rule(problem, [optimizer] * RUNS)
        made[form] = optimized(FusedEngine(factorization, Schedule(), 1), factors, problem)
        assert layout_of(factorization, (3, 3), (3, 3), "float64", problem.rule).form == form
        single = optimized(FusedEngine(factorization, Schedule(), 1), *picked(factors, problem, [5]))
        assert single[2][0] == made[form][2][5]
    made["reference"] = optimized(ReferenceEngine(factorization, Schedule()), factors, problem)
    made["batched"] = optimized(BatchedEngine(factorization, Schedule()), factors, problem)
    for other in made.values():
        assert nearly(other[0], made["reference"][0], 1e-12)
        assert nearly([other[1].state], [made["reference"][1].state], 1e-11)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(2, 2, 2), (10, 10, 10)])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_bits_depend_on_neither_company_threads_chunk_nor_resumption(sizes, dtype):
    numbers = [Adam((0.5 + 0.04 * n, 0.99), 1e-8, 0.01 * n) for n in range(11)]
    factorization, factors, problem = chain(sizes, dtype, runs=11)
    problem = with_rule(problem, numbers)
    schedule = Schedule()
    factors_at_the_end, progress, rows = optimized(FusedEngine(factorization, schedule, 1), factors, problem)
    again = [optimized(FusedEngine(factorization, schedule, 2), factors, problem, length=150, break_after=1)]
    halves = [FusedEngine(factorization, schedule, 1) for _ in range(2)]
    again.append(optimized(SplitEngine(halves, [torch.device("cpu")] * 2), factors, problem, length=100))
    for other in again:
        assert other[2] == rows and torch.equal(other[1].state, progress.state)
    alone = optimized(FusedEngine(factorization, schedule), *picked(factors, problem, [7]), length=50)
    assert alone[2][0] == rows[7]
    reference = optimized(ReferenceEngine(factorization, schedule), *picked(factors, problem, [7]))[0]
    tolerance = 1e-12 if dtype == torch.float64 else 1e-3
    assert nearly([each[0] for each in reference], [each[7] for each in factors_at_the_end], tolerance)


def normed_by_hand(factors, problem, run, limit, iterations):
    """Factors, mean, largest norm after steps of `Normed`, in NumPy, for two square factors."""
    w = [f[run].numpy().copy() for f in factors]
    mask, values = problem.operator[run].numpy(), problem.values[run].numpy()
    scale, eta, m, largest = float(problem.loss_scale[run]), float(problem.eta[run]), [0.0, 0.0], 0.0
    for done in range(iterations):
        error = scale * mask * (w[1] @ w[0] - values)
        gradients = [w[1].T @ error, error @ w[0].T]
        norm = float(np.hypot(*map(np.linalg.norm, gradients)))
        largest, rate = max(largest, norm), eta * (0.5 + done / 400) / max(1.0, norm / limit)
        m = [0.5 * a + g for a, g in zip(m, gradients, strict=True)]
        w = [a - rate / largest * b for a, b in zip(w, m, strict=True)]
    return w, largest


@pytest.mark.parametrize("engine", [ReferenceEngine, BatchedEngine, pytest.param(FusedEngine, marks=pytest.mark.slow)])
def test_a_rate_of_the_run_depends_on_the_norm_of_all_gradients(engine):
    """All engines go on from a stored state; a schedule comes before the rate."""
    factorization, factors, problem = chain(runs=3, iterations=20)
    problem = replace(problem, loss_scale=torch.full((3,), 1 / 3, dtype=torch.float64))
    limits = [0.05, 0.2, 5.0]
    problem = with_rule(problem, [Scheduled(Normed(limit), Cosine(200, 300, 0.5)) for limit in limits])
    made = optimized(engine(factorization, Schedule(stride=10)), factors, problem, length=10, break_after=1)
    for run, limit in enumerate(limits):
        expected, largest = normed_by_hand(factors, problem, run, limit, 20)
        assert nearly([each[run] for each in made[0]], list(map(torch.from_numpy, expected)), 1e-10)
        assert made[1].state[run, :2].tolist() == pytest.approx([largest, 20], rel=1e-12)


def cp():
    """A CP factorization so large that plain descent has its own kernel."""
    factorization = TensorFactorization((5, 5, 5), components=20)
    drawn = [
        0.3 * torch.randn(3, *shape, generator=torch.Generator().manual_seed(1)).double() for shape in [(5, 20)] * 3
    ]
    values = torch.rand(3, 5, 5, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    ones, limit = torch.ones(3, dtype=torch.float64), torch.full((3,), 60)
    problem = Problem((values > 0.4).double(), values * (values > 0.4), 1e-2 * ones, 0 * ones, limit, ones)
    return factorization, drawn, problem


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "form"), [(cp, "blocked"), (partial(chain, (300, 300, 300), runs=3, iterations=20), "blas")]
)
def test_large_factorizations_have_the_numbers_of_the_reference(made, form):
    """Steps of an optimizer are instructions where descent has the CP kernel, too; BLAS is for large matrices."""
    factorization, factors, problem = made()
    problem = with_rule(problem, [Momentum(0.5, weight_decay=0.01 * n) for n in range(3)])
    layout = layout_of(factorization, problem.operator.shape[1:], problem.values.shape[1:], "float64", problem.rule)
    assert (type(layout), layout.form, layout.uses_blas) == (GraphLayout, form, form == "blas")
    got, _, rows = optimized(FusedEngine(factorization, Schedule(stride=10), 2), factors, problem)
    alone = optimized(FusedEngine(factorization, Schedule(stride=10), 1), *picked(factors, problem, [1]), length=10)
    assert alone[2][0] == rows[1]
    expected = optimized(ReferenceEngine(factorization, Schedule(stride=10)), *picked(factors, problem, [1]))[0]
    assert nearly([each[1] for each in got], [each[0] for each in expected], 1e-11)


def test_numbers_of_runs_share_a_kernel():
    assert Momentum(0.5).constants == Momentum(0.0, dampening=0.1).constants != Momentum(0.5, nesterov=True).constants
    assert RMSprop().constants != RMSprop(centered=True).constants
    moved = Adam((0.9, 0.99)).with_numbers([1.0, 2.0, 3.0, 4.0])
    assert (moved.betas, moved.eps, moved.weight_decay) == ((1.0, 2.0), 3.0, 4.0)


def test_a_branch_on_a_number_is_left_to_the_reference_engine():
    factorization, factors, problem = chain(runs=2, iterations=50)
    problem = with_rule(problem, [Branching(0.9), Branching(0.1)])
    engine = choose_engine("auto", factorization, Schedule(), problem=problem)
    assert engine.name == "reference"
    assert engine.note.startswith("reference, which is slow: this optimizer cannot be compiled (it looks at")
    expected = by_torch(factorization, factors, problem, 1, SGD, 50)
    assert nearly([each[1] for each in optimized(engine, factors, problem)[0]], expected, 1e-12)
    with pytest.raises(ConfigError, match="engine: 'fused' .*this optimizer"):
        choose_engine("fused", factorization, Schedule(), problem=problem)


def refused(update, state=("a",), shared=()):
    kind = type("Own", (Optimizer,), {"per_parameter": state, "per_run": shared, "update": update})
    with pytest.raises(ConfigError) as error:
        check_update(kind(), "own", [(2, 2), (2, 3)])
    return str(error.value)


def test_an_update_that_is_none_is_refused():
    assert "an update that runs (KeyError: 'b')" in refused(lambda self, w, g, s, e, i: (w, {"a": s["b"]}))
    assert "returns the parameter and a mapping" in refused(lambda self, w, g, s, e, i: w)
    assert "returns as state a, not b" in refused(lambda self, w, g, s, e, i: (w, {"b": w}))
    assert "returns 'a' as a tensor of float64, 2x2" in refused(lambda self, w, g, s, e, i: (w, {"a": w.sum()}))
    assert "returns 'parameter' as" in refused(lambda self, w, g, s, e, i: (1.0, s))
    message = refused(lambda self, w, g, s, e, i: (w, {"n": g.sum()}), (), ("n",))
    assert "per_run state 'n' does not depend on the factor" in message
    assert "no name in common: a" in refused(lambda self, w, g, s, e, i: (w, s), ("a",), ("a",))


def test_a_rate_that_is_none_is_refused():
    def message(rate, shared=("n",)):
        kind = type("Own", (Optimizer,), {"per_run": shared, "rate_of_run": rate, "update": lambda *given: given[1:3]})
        with pytest.raises(ConfigError) as error:
            check_update(kind(), "own", [(2, 2)])
        return str(error.value)

    assert "a rate_of_run that runs (KeyError: 'm')" in message(lambda self, e, q, s, i: (s["m"], {}))
    assert "returns the rate and a mapping" in message(lambda self, e, q, s, i: e)
    assert "no other state than per_run: m" in message(lambda self, e, q, s, i: (e, {"m": q}))
    assert "returns 'eta' as a tensor of float64, 0-d" in message(lambda self, e, q, s, i: (1.0, {}))
    assert "returns 'n' as a tensor of float64, 0-d" in message(lambda self, e, q, s, i: (e, {"n": q.reshape(1)}))
    returned = type("Own", (Optimizer,), {"per_run": ("n",), "rate_of_run": lambda self, e, q, s, i: (e, {"n": q}),
                                          "update": lambda self, w, g, s, e, i: (w, s)})  # fmt: skip
    with pytest.raises(ConfigError, match="returns as state nothing, not n"):
        check_update(returned(), "own", [(2, 2)])
