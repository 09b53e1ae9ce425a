"""The solution set against dense searches and exact ranks; Propositions 1 to 4."""

import mpmath
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from rankward.observations import EntryMask, dimensions, random_matrix, sensing, two_by_two
from rankward.theory.solution_set import SolutionSet, infimal_rank


def one_missing(values, row=0, col=0):
    mask = np.ones(np.shape(values), bool)
    mask[row, col] = False
    return SolutionSet(mask, np.asarray(values, float))


def test_along_equation_7_by_hand():
    """W_11 = x: trace W^T W = x^2 + 2 and |det| = 1, so s_1 + s_2 = sqrt(x^2 + 4), s_1^2 s_2^2 = 1."""
    paper, x = SolutionSet.of_equation_6(), np.array([-3.0, 0.0, 0.5, 70.0, 1e7])
    np.testing.assert_allclose(paper.schatten_norm(x, 1), np.sqrt(x * x + 4), rtol=1e-14)
    np.testing.assert_allclose(paper.schatten_norm(x, 2), np.sqrt(x * x + 2), rtol=1e-14)
    np.testing.assert_allclose(paper.singular_values(x).prod(1), 1, rtol=1e-12)
    mpmath.mp.dps = 50  # s_2 / s_1 is 1e-14 at x = 1e7
    s = [(mpmath.sqrt(mpmath.mpf(x[-1]) ** 2 + 4) + sign * mpmath.mpf(x[-1])) / 2 for sign in (1, -1)]
    shares = [each / sum(s) for each in s]
    rank = mpmath.exp(-sum(share * mpmath.log(share) for share in shares))
    assert float(paper.effective_rank(x)[-1] - 1) == pytest.approx(float(rank - 1), rel=1e-2)
    assert paper.distance_to_infimal_rank(x)[-1] == pytest.approx(float(s[1]), rel=1e-10)


@pytest.mark.parametrize("p", [0.3, 0.5, 1, 1.5, 2, np.inf])
@pytest.mark.parametrize("values", [[[0, 1], [1, 0]], [[0, -2], [0.5, 0.1]], [[0, 1, 2], [3, 1, 0], [1, 1, 1]]])
def test_least_norms_against_a_dense_search(p, values):
    solutions = one_missing(values)
    found = solutions.least_norm(p, 1e-6)
    grid = np.linspace(-20, 20, 40_001)
    norms = solutions.schatten_norm(grid, p)
    near = grid[norms.argmin()]
    fine = minimize_scalar(
        lambda x: float(solutions.schatten_norm(np.array([x]), p)[0]), bounds=(near - 1e-2, near + 1e-2), method="bounded",
        options={"xatol": 1e-10},
    )  # fmt: skip
    best = min(fine.fun, norms.min())
    assert found.lower <= best * (1 + 1e-12) and best <= found.upper + 1e-6 * max(1, best)
    assert found.upper - found.lower <= 2e-6 * max(1, found.upper)
    assert float(solutions.schatten_norm(np.array([found.at]), p)[0]) == pytest.approx(found.upper)


@pytest.mark.parametrize(
    ("values", "infimal"),
    [
        ([[0, 1], [1, 0]], 1),  # approached as W_11 grows, never attained
        ([[0, 1], [1, 1]], 1),  # attained at W_11 = 1
        ([[0, 0], [0, 0]], 0),
        ([[0, 1, 0], [1, 0, 0], [0, 0, 1]], 2),  # Appendix E
        ([[0, 0, 0], [0, 1, 2], [0, 3, 4]], 2),
        ([[0, 1, 2], [1, 1, 2], [2, 2, 4]], 1),
    ],
)
def test_infimal_ranks_by_hand(values, infimal):
    solutions = one_missing(values)
    assert solutions.infimal_rank == infimal
    far = np.concatenate([np.linspace(-5, 5, 10_001), [1e8]])
    matrices = solutions.at(far)
    below = [
        np.linalg.svd(matrices, compute_uv=False)[:, r:].sum(1).min() if r < matrices.shape[1] else 0.0
        for r in range(4)
    ]
    assert below[infimal] < 1e-6 and (infimal == 0 or below[infimal - 1] > 1e-3)


def test_the_infimal_rank_of_a_problem_or_why_it_is_not_known():
    low = np.outer([1.0, 2.0, 3.0], [1.0, -1.0, 0.5]) + np.outer([0.0, 1.0, 1.0], [2.0, 0.0, 1.0])
    assert infimal_rank(EntryMask(np.ones((3, 3), bool), low)) == (2, "")
    assert infimal_rank(EntryMask(np.ones((2, 2), bool), np.zeros((2, 2)))) == (0, "")
    assert infimal_rank(dimensions((5, 4))) == (3, "") and infimal_rank(two_by_two(b_22=0.1)) == (1, "")
    several = random_matrix((10, 10), 2, 60)
    assert np.isnan(infimal_rank(several)[0]) and infimal_rank(several)[1] == "40 unobserved entries"
    assert (
        np.isnan(infimal_rank(sensing((3, 3), 1, 4))[0]) and "single entries" in infimal_rank(sensing((3, 3), 1, 4))[1]
    )


def test_solution_set_rejects_two_unobserved_entries():
    with pytest.raises(ValueError, match="2 unobserved"):
        SolutionSet(np.array([[False, False], [True, True]]), np.zeros((2, 2)))
    with pytest.raises(ValueError, match="tolerance"):
        SolutionSet.of_equation_6().least_norm(1, 0)
