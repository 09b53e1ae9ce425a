"""Depth 2 in 60 digits beside the compiled engine: what ends the runs of Figure 1 is the finite step, not rounding."""

import numpy as np
import pytest
import torch
from benchmarks.sixty_digits import descend, descend_balanced, exact
from mpmath import matrix, mp, mpf

from helpers.own_factorizations import chain
from rankward.dynamics import FusedEngine, Problem, Progress, Schedule
from rankward.factorizations.initialisation import Balanced
from rankward.theory import robustness_bound

MASK, VALUES = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]]).double(), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]]).double()


def ours(start, eta, stop, every):
    """Iterations, |W_11|, and the first iteration whose factors' determinants have another sign than at the start."""
    one = torch.ones(1, dtype=torch.float64)
    problem = Problem(MASK, VALUES, eta * one, stop * one, torch.tensor([10**7]), one)
    engine, progress = FusedEngine(chain((2, 2, 2)), Schedule(stride=every, every=every)), Progress.start(1)
    factors, rows = [layer[None].clone() for layer in start], []
    while len(progress.running):
        rows.append(engine.advance(factors, problem, progress, 1000 * every))
    iteration = np.concatenate([r.iteration.numpy() for r in rows])
    lower, upper = (np.concatenate([r.factors[i].numpy() for r in rows]) for i in (0, 1))
    positive = np.linalg.det(lower) * np.linalg.det(upper) > 0
    turned = iteration[positive != positive[0]]
    return (
        int(progress.iteration[0]),
        float((factors[1] @ factors[0])[0, 0, 0]),
        int(turned[0]) if len(turned) else None,
    )


def started(scale, seed):
    start = Balanced(scale, "positive").draw((2, 2, 2), seed)
    return start, [exact(layer.numpy()) for layer in start]


@pytest.mark.parametrize("seed", range(4))
def test_descent_ends_where_it_ends_in_60_digits_and_its_sign_turns_at_the_same_step(seed):
    start, decimals = started(1e-3, seed)
    end = descend(decimals, 0.024, 1e-4, every=1)
    iterations, entry, turned = ours(start, 0.024, 1e-4, every=1)
    assert (iterations, turned) == (end.iterations, end.turned)
    assert entry == pytest.approx(end.entry, rel=1e-6)
    assert abs(end.entry) < 0.15 * robustness_bound(end.loss)  # without rounding, and as far from the bound


def test_the_first_step_is_that_of_mpmath_and_unbalances_the_layers_by_eta_squared():
    """C = W_2^T W_2 - W_1 W_1^T moves by eta^2 (G_2^T G_2 - G_1 G_1^T): the first order cancels, whatever the loss."""
    _, decimals = started(1e-1, 3)
    with mp.workdps(60):
        eta = mpf(0.024)
        w_1, w_2 = (matrix(2, 2) for _ in range(2))
        for target, source in ((w_1, decimals[0]), (w_2, decimals[1])):
            target[0, 0], target[0, 1], target[1, 0], target[1, 1] = (mpf(str(value)) for value in source)
        factors = decimals
        for iteration in range(1, 60):
            error = w_2 * w_1 - matrix([[0, 1], [1, 0]])
            error[0, 0] = 0
            g_1, g_2 = w_2.T * error, error * w_1.T
            before = w_2.T * w_2 - w_1 * w_1.T
            w_1, w_2 = w_1 - eta * g_1, w_2 - eta * g_2
            gap = (w_2.T * w_2 - w_1 * w_1.T) - before - eta**2 * (g_2.T * g_2 - g_1 * g_1.T)
            assert mp.norm(gap, mp.inf) < mpf(10) ** -50
            factors = descend(factors, 0.024, 0.0, every=1, limit=1).factors
            for target, found in ((w_1, factors[0]), (w_2, factors[1])):
                for place, value in enumerate(found):
                    assert abs(target[place // 2, place % 2] - mpf(str(value))) < mpf(10) ** -50, iteration


def test_the_same_steps_keep_the_sign_where_the_layers_are_balanced_again_after_each():
    """So it is the unbalance of the steps that turns the sign: nothing else differs. ln det = -x^2/2 - 3 ln x + c."""
    start, decimals = started(1e-3, 0)
    plain = descend(decimals, 0.024, 3e-3)
    balanced, marks = descend_balanced(exact((start[1] @ start[0]).numpy()), 0.024, 3e-3)
    assert plain.turned is not None and abs(plain.entry) < 0.6 * robustness_bound(plain.loss)
    assert balanced.turned is None and abs(balanced.entry) >= robustness_bound(balanced.loss)
    entry, log_determinant = np.array(marks).T
    constant = log_determinant + entry**2 / 2 + 3 * np.log(entry)
    assert len(entry) == 11 and np.ptp(constant[2:]) < 0.3 and np.ptp(log_determinant[2:]) > 60


@pytest.mark.parametrize(("eta", "scale", "expected"), [(6e-3, 1e-5, 8.2126249), (3e-3, 1e-6, 8.8648111)])
def test_figure_1_of_the_paper_ends_where_it_ends_in_60_digits(eta, scale, expected):
    start, decimals = started(scale, 0)
    end = descend(decimals, eta, 1e-4)
    iterations, entry, _ = ours(start, eta, 1e-4, every=50)
    assert iterations == end.iterations and abs(end.entry) == pytest.approx(expected, abs=1e-7)
    assert entry == pytest.approx(end.entry, rel=1e-6)
