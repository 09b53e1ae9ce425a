"""Flow in singular coordinates: against SciPy's solvers on other variables, closed forms, and itself in company."""

import numpy as np
import pytest
import torch
from scipy.integrate import quad, solve_ivp

from rankward.config import ConfigError
from rankward.dynamics import Flow, FusedEngine, Problem, Progress, Schedule, Status
from rankward.dynamics.kernels import rosenbrock
from rankward.factorizations.initialisation import Balanced, Gaussian
from rankward.factorizations.singular import SingularCoordinates, balanced_layers, without_ties
from rankward.theory.propositions import symmetric_flow

HIDDEN_CORNER = np.array([[0.0, 1], [1, 1]]), np.array([[0.0, 1], [1, 0]])  # Equation 6: mask and values


def problem_of(masks, values, stop=0.0, max_time=np.inf, decay=None, tolerance=(1e-10, 1e-13)):
    runs = len(masks)

    def full(value):
        return torch.full((runs,), value, dtype=torch.float64)

    flow = Flow(full(tolerance[0]), full(tolerance[1]), full(max_time), None if decay is None else full(decay))
    steps = torch.full((runs,), 10**6)
    masks, values = (torch.from_numpy(np.array(each)).double() for each in (masks, values))
    return Problem(masks, values, full(0.0), full(stop), steps, full(1.0), flow=flow)


def coordinates(*products):
    made = [np.linalg.svd(product, full_matrices=False) for product in products]
    return [torch.from_numpy(np.stack(each)) for each in zip(*((u, np.log(s), v.T) for u, s, v in made), strict=True)]


def trained(factors, problem, depth, length=10**6, threads=1):
    factors, progress, rows = [f.clone() for f in factors], Progress.start(problem.runs), []
    dims = tuple(problem.values.shape[1:])
    engine = FusedEngine(SingularCoordinates(dims, depth), Schedule(stride=1), threads)
    while len(progress.running):
        chunk = engine.advance(factors, problem, progress, length)
        rows += list(zip(chunk.run.tolist(), chunk.iteration.tolist(), chunk.loss.tolist(), strict=True))
    return [f.numpy() for f in factors], progress, sorted(rows)


def product(factors, run=0):
    left, logs, right = (each[run] for each in factors)
    return left * np.exp(logs) @ right.T


def flow_of_the_product(start, mask, values, depth, time):
    """Arora et al. (2018), Theorem 1, on W itself: its kernel in pairs of singular values, by an explicit method."""

    def slope(_, flat):
        u, s, vt = np.linalg.svd(flat.reshape(start.shape), full_matrices=True)
        s = np.concatenate([s, np.zeros(max(start.shape) - len(s))])
        a, b = s[: start.shape[0], None], s[None, : start.shape[1]]
        same = np.abs(a - b) < 1e-7 * s[0]
        with np.errstate(all="ignore"):
            kernel = (a**2 - b**2) / (a ** (2 / depth) - b ** (2 / depth))
        kernel = np.where(same, depth * ((a + b) / 2) ** (2 - 2 / depth), kernel)
        gradient = mask * (flat.reshape(start.shape) - values)
        return -(u @ (kernel * (u.T @ gradient @ vt.T)) @ vt).ravel()

    made = solve_ivp(slope, (0, time), start.ravel(), method="DOP853", rtol=1e-11, atol=1e-14)
    return made.y[:, -1].reshape(start.shape)


def test_the_coefficients_satisfy_conditions_of_their_order():
    """Of the method in its usual form: sum b = 1, sum b_i beta_i = 1/2, sum b_i alpha_i^2 = 1/3, ... up to order 5."""
    gamma, size = rosenbrock.GAMMA, len(rosenbrock.A)
    a, c = (np.array([[*row, *[0.0] * (size - len(row))] for row in rows]) for rows in (rosenbrock.A, rosenbrock.C))
    inverse = np.eye(size) / gamma - c  # of the matrix of gammas, since u is that matrix times the increments
    gammas = np.linalg.inv(inverse)
    b = np.append(a[-1, :-1], 1.0) @ gammas
    alpha = (a @ gammas).sum(1)
    beta = (a @ gammas + gammas).sum(1)
    assert b.sum() == pytest.approx(1, abs=1e-12)
    assert b @ beta == pytest.approx(1 / 2, abs=1e-12)
    assert b @ alpha**2 == pytest.approx(1 / 3, abs=1e-12)
    assert b @ (a @ gammas + gammas) @ beta == pytest.approx(1 / 6, abs=1e-11)
    assert [b @ alpha**power for power in (3, 4)] == pytest.approx([1 / 4, 1 / 5], abs=1e-11)


