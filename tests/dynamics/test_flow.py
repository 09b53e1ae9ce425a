"""Gradient flow: against SciPy's solvers, the reference, what flow conserves, and itself in other company."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.integrate import RK45, solve_ivp

from helpers.engines import ensemble
from helpers.own_factorizations import chain
from rankward.dynamics import Flow, FusedEngine, Problem, Progress, ReferenceEngine, Schedule, Status
from rankward.dynamics.kernels.tableau import DORMAND_PRINCE, Tableau
from rankward.factorizations import MatrixFactorization, TensorFactorization
from rankward.factorizations.initialisation import Balanced, Gaussian
from rankward.metrics.functional.conserved import component_drift, matrix_drift
from rankward.observations import random_matrix, random_tensor

EVERY = Schedule(stride=1)


def full(runs, value):
    return torch.full((runs,), value, dtype=torch.float64)


def flow_problem(seen, stop, rtol=1e-10, atol=1e-13, max_time=np.inf, mean=False, max_iterations=10**6):
    runs = len(seen)
    return Problem(
        torch.from_numpy(np.stack([o.mask for o in seen])).double(),
        torch.from_numpy(np.stack([o.values for o in seen])),
        full(runs, 0.0),
        full(runs, stop) if np.isscalar(stop) else stop,
        torch.full((runs,), max_iterations),
        torch.tensor([2 / o.count if mean else 1.0 for o in seen], dtype=torch.float64),
        flow=Flow(full(runs, rtol), full(runs, atol), full(runs, max_time)),
    )


def trained(engine, factors, problem, length=10**6):
    factors, progress = [f.clone() for f in factors], Progress.start(problem.runs)
    rows = []
    while len(progress.running):
        chunk = engine.advance(factors, problem, progress, length)
        rows += list(
            zip(chunk.run.tolist(), chunk.iteration.tolist(), chunk.time.tolist(), chunk.loss.tolist(), strict=True)
        )
    return factors, progress, sorted(rows)


def two_by_two(runs, layers, scale, init=Balanced):
    """The paper's problem from starts with positive determinants."""
    factorization = MatrixFactorization((2, 2), layers)
    starts = [factorization.start(init(scale, "positive"), seed) for seed in range(runs)]
    factors = [torch.stack(layer) for layer in zip(*starts, strict=True)]
    mask = torch.tensor([[0.0, 1], [1, 1]], dtype=torch.float64).repeat(runs, 1, 1)
    values = torch.tensor([[0.0, 1], [1, 0]], dtype=torch.float64).repeat(runs, 1, 1)
    flow = Flow(full(runs, 1e-10), full(runs, 1e-13), full(runs, np.inf))
    steps = torch.full((runs,), 10**7)
    return factors, Problem(mask, values, full(runs, 0.0), full(runs, 1e-4), steps, full(runs, 1.0), flow=flow)


def product(factors):
    result = factors[0]
    for factor in factors[1:]:
        result = factor @ result
    return result


def test_the_tableau_is_the_published_one():
    stages = DORMAND_PRINCE.stages
    for number, row in enumerate(stages[:-1], start=1):
        np.testing.assert_allclose([float(w) for w in row], RK45.A[number, :number], rtol=1e-15)
    np.testing.assert_allclose([float(w) for w in stages[-1]], RK45.B, rtol=1e-15)
    assert np.allclose([float(w) for w in DORMAND_PRINCE.error], -RK45.E, rtol=1e-14)
    with pytest.raises(ValueError, match="sum to 1"):
        Tableau(stages[:-1], DORMAND_PRINCE.error[:-1])


