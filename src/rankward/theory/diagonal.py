"""The end of a diagonal network: the vector of least hyperbolic entropy Q, with a duality gap, and its two limits."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import lstsq
from scipy.optimize import linprog, root

GAP = 1e-12  # relative to Q: a larger one is refused


@dataclass(frozen=True)
class LeastQ:
    """The solution of least Q.

    Args:
        solution: [d], which agrees with the measurements up to rounding.
        gap: no such vector has a Q below Q(solution) - gap, by weak duality.
    """

    solution: Float[np.ndarray, " d"]
    gap: float


def hyperbolic_entropy(beta: Float[np.ndarray, "*batch d"], alpha: float) -> np.ndarray:
    """Q(beta) = sum_i alpha^2 q(beta_i / alpha^2), q(z) = 2 - sqrt(4 + z^2) + z asinh(z / 2).

    For large alpha it is about |beta|_2^2 / (4 alpha^2), for small alpha about 2 ln(1 / alpha) |beta|_1.

    Args:
        beta: [..., d].
        alpha: above 0, the start of u and v.

    Source: Woodworth et al., "Kernel and Rich Regimes in Overparametrized Models" (COLT 2020), Theorem 1.

    Example:
        >>> round(float(hyperbolic_entropy(np.array([1.0, 0.0]), 10.0)) * 400, 4)  # nearly |beta|_2^2
        1.0
    """
    z = beta / alpha**2
    wide = np.hypot(2, z)
    return np.asarray((alpha**2 * (z * np.arcsinh(z / 2) - z * z / (2 + wide))).sum(-1))


def least_q(matrix: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"], alpha: float) -> LeastQ:
    """The vector of least Q among those with matrix @ beta = values.

    Flow of u∘u - v∘v from u = v = alpha ends there (gradients of Q are in the row space of the matrix). The dual
    problem has n variables: beta = 2 alpha^2 sinh(matrix^T nu), so SciPy finds the root of its n equations. Then a
    correction by least squares makes beta agree to rounding, and nu bounds Q from below: the gap.

    Args:
        matrix: of linearly independent rows.
        values: [n].
        alpha: above 0, the start of u and v.

    Raises:
        ValueError: SciPy's root has a relative duality gap above `GAP`.

    Source: Woodworth et al., "Kernel and Rich Regimes in Overparametrized Models" (COLT 2020), Theorem 1.

    Example:
        >>> found = least_q(np.array([[1.0, 2.0]]), np.array([1.0]), 1e-3)
        >>> found.solution.round(3).tolist()  # the least l1 norm has (0, 0.5)
        [0.001, 0.5]
    """

    def residual(nu: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray]:
        exponent = matrix.T @ nu
        return scale * (matrix @ np.sinh(exponent)) - values, scale * (matrix * np.cosh(exponent)) @ matrix.T

    # From a large alpha down: the root of one is a good start for the next.
    nu, first = np.zeros(len(values)), max(alpha, 10.0)
    for each in np.geomspace(first, alpha, 1 + int(np.ceil(4 * np.log(first / alpha)))):
        nu = root(residual, nu, (2 * each**2,), jac=True, method="hybr", options={"xtol": 1e-14}).x
    scale = 2 * alpha**2
    beta = scale * np.sinh(matrix.T @ nu)
    beta = beta + lstsq(matrix, values - matrix @ beta)[0]
    exponent = matrix.T @ nu
    dual = values @ nu - (scale * 2 * np.sinh(exponent / 2) ** 2).sum()
    primal = float(hyperbolic_entropy(beta, alpha))
    gap = primal - float(dual)
    if not abs(gap) <= GAP * primal:
        raise ValueError(
            f"alpha: {alpha:g}: no solution with a relative duality gap below {GAP:g}, but {gap / primal:.2g}"
        )
    return LeastQ(beta, gap)


def least_l1(matrix: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """A vector of least l1 norm among those with matrix @ beta = values, by linear programming.

    Raises:
        ValueError: no vector agrees with the values.

    Example:
        >>> least_l1(np.array([[1.0, 2.0]]), np.array([1.0])).tolist()
        [0.0, 0.5]
    """
    size = matrix.shape[1]
    found = linprog(np.ones(2 * size), A_eq=np.hstack([matrix, -matrix]), b_eq=values, method="highs")
    if found.x is None:
        raise ValueError(f"values: {found.message}")
    return np.asarray(found.x[:size] - found.x[size:])


def least_l2(matrix: Float[np.ndarray, "n d"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " d"]:
    """The vector of least l2 norm among those with matrix @ beta = values.

    Example:
        >>> least_l2(np.array([[1.0, 2.0]]), np.array([1.0])).round(9).tolist()
        [0.2, 0.4]
    """
    return np.asarray(lstsq(matrix, values)[0])
