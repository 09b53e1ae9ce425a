"""The vector of least Q: against an optimizer of the primal, mpmath, and its limits, the least l1 and l2 norms."""

import mpmath
import numpy as np
import pytest
from scipy.linalg import null_space
from scipy.optimize import minimize

from rankward.theory.diagonal import hyperbolic_entropy, least_l1, least_l2, least_q


def problem(seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((3, 6)), rng.standard_normal(3)


@pytest.mark.parametrize("alpha", [1e-4, 0.3, 30.0])
def test_q_is_the_sum_of_its_definition(alpha):
    beta = np.array([0.0, 1e-9, -0.7, 20.0])
    with mpmath.workdps(60):
        z = [mpmath.mpf(float(b)) / mpmath.mpf(alpha) ** 2 for b in beta]
        terms = [2 - mpmath.sqrt(4 + x * x) + x * mpmath.asinh(x / 2) for x in z]
        expected = float(mpmath.mpf(alpha) ** 2 * mpmath.fsum(terms))
    assert hyperbolic_entropy(beta, alpha) == pytest.approx(expected, rel=1e-14)


def test_no_vector_that_agrees_has_a_smaller_q():
    """A descent over the solution set, in coordinates of the null space, from another start."""
    matrix, values = problem()
    found = least_q(matrix, values, 0.3)
    np.testing.assert_allclose(matrix @ found.solution, values, atol=1e-13)
    free, point = null_space(matrix), least_l2(matrix, values)

    def q(x):
        beta = point + free @ x
        return hyperbolic_entropy(beta, 0.3), free.T @ np.arcsinh(beta / (2 * 0.3**2))

    other = minimize(q, np.ones(free.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-11})
    np.testing.assert_allclose(point + free @ other.x, found.solution, atol=1e-9)
    assert abs(found.gap) < 1e-12 * other.fun


def test_the_limits_are_the_least_norms():
    matrix, values = problem(1)
    large, small = least_q(matrix, values, 100.0).solution, least_q(matrix, values, 1e-6).solution
    np.testing.assert_allclose(large, np.linalg.pinv(matrix) @ values, atol=1e-7)
    least = least_l1(matrix, values)
    assert np.abs(least).sum() <= np.abs(small).sum() < 1.01 * np.abs(least).sum()
    assert (np.abs(least) > 1e-9).sum() == 3  # a vertex


def test_measurements_that_contradict_each_other_are_refused():
    matrix, values = np.ones((2, 3)), np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="duality gap"):
        least_q(matrix, values, 0.1)
    with pytest.raises(ValueError, match="values"):
        least_l1(matrix, values)
