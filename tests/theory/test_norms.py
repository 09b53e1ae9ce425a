"""Norms along a line of solutions: intervals of epsilon-minimizers against brute force, cvxpy and hand calculations."""

import numpy as np
import pytest

from rankward.theory import propositions
from rankward.theory.norms import FormsNorm, MatrixNorm, SchattenNorm, confine, entrywise, induced, ky_fan
from rankward.theory.solution_set import SolutionSet

PAPER = SolutionSet.of_equation_6()


def line(values):
    mask = np.ones(np.shape(values), bool)
    mask[0, 0] = False
    return SolutionSet(mask, np.asarray(values, float))


@pytest.mark.parametrize(
    ("norm", "epsilon", "ends"),
    [
        (entrywise(np.inf), 0.5, (-1.5, 1.5)),
        (induced(1), 0.25, (-0.25, 0.25)),
        (SchattenNorm(2), 1.0, (-np.sqrt((1 + np.sqrt(2)) ** 2 - 2), np.sqrt((1 + np.sqrt(2)) ** 2 - 2))),
        (entrywise(0.5), 5.0, (-1.0, 1.0)),  # (2 + sqrt|x|)^2 <= 9
        (SchattenNorm(1), 0.5, (-1.5, 1.5)),  # sqrt(x^2 + 4) <= 2.5
    ],
)
def test_intervals_along_equation_7_by_hand(norm, epsilon, ends):
    found = confine(norm, PAPER, epsilon)
    slack = 1e-5  # of the certified infimum
    assert found.left <= ends[0] + slack and ends[1] - slack <= found.right
    assert (found.left, found.right) == pytest.approx(ends, abs=slack)
    assert found.excess < 1e-6 and max(-found.left, found.right) <= found.bound


def test_intervals_against_cvxpy():
    cvxpy = pytest.importorskip("cvxpy")
    random = np.random.default_rng(3)
    forms = random.standard_normal((15, 3, 3))
    values = random.standard_normal((3, 3))
    flat, zero = forms.reshape(15, 9), np.zeros((3, 3))
    for norm, convex in (
        (FormsNorm("polyhedral", forms, np.inf), lambda w: cvxpy.norm_inf(flat @ cvxpy.vec(w, order="C"))),
        (FormsNorm("of forms", forms, 1), lambda w: cvxpy.norm1(flat @ cvxpy.vec(w, order="C"))),
        (ky_fan(np.array([2.0, 1.0])), lambda w: cvxpy.lambda_sum_largest(cvxpy.bmat([[zero, w], [w.T, zero]]), 2)
         + cvxpy.sigma_max(w)),
        (induced(np.inf), lambda w: cvxpy.max(cvxpy.sum(cvxpy.abs(w), axis=1))),
    ):  # fmt: skip
        w = cvxpy.Variable((3, 3))
        seen = [w[i, j] == values[i, j] for i in range(3) for j in range(3) if (i, j) != (0, 0)]
        least = cvxpy.Problem(cvxpy.Minimize(convex(w)), seen).solve(solver="CLARABEL")
        found = confine(norm, line(values), 0.1)
        assert found.least.upper == pytest.approx(least, rel=1e-6), norm.name
        assert found.least.upper - found.least.lower < 1e-9
        within = [*seen, convex(w) <= least + 0.1]
        right = cvxpy.Problem(cvxpy.Maximize(w[0, 0]), within).solve(solver="CLARABEL")
        left = cvxpy.Problem(cvxpy.Minimize(w[0, 0]), within).solve(solver="CLARABEL")
        assert (found.left, found.right) == pytest.approx((left, right), abs=1e-4), norm.name


def test_quasi_norms_against_brute_force():
    random = np.random.default_rng(5)
    problem = line([[0, -2], [0.5, 0.1]])
    for p in (0.3, 0.5, 0.9):
        norm = FormsNorm("quasi", random.standard_normal((6, 2, 2)), p)
        found = confine(norm, problem, 0.5)
        grid = np.linspace(-1.2 * found.bound, 1.2 * found.bound, 400_001)
        values = norm.values(problem.at(grid))
        near = grid[values <= found.least.upper + 0.5]
        step = 1.01 * (grid[1] - grid[0])
        assert found.least.upper <= values.min() and found.left <= near.min(initial=np.inf)
        assert near.max(initial=-np.inf) <= found.right
        if len(near):  # as tight as the grid can show
            assert near.min() - found.left < step and found.right - near.max() < step


def test_what_is_no_norm_is_refused():
    with pytest.raises(ValueError, match="vanish on a matrix other than zero"):
        FormsNorm("of three entries", np.eye(4)[1:].reshape(3, 2, 2), 1)
    with pytest.raises(ValueError, match="0 where only the free entry is not"):
        confine(MatrixNorm("second row", lambda w: np.abs(w[..., 1, :]).sum(-1)), PAPER, 0.1)
    with pytest.raises(ValueError, match="epsilon"):
        confine(induced(1), PAPER, 0.0)
    with pytest.raises(ValueError, match="SchattenNorm"):
        induced(2)
    with pytest.raises(ValueError, match="do not rise"):
        ky_fan(np.array([1.0, 2.0]))


@pytest.mark.parametrize(
    "values",
    [
        lambda w: np.abs(w[..., 1, :]).sum(-1),  # does not see W_11
        lambda w: np.abs(w).max((-2, -1)) * (1 + 0.5 * np.cos(7 * w[..., 0, 0])),  # is not convex
        lambda w: np.minimum(np.abs(w).sum((-2, -1)), 5.0),  # stops growing
    ],
)
def test_a_function_that_is_no_norm_turns_proposition_1(monkeypatch, values):
    monkeypatch.setattr(propositions, "other_norms", lambda: [MatrixNorm("tampered", values)])
    findings = propositions.proposition_1(ps=())
    assert len(findings) == 2 and not any(finding.holds for finding in findings)
