"""Least nuclear norms against cvxpy, by hand, and by their own duality gap."""

import numpy as np
import pytest

from rankward.observations import Sensing, random_matrix, sensing
from rankward.theory.baselines import nuclear_completion, nuclear_sensing
from rankward.training.baselines import solution

cvxpy = pytest.importorskip("cvxpy")


def by_cvxpy(dims, constraints):
    matrix = cvxpy.Variable(dims)
    problem = cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(matrix)), constraints(matrix))
    problem.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return problem.value, matrix.value


@pytest.mark.parametrize(("dims", "count"), [((4, 4), 9), ((5, 8), 25), ((9, 6), 20), ((12, 12), 90)])
def test_completions_are_cvxpys(dims, count):
    seen = [random_matrix(dims, 2, count, seed=s) for s in range(3)]
    found = nuclear_completion(np.stack([o.mask for o in seen]), np.stack([o.values for o in seen]), tolerance=1e-9)
    assert (found.gap <= 1e-6).all()
    for i, o in enumerate(seen):
        np.testing.assert_array_equal(found.matrix[i][o.mask], o.values[o.mask])
        value, _ = by_cvxpy(dims, lambda x, o=o: [x[a, b] == o.values[a, b] for a, b in np.argwhere(o.mask)])
        assert found.norm[i] == pytest.approx(value, rel=1e-5)
        assert found.norm[i] == pytest.approx(np.linalg.norm(found.matrix[i], "nuc"), rel=1e-9)


def test_unique_solutions_agree_entry_by_entry():
    o = random_matrix((10, 10), 1, 70, seed=1)
    found = nuclear_completion(o.mask[None], o.values[None], tolerance=1e-10)
    _, matrix = by_cvxpy((10, 10), lambda x: [x[a, b] == o.values[a, b] for a, b in np.argwhere(o.mask)])
    np.testing.assert_allclose(found.matrix[0], matrix, atol=1e-5 * np.abs(matrix).max())
    np.testing.assert_allclose(found.matrix[0], o.ground_truth, atol=1e-5 * np.abs(matrix).max())


def test_sensing_is_cvxpys():
    o = sensing((5, 6), 1, 18, seed=3)
    found = nuclear_sensing(o.matrices, o.values, tolerance=1e-9)
    np.testing.assert_allclose(np.einsum("nij,ij->n", o.matrices, found.matrix[0]), o.values, atol=1e-9)
    value, _ = by_cvxpy(
        (5, 6), lambda x: [cvxpy.sum(cvxpy.multiply(a, x)) == y for a, y in zip(o.matrices, o.values, strict=True)]
    )
    assert found.norm[0] == pytest.approx(value, rel=1e-5)


def test_by_hand():
    """Equation 6: zero is least, norm 2. A row seen whole: the row itself. Nothing but zeros: zero."""
    mask = np.array([[[False, True], [True, True]], [[True, True], [False, False]], [[True, False], [False, True]]])
    values = np.array([[[9.0, 1.0], [1.0, 0.0]], [[3.0, 4.0], [7.0, 7.0]], [[0.0, 5.0], [5.0, 0.0]]])
    found = nuclear_completion(mask, values)
    np.testing.assert_allclose(found.norm, [2.0, 5.0, 0.0], rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(found.matrix[1], [[3, 4], [0, 0]], atol=1e-5)
    assert (found.gap <= 1e-7).all()


def test_contradicting_measurements_are_refused():
    one = np.zeros((2, 3, 3))
    one[:, 0, 0] = 1
    with pytest.raises(ValueError, match="no matrix meets these 2 measurements"):
        nuclear_sensing(one, np.array([1.0, 2.0]))
    assert nuclear_sensing(one, np.array([1.0, 1.0])).norm[0] == pytest.approx(1.0)


@pytest.mark.parametrize("factor", [1e-13, 1e-200, 1e150])
def test_a_measurement_of_another_scale_counts_as_much(factor):
    o = sensing((4, 4), 1, 9, seed=1)
    matrices, values = o.matrices.copy(), o.values.copy()
    matrices[3] *= factor
    values[3] *= factor
    found = nuclear_sensing(matrices, values)
    np.testing.assert_allclose(np.einsum("nij,ij->n", o.matrices, found.matrix[0]), o.values, atol=1e-8)
    assert found.norm[0] == pytest.approx(nuclear_sensing(o.matrices, o.values).norm[0], rel=1e-6)
    least = np.linalg.lstsq(o.matrices.reshape(9, -1), o.values, rcond=None)[0].reshape(4, 4)
    np.testing.assert_allclose(solution("frobenius", [Sensing(matrices, values)])["matrix"][0], least, atol=1e-10)


def test_small_contradicting_measurements_are_refused():
    one = np.zeros((2, 3, 3))
    one[:, 0, 0] = 1
    for values in ([1e-12, 2e-12], [1e9, 1e9 + 10]):
        with pytest.raises(ValueError, match="no matrix meets these 2 measurements"):
            nuclear_sensing(one, np.array(values))
    with pytest.raises(ValueError, match="no matrix meets"):
        nuclear_sensing(np.zeros((1, 2, 2)), np.array([1.0]))
    assert nuclear_sensing(np.zeros((1, 2, 2)), np.array([0.0])).norm[0] == 0


def test_one_that_is_stopped_early_says_how_sure_it_is():
    o = random_matrix((20, 20), 3, 150, seed=0)
    early = nuclear_completion(o.mask[None], o.values[None], tolerance=1e-12, max_iterations=20)
    late = nuclear_completion(o.mask[None], o.values[None], tolerance=1e-9)
    assert early.gap[0] > late.gap[0]
    assert early.norm[0] * (1 - early.gap[0]) <= late.norm[0] <= early.norm[0] * (1 + 1e-9)
