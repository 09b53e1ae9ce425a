"""The robustness bound against searches over matrices with the determinant's sign, and against 60 digits."""

import mpmath
import numpy as np
import pytest

from rankward.theory import robustness_bound
from rankward.theory.bounds import robustness_distance_bound, robustness_effective_rank_bound

PROBLEMS = [(1.0, 1.0, 0.0), (-2.0, 0.5, 0.1), (1.0, -3.0, -0.5), (0.3, 0.3, 2.0), (0.7, 0.71, 1e-3)]


@pytest.mark.parametrize("b", PROBLEMS)
@pytest.mark.parametrize("share", [1e-4, 0.1, 0.5, 0.9, 0.999])
def test_no_matrix_of_the_right_sign_and_loss_is_below_and_one_is_near(b, share):
    """A sample of the sphere a^2 + b^2 + c^2 = 2 loss, then smaller and smaller samples around the best of it.

    The determinant is linear in W_11. A matrix of the sample has the required sign, that of b_12 b_21, for some
    |W_11| <= x only if it has that sign at W_11 = x or at W_11 = -x.
    """
    sizes = np.abs(b)
    s = share * sizes[:2].min()
    rng = np.random.default_rng(0)
    best, width = s * np.array([0.1, 0.1, 1.0]), s
    lowest, bound = np.inf, robustness_bound(s * s / 2, *b)
    for _ in range(40):
        error = best + width * rng.standard_normal((20_000, 3))
        error *= s / np.linalg.norm(error, axis=1, keepdims=True)
        # det has the sign of b_12 b_21 only where W_11 W_22 is beyond W_12 W_21: |W_11| > |W_12 W_21 / W_22|
        entry = np.abs((sizes[0] - error[:, 0]) * (sizes[1] - error[:, 1]) / (sizes[2] + error[:, 2]))
        if entry.min() < lowest:
            lowest, best = entry.min(), error[entry.argmin()]
        width *= 0.6
        assert not has_sign(error, b, bound * (1 - 1e-9)).any()
    assert has_sign(best[None], b, bound * (1 + 1e-6)).all()


def has_sign(error, b, size):
    """Whether W has a determinant of the sign of b_12 b_21 at W_11 = size or -size; its other entries are b + error."""
    signs = np.where(np.array(b) < 0, -1.0, 1.0)  # the errors are of sizes |b|
    found = np.zeros(len(error), dtype=bool)
    for corner in (size, -size):
        w = np.full((len(error), 2, 2), corner)
        w[:, 0, 1], w[:, 1, 0] = b[0] - signs[0] * error[:, 0], b[1] - signs[1] * error[:, 1]
        w[:, 1, 1] = b[2] + signs[2] * error[:, 2]
        found |= np.sign(np.linalg.det(w)) == np.sign(b[0] * b[1])
    return found


@pytest.mark.parametrize("loss", ["1e-20", "1e-10", "1e-4", "0.1", "0.37", "0.38", "0.49"])
def test_closed_form_of_the_papers_problem_in_60_digits(loss):
    with mpmath.workdps(60):
        exact = mpmath.mpf(loss)
        e = (mpmath.sqrt(1 + 8 * exact) - 1) / 2
        expected = (1 - e) ** 1.5 / mpmath.sqrt(e) if exact <= 0.375 else mpmath.sqrt(1 - 2 * exact)
        assert float(robustness_bound(float(loss))) == pytest.approx(float(expected), rel=1e-13)


def test_numbers_of_the_paper_page():
    assert robustness_bound([0.1, 1e-4]).round(4).tolist() == [1.8269, 70.6965]


def test_where_it_says_nothing():
    assert np.isnan(robustness_bound(0.5)) and np.isnan(robustness_bound([1.0, 2.0])).all()
    assert np.isnan(robustness_bound(np.nan))
    assert np.isinf(robustness_bound(0.0))
    assert robustness_bound(0.0, b_12=-2.0, b_21=0.5, b_22=0.1) == pytest.approx(10.0)


def forced_ranks(w, b):
    """Effective rank and sigma_2 of W = [[x, u], [v, w]] by singular values; NaN where the sign is not the forced one."""
    values = np.linalg.svd(w, compute_uv=False)
    shares = values / values.sum(-1, keepdims=True)
    rank = np.exp(-np.where(shares > 0, shares * np.log(np.where(shares > 0, shares, 1)), 0).sum(-1))
    forced = np.sign(np.linalg.det(w)) == np.sign(b[0] * b[1])
    return np.where(forced, rank, np.nan), np.where(forced, values[..., -1], np.nan)


@pytest.mark.parametrize(
    ("b", "loss"), [((1, 1, 0), 1e-4), ((-2, 0.5, 0.1), 2e-2), ((0.3, 0.4, -1.5), 1e-2), ((-1, -1, 0.5), 1e-4)]
)
def test_bounds_on_ranks_hold_and_are_as_sharp_as_they_say(b, loss):
    rng = np.random.default_rng(0)
    s, count = np.sqrt(2 * loss), 20_000
    shift = rng.standard_normal((count, 3))
    shift *= s / np.linalg.norm(shift, axis=1, keepdims=True)
    x = rng.choice([-1, 1], count) * np.exp(rng.uniform(-6, 12, count))
    limits = robustness_effective_rank_bound(loss, *b), robustness_distance_bound(loss, *b)

    def matrices(x, shift):
        u, v, w = (np.asarray(each) for each in (np.asarray(b) + shift).T)
        return np.stack([np.stack([x, u], -1), np.stack([v, w], -1)], -2)

    for found, limit in zip(forced_ranks(matrices(x, shift), b), limits, strict=True):
        assert np.nanmax(found) <= limit * (1 + 1e-9)
    # The distance's supremum is attained at infinity, the effective rank's largest value in the box of side s.
    side = s * np.array([-np.sign(b[0]), -np.sign(b[1]), np.sign(b[2]) or 1.0])
    far = matrices(np.array([-1e5, 1e5]), s * np.array([[0, 0, np.sign(b[2]) or 1.0]] * 2))
    assert np.nanmax(forced_ranks(far, b)[1]) == pytest.approx(limits[1], rel=1e-3)
    grid = np.exp(np.linspace(-8, 12, 40_001))
    best = max(np.nanmax(forced_ranks(matrices(sign * grid, np.tile(side, (len(grid), 1))), b)[0], initial=0)
               for sign in (-1, 1))  # fmt: skip
    assert best == pytest.approx(limits[0], abs=1e-6)
    assert np.isnan(robustness_effective_rank_bound(10.0, *b)) and np.isnan(robustness_distance_bound(10.0, *b))