@pytest.mark.slow
def test_equation_6_at_depth_2_agrees_with_radau_to_a_loss_of_1e_4():
    """Radau in two logarithms and two angles: W = R(a) diag(s) R(b)^T, whose determinant is s_1 s_2."""
    mask, values = HIDDEN_CORNER
    angles, logs = np.array([0.9, -0.4]), np.log([1.3e-3, 4e-4])

    def turn(angle):
        return np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])

    def loss_and_pull(y):
        u, v = turn(y[2]), turn(y[3])
        error = mask * (u @ np.diag(np.exp(y[:2])) @ v.T - values)
        return 0.5 * (error**2).sum(), u.T @ error @ v

    def slope(_, y):
        pull, s = loss_and_pull(y)[1], np.exp(y[:2])
        gap = s[0] - s[1]
        # u_1 moves towards u_2 by the angle a: W' = -(W W^T)^(1/2) G - G (W^T W)^(1/2), in pairs.
        first = -(s[0] * pull[1, 0] + s[1] * pull[0, 1]) / gap
        second = -(s[0] * pull[0, 1] + s[1] * pull[1, 0]) / gap
        return [-2 * pull[0, 0], -2 * pull[1, 1], first, second]

    def stop(_, y):
        return loss_and_pull(y)[0] - 1e-4

    stop.terminal = True
    start = turn(angles[0]) @ np.diag(np.exp(logs)) @ turn(angles[1]).T
    exact = solve_ivp(slope, (0, 1e7), [*logs, *angles], method="Radau", rtol=1e-9, atol=1e-11, events=stop)
    there = exact.y_events[0][0]
    w = turn(there[2]) @ np.diag(np.exp(there[:2])) @ turn(there[3]).T

    ours, progress, rows = trained(coordinates(start), problem_of([mask], [values], stop=1e-4), 2)
    assert progress.status.tolist() == [Status.CONVERGED]
    assert 0 < 1 - rows[-1][2] / 1e-4 < 1e-10
    assert abs(product(ours)[0, 0]) == pytest.approx(abs(w[0, 0]), rel=1e-6)
    assert abs(product(ours)[0, 0]) == pytest.approx(70.6965, abs=1e-4)
    assert ours[1].sum() == pytest.approx(there[:2].sum(), rel=1e-6)
    assert float(progress.time[0]) == pytest.approx(exact.t_events[0][0], rel=1e-6)


