"""Fits of low rank against the SVD, gradient flow by SciPy and closed forms; Schatten norms against least nuclear ones."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import minimize_scalar

from rankward.observations import random_matrix
from rankward.theory.baselines import nuclear_completion
from rankward.theory.low_rank import best_fits, greedy, least_schatten


def test_fits_of_a_full_matrix_are_truncated_svds():
    matrix = 1e3 * np.random.default_rng(0).standard_normal((5, 7))
    u, s, vt = np.linalg.svd(matrix, full_matrices=False)
    seen = np.ones(matrix.shape, bool)
    for fits in (best_fits(seen, matrix, starts=2), greedy(seen, matrix)):
        assert [fit.rank for fit in fits] == [1, 2, 3, 4, 5] and all(fit.stationary for fit in fits)
        for fit in fits:
            k = fit.rank
            np.testing.assert_allclose(fit.matrix, (u[:, :k] * s[:k]) @ vt[:k], atol=1e-3)
            assert fit.loss == pytest.approx((s[k:] ** 2).sum() / 2, rel=1e-9, abs=1e-6)


def by_flow(mask, values, steps):
    """Ends of gradient flow of two factors from a small component along the first singular vectors, one at a time."""
    rows, cols = mask.shape
    both = np.zeros((rows + cols, 0))
    for rank in range(1, steps + 1):
        u, _, vt = np.linalg.svd(np.where(mask, values - both[:rows] @ both[rows:].T, 0))
        start = np.column_stack([both, 1e-3 * np.concatenate([u[:, 0], vt[0]])])

        def velocity(_, flat, rank=rank):
            a, b = np.split(flat.reshape(-1, rank), [rows])
            residual = np.where(mask, values - a @ b.T, 0)
            return np.concatenate([residual @ b, residual.T @ a]).ravel()

        flow = solve_ivp(velocity, (0, 300), start.ravel(), method="LSODA", rtol=1e-9, atol=1e-11)
        both = flow.y[:, -1].reshape(-1, rank)
        yield both[:rows] @ both[rows:].T


@pytest.mark.parametrize("seed", [1, 3])
def test_greedy_steps_are_ends_of_gradient_flow(seed):
    seen = random_matrix((4, 5), 2, 14, seed=seed)
    steps = greedy(seen.mask, seen.values)
    assert [step.rank for step in steps] == [1, 2]
    for step, end in zip(steps, by_flow(seen.mask, seen.values, 2), strict=True):
        np.testing.assert_allclose(step.matrix, end, atol=1e-5)
    np.testing.assert_allclose(steps[-1].matrix[seen.mask], seen.values[seen.mask], atol=1e-6)


@pytest.mark.parametrize("ratio", [2.0, 5.0])
def test_rank_one_and_least_nuclear_norm_differ(ratio):
    mask, values = np.zeros((4, 4), bool), np.zeros((4, 4))
    for i, j, value in ((0, 2, 1.0), (0, 3, ratio), (1, 2, ratio)):
        mask[i, j] = mask[j, i] = True
        values[i, j] = values[j, i] = value
    (fit,) = best_fits(mask, values)  # x_i y_j, up to a factor of each of two pieces
    assert fit.rank == 1 and fit.loss < 1e-12 and np.linalg.norm(fit.matrix, "nuc") >= 2 * ratio**2 + 2 - 1e-6
    assert fit.matrix[1, 3] == pytest.approx(ratio**2, rel=1e-5)
    assert np.linalg.norm(least_schatten(mask, values, 1.0), "nuc") == pytest.approx(4 * ratio, rel=1e-6)


def test_least_schatten_norms():
    seen = random_matrix((6, 5), 2, 18, seed=2)
    nuclear = nuclear_completion(seen.mask[None], seen.values[None], tolerance=1e-9)
    found = least_schatten(seen.mask, seen.values, 1.0, starts=1)
    assert nuclear.norm[0] <= np.linalg.norm(found, "nuc") * (1 + 1e-8) <= nuclear.norm[0] * (1 + 1e-6)
    np.testing.assert_array_equal(found[seen.mask], seen.values[seen.mask])
    np.testing.assert_array_equal(least_schatten(seen.mask, seen.values, 2.0), seen.values)
    # One unobserved entry: a minimum over numbers, by a grid and SciPy's bounded search around its best place.
    mask, values = np.array([[False, True], [True, True]]), np.array([[0.0, 2.0], [1.0, 0.8]])

    def power(x, p):
        return (np.linalg.svd(np.array([[x, 2.0], [1.0, 0.8]]), compute_uv=False) ** p).sum()

    for p in (0.5, 2 / 3, 4 / 3):
        grid = np.linspace(-6, 6, 1201)
        place = grid[np.argmin([power(x, p) for x in grid])]
        least = minimize_scalar(power, bounds=(place - 0.01, place + 0.01), args=(p,), method="bounded")
        assert power(least_schatten(mask, values, p)[0, 0], p) <= least.fun * (1 + 1e-4)


def test_nothing_is_invented():
    seen = np.ones((2, 2), bool)
    assert best_fits(seen, np.zeros((2, 2))) == [] and not least_schatten(seen, np.zeros((2, 2)), 0.5).any()
    corner = np.array([[False, True], [True, True]])
    paper = np.array([[np.nan, 1.0], [1.0, 0.0]])  # the infimum of rank 1 is not attained: |W_11| grows without end
    assert abs(best_fits(corner, paper)[0].matrix[0, 0]) > 1e3
    with pytest.raises(ValueError, match="not finite"):
        greedy(seen, paper)
    with pytest.raises(ValueError, match="p: 3"):
        least_schatten(corner, paper, 3)