@pytest.mark.slow
def test_depth_3_agrees_with_an_implicit_solver():
    """|W_11| at the stop against Radau at rtol 1e-11, within 1e-6 (here: of the same start, from init 1e-3)."""
    factors, problem = two_by_two(1, 3, 1e-3)
    ours, progress, rows = trained(FusedEngine(chain((2, 2, 2, 2)), EVERY), factors, problem)
    assert progress.status.tolist() == [Status.CONVERGED]
    assert 0 < 1 - rows[-1][3] / 1e-4 < 1e-10

    mask, values = problem.operator[0].numpy(), problem.values[0].numpy()

    def slope(_, y):
        w = y.reshape(3, 2, 2)
        error = mask * (w[2] @ w[1] @ w[0] - values)
        return -np.stack(
            [w[1].T @ w[2].T @ error, w[2].T @ error @ w[0].T, error @ w[0].T @ w[1].T]
        ).ravel()  # W_1, W_2, W_3

    def below(_, y):
        w = y.reshape(3, 2, 2)
        return 0.5 * ((mask * (w[2] @ w[1] @ w[0] - values)) ** 2).sum() - 1e-4

    below.terminal = True
    start = torch.cat([f[0].flatten() for f in factors]).numpy()
    theirs = solve_ivp(slope, (0, 1e6), start, method="Radau", rtol=1e-11, atol=1e-14, events=below)
    w = theirs.y_events[0][0].reshape(3, 2, 2)
    expected = abs((w[2] @ w[1] @ w[0])[0, 0])
    assert abs(abs(float(product(ours)[0, 0, 0])) / expected - 1) < 1e-6
    assert float(progress.time[0]) == pytest.approx(theirs.t_events[0][0], rel=1e-6)