@pytest.mark.slow
def test_the_identity_at_depth_2_follows_the_symmetric_flow_to_a_loss_of_1e_10():
    """From equal singular values. At 1e-10 |W_11| is exact, and ln det, -2.5e9, to 1e-4."""
    mask, values = HIDDEN_CORNER
    pull = mask * (0.1 * np.eye(2) - values)
    start = [torch.from_numpy(e[None]) for e in without_ties(np.eye(2), np.log([0.1, 0.1]), np.eye(2), pull)]
    for loss, exact in ((1e-4, 1e-7), (1e-10, 1e-4)):
        time, entry, _, determinant = symmetric_flow(0.1, loss)
        ours, progress, _ = trained(start, problem_of([mask], [values], stop=loss), 2)
        assert product(ours)[0, 0] == pytest.approx(entry, rel=1e-6)
        assert ours[1].sum() == pytest.approx(determinant, rel=exact)
        assert float(progress.time[0]) == pytest.approx(time, rel=max(exact, 1e-6))
        for vectors in (ours[0][0], ours[2][0]):
            assert np.allclose(vectors.T @ vectors, np.eye(2), atol=1e-14, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("depth, decay", [(2, 0.0), (2, 0.3), (2.5, 0.0), (4, 0.0)])
def test_aligned_singular_values_follow_their_equation(depth, decay):
    """s' = L s^(2-2/L) (y - s) - L decay s: the time at which each passes its end is an integral; they cross, too."""
    start, goal = np.array([0.3, 0.2, 0.05]), np.array([0.5, 2.0, 1.0])
    left, right = (np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))[0] for seed in (1, 2))
    given = [torch.from_numpy(each[None]) for each in (left, np.log(start), right)]
    target = left * goal @ right.T
    ours, progress, _ = trained(given, problem_of([np.ones((3, 3))], [target], 0.0, 1.5, decay), depth)
    assert progress.status.tolist() == [Status.MAX_TIME]
    for s0, s1, y in zip(start, np.exp(ours[1][0]), goal, strict=True):
        time = quad(lambda s, y=y: 1 / (depth * (s ** (2 - 2 / depth) * (y - s) - decay * s)), s0, s1, epsrel=1e-11)[0]
        assert time == pytest.approx(1.5, rel=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("dims, depth, gap", [((3, 3), 2.5, 1.0), ((5, 3), 2, 1.0), ((3, 4), 3, 1e-9), ((3, 3), 2, 0)])
def test_the_product_follows_the_flow_of_arora_et_al(dims, depth, gap):
    """Any shape and depth, and singular values that are equal or nearly so, where the vectors turn fast."""
    random = np.random.default_rng(7)
    u, s, vt = np.linalg.svd(random.standard_normal(dims), full_matrices=False)
    start = u * (0.2 * (1 + gap * (s / s[0] - 1))) @ vt
    mask, values = (random.random(dims) < 0.7).astype(float), random.standard_normal(dims)
    left, logs, right = (each[0].numpy() for each in coordinates(start))
    given = [torch.from_numpy(e[None]) for e in without_ties(left, logs, right, mask * (start - values))]
    ours, _, _ = trained(given, problem_of([mask], [mask * values], max_time=2.0), depth)
    expected = flow_of_the_product(start, mask, mask * values, depth, 2.0)
    np.testing.assert_allclose(product(ours), expected, atol=1e-7)


@pytest.mark.slow
def test_measurements_are_fit_like_entries():
    mask, values = HIDDEN_CORNER
    given = problem_of([mask], [values], stop=1e-3)
    places = np.argwhere(mask)
    matrices = np.zeros((1, len(places), 2, 2))
    for index, (row, col) in enumerate(places):
        matrices[0, index, row, col] = 1
    sensed = Problem(
        torch.from_numpy(matrices), torch.tensor([[values[tuple(p)] for p in places]]), given.eta, given.stop_loss,
        given.max_iterations, given.loss_scale, flow=given.flow,
    )  # fmt: skip
    factors = coordinates(np.array([[2e-3, 1e-3], [-1e-3, 3e-3]]))
    entries, _, _ = trained(factors, given, 2)
    factorization, progress = SingularCoordinates((2, 2), 2), Progress.start(1)
    FusedEngine(factorization, Schedule(stride=1), 1).advance(factors, sensed, progress, 10**6)
    np.testing.assert_allclose(product([f.numpy() for f in factors]), product(entries), rtol=1e-7)


@pytest.mark.slow
def test_a_run_has_the_same_bits_in_any_company_chunk_and_thread():
    mask, values = HIDDEN_CORNER
    starts = [SingularCoordinates((2, 2), 3).start(Balanced(1e-2, "positive"), seed) for seed in range(5)]
    factors = [torch.stack(each) for each in zip(*starts, strict=True)]
    together, progress, rows = trained(factors, problem_of([mask] * 5, [values] * 5, 1e-2), 3, length=7, threads=2)
    alone, own, own_rows = trained([f[3:4] for f in factors], problem_of([mask], [values], 1e-2), 3)
    for shared, single in zip(together, alone, strict=True):
        assert shared[3].tobytes() == single[0].tobytes()
    assert [row[1:] for row in rows if row[0] == 3] == [row[1:] for row in own_rows]
    assert progress.time[3] == own.time[0]


@pytest.mark.slow
def test_below_depth_2_a_singular_value_may_reach_zero_which_ends_the_run():
    mask, values = HIDDEN_CORNER
    start = coordinates(np.array([[1e-1, 1e-2], [-1e-2, 1e-1]]) + np.diag([0.01, 0]))
    _, progress, _ = trained(start, problem_of([mask], [values], stop=1e-4), 1.5)
    assert progress.status.tolist() == [Status.DIVERGED]


def test_starts_are_the_products_that_the_layers_have_and_others_are_refused():
    factors = SingularCoordinates((2, 3), 3).start(Balanced(1e-2), 5)
    layers = Balanced(1e-2).draw((3, 2, 2, 2), 5)
    np.testing.assert_allclose(product([f[None].numpy() for f in factors]), layers[2] @ layers[1] @ layers[0])
    rebuilt = balanced_layers([f.numpy() for f in factors], 3)
    np.testing.assert_allclose(rebuilt[2] @ rebuilt[1] @ rebuilt[0], layers[2] @ layers[1] @ layers[0], atol=1e-16)
    np.testing.assert_allclose(rebuilt[1].T @ rebuilt[1], rebuilt[0] @ rebuilt[0].T, atol=1e-16)
    between = SingularCoordinates((2, 3), 2.5).start(Balanced(1e-2), 5)
    np.testing.assert_allclose(between[1], factors[1])
    with pytest.raises(ConfigError, match=r"init: 'gaussian' .* differ from Equation 5 by 0\.\d+ of the largest"):
        SingularCoordinates((2, 2), 2).start(Gaussian(1e-2), 0)