@pytest.mark.parametrize(
    "sizes",
    [
        (2, 2, 2),
        pytest.param((3, 2, 4), marks=pytest.mark.slow),
        pytest.param((18, 17, 19), marks=pytest.mark.slow),
        pytest.param((66, 5, 65), marks=pytest.mark.slow),
    ],
)
def test_every_kernel_makes_the_references_steps_alone_and_in_company(sizes):
    factorization, factors, _ = ensemble(sizes, 5)
    seen = [random_matrix((sizes[-1], sizes[0]), 1, max(1, sizes[-1] * sizes[0] // 2), seed=s) for s in range(5)]
    values, mask = (torch.from_numpy(np.stack([getattr(o, name) for o in seen])) for name in ("values", "mask"))
    first = 0.5 * (product(factors) - values) ** 2 * mask
    stop = 0.5 * first.flatten(1).sum(1)
    problem = flow_problem(seen, stop, rtol=1e-6, atol=1e-9)
    fast, there, rows = trained(FusedEngine(chain(sizes), EVERY), factors, problem)
    assert set(there.status.tolist()) == {Status.CONVERGED}
    last = {run: loss for run, _, _, loss in rows}
    assert all(0 < 1 - last[run] / float(stop[run]) <= 1e-10 for run in range(5))
    slow, here, slow_rows = trained(ReferenceEngine(factorization, EVERY), factors, problem)
    assert (there.iteration - here.iteration).abs().max() <= 2  # in the last steps, which close in on the stop
    assert {row[0] for row in slow_rows} == set(range(5))
    for a, b in zip(fast, slow, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9)
    # The same bits in chunks of any length, on one thread, and without the others.
    other, _, other_rows = trained(FusedEngine(chain(sizes), EVERY, threads=1), factors, problem, length=3)
    assert all(torch.equal(a, b) for a, b in zip(fast, other, strict=True)) and rows == other_rows
    alone, _, _ = trained(
        FusedEngine(chain(sizes), EVERY), [f[3:4] for f in factors], flow_problem(seen[3:4], stop[3:4], 1e-6, 1e-9)
    )
    assert all(torch.equal(a[3], b[0]) for a, b in zip(fast, alone, strict=True))


@pytest.mark.parametrize(
    ("dims", "components", "count"), [pytest.param((3, 4, 2), 5, 20, marks=pytest.mark.slow), ((2, 3, 2, 2), 7, 3)]
)
def test_tensors_flow_as_scipy_has_them(dims, components, count):
    factorization = TensorFactorization(dims, components)
    starts = [factorization.start(Gaussian(0.3), seed) for seed in range(2)]
    factors = [torch.stack(f) for f in zip(*starts, strict=True)]
    seen = [random_tensor(dims, 1, count, seed=s) for s in range(2)]
    problem = flow_problem(seen, 0.0, max_time=3.0, mean=True)
    ours, progress, rows = trained(FusedEngine(TensorFactorization(dims, components), EVERY), factors, problem)
    assert progress.status.tolist() == [Status.MAX_TIME] * 2 and progress.time.tolist() == pytest.approx([3.0] * 2)
    assert component_drift(ours, factors).max() < 1e-9
    slow, _, slow_rows = trained(ReferenceEngine(factorization, EVERY), factors, problem)
    assert abs(len(rows) - len(slow_rows)) <= 2

    def slope(_, y):
        parts = [
            p.reshape(s)
            for p, s in zip(
                torch.from_numpy(y.copy()).split([d * components for d in dims]),
                [(d, components) for d in dims],
                strict=True,
            )
        ]
        parts = [p.requires_grad_() for p in parts]
        made = torch.einsum(",".join("abcd"[i] + "z" for i in range(len(dims))) + "->" + "abcd"[: len(dims)], *parts)
        error = torch.from_numpy(seen[0].mask) * (made - torch.from_numpy(seen[0].values))
        gradients = torch.autograd.grad((error**2).sum() / count, parts)
        return -torch.cat([g.flatten() for g in gradients]).numpy()

    start = torch.cat([f[0].flatten() for f in factors]).numpy()
    theirs = solve_ivp(slope, (0, 3.0), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    np.testing.assert_allclose(torch.cat([f[0].flatten() for f in ours]).numpy(), theirs, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(torch.cat([f[0].flatten() for f in slow]).numpy(), theirs, rtol=1e-7, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [(3, 2, 4), (18, 17, 19)])
def test_weight_decay_flows_as_scipy_has_it(sizes):
    """An unrolled and a blocked kernel, and the reference, each run with its own decay; a loss that is a mean."""
    runs, decay = 5, torch.linspace(0.05, 0.5, 5, dtype=torch.float64)
    factorization, factors, _ = ensemble(sizes, runs)
    seen = [random_matrix((sizes[-1], sizes[0]), 1, sizes[-1] * sizes[0] // 2, seed=s) for s in range(runs)]
    plain = flow_problem(seen, 0.0, max_time=2.0, mean=True)
    problem = replace(plain, flow=replace(plain.flow, decay=decay))
    assert problem.dynamics == "decaying_flow"
    fast, progress, rows = trained(FusedEngine(factorization, EVERY), factors, problem)
    assert progress.status.tolist() == [Status.MAX_TIME] * runs
    slow, _, slow_rows = trained(ReferenceEngine(factorization, EVERY), factors, problem)
    assert abs(len(rows) - len(slow_rows)) <= 2
    mask, values = seen[2].mask, seen[2].values

    def slope(_, y):
        first, second = y[: factors[0][2].numel()].reshape(sizes[1], sizes[0]), y[factors[0][2].numel() :]
        second = second.reshape(sizes[2], sizes[1])
        error = 2 / mask.sum() * mask * (second @ first - values)
        return -np.concatenate([(second.T @ error).ravel(), (error @ first.T).ravel()]) - float(decay[2]) * y

    start = torch.cat([f[2].flatten() for f in factors]).numpy()
    theirs = solve_ivp(slope, (0, 2.0), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1]
    for ours in (fast, slow):
        np.testing.assert_allclose(torch.cat([f[2].flatten() for f in ours]).numpy(), theirs, rtol=1e-7, atol=1e-9)
    left = [torch.exp(-2.0 * decay).sqrt()[:, None, None] * f for f in factors]
    assert matrix_drift(fast, left).max() > 1e-3  # e^(-decay t) is not the law
    left = [torch.exp(-2.0 * decay)[:, None, None] * f for f in factors]
    assert matrix_drift(fast, left).max() < 1e-9


@pytest.mark.slow
def test_a_decaying_flow_ends_on_the_stop():
    factors, problem = two_by_two(4, 3, 1e-2)
    problem = replace(problem, stop_loss=full(4, 2e-2), flow=replace(problem.flow, decay=full(4, 1e-3)))
    for engine in (FusedEngine(chain((2, 2, 2, 2)), EVERY), ReferenceEngine(MatrixFactorization((2, 2), 3), EVERY)):
        _, progress, rows = trained(engine, factors, problem)
        last = {run: loss for run, _, _, loss in rows}
        assert set(progress.status.tolist()) == {Status.CONVERGED}
        assert all(0 < 1 - loss / 2e-2 <= 1e-10 for loss in last.values())


def test_unbalanced_starts_keep_what_flow_conserves():
    factors, problem = two_by_two(20, 3, 1e-2, Gaussian)
    ended, progress, _ = trained(FusedEngine(chain((2, 2, 2, 2)), Schedule(stride=50)), factors, problem)
    assert set(progress.status.tolist()) == {Status.CONVERGED}
    assert matrix_drift(ended, factors).max() < 1e-9
    assert (torch.linalg.det(product(ended)) < 0).any()  # without balance the determinant may change its sign


def test_a_balanced_flow_keeps_the_determinants_sign():
    factors, problem = two_by_two(20, 3, 1e-2)
    ended, _, _ = trained(FusedEngine(chain((2, 2, 2, 2)), EVERY), factors, problem)
    assert (torch.linalg.det(product(ended)) > 0).all()


def test_rows_stand_at_multiples_of_the_stride_and_at_the_end():
    factors, problem = two_by_two(3, 2, 1e-2)
    _, progress, rows = trained(FusedEngine(chain((2, 2, 2)), Schedule(stride=50, every=100)), factors, problem)
    for run in range(3):
        own = [row[1] for row in rows if row[0] == run]
        assert own[0] == 0 and own[-1] == progress.iteration[run]
        assert all(i % 100 == 0 for i in own[:-1])


def test_steps_are_counted_and_limited():
    factors, problem = two_by_two(3, 2, 1e-2)
    limited = Problem(
        *[getattr(problem, n) for n in ("operator", "values", "eta", "stop_loss")],
        torch.tensor([5, 7, 10**6]),
        problem.loss_scale,
        flow=problem.flow,
    )
    _, progress, _ = trained(FusedEngine(chain((2, 2, 2)), EVERY), factors, limited)
    assert progress.status.tolist() == [Status.MAX_ITERATIONS, Status.MAX_ITERATIONS, Status.CONVERGED]
    assert progress.iteration.tolist()[:2] == [5, 7]


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_a_start_that_overflows_is_marked_and_a_saddle_waits(engine):
    """From 1e200 the slopes are not finite; at zero they are zero, and time runs out."""
    factors, problem = two_by_two(3, 2, 1e-2)
    factors[0][0] = 1e200
    for factor in factors:
        factor[1] = 0.0
    problem = Problem(
        *[getattr(problem, n) for n in ("operator", "values", "eta", "stop_loss")],
        torch.full((3,), 300),
        problem.loss_scale,
        flow=problem.flow,
    )
    made = (
        FusedEngine(chain((2, 2, 2)), EVERY)
        if engine == "fused"
        else ReferenceEngine(MatrixFactorization((2, 2), 2), EVERY)
    )
    ended, progress, _ = trained(made, factors, problem)
    assert progress.status.tolist()[:2] == [Status.DIVERGED, Status.MAX_ITERATIONS]
    assert all((factor[1] == 0).all() for factor in ended)
