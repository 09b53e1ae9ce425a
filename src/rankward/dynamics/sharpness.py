"""Sharpness: the curvature that decides which learning rates are stable."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics.reference import loss
from rankward.factorizations.base import Factorization

EXACT = 128  # parameters: up to so many the whole Hessian is made


def sharpness(
    factorization: Factorization, factors: Sequence[Tensor], operator: Tensor, values: Tensor, scale: float = 1.0
) -> float:
    """The largest eigenvalue of the Hessian of one run's loss in its factors, float64.

    Descent at rate eta near a minimum is stable where it is below 2 / eta. Of up to 128 parameters the Hessian is made
    by automatic differentiation; of more its largest eigenvalue is found by Lanczos iterations of its products with
    vectors, to a relative 1e-6.

    Args:
        factors: of the run, without a runs axis.
        operator, values: its mask or sensing matrices, and what was observed; see `Problem`.
        scale: what Equation 1's half sum is multiplied by in training.

    Returns:
        NaN where a factor is not finite, or where the iterations do not converge.

    Example:
        >>> from rankward.factorizations import MatrixFactorization
        >>> one = torch.ones(1, 1)
        >>> sharpness(MatrixFactorization((1, 1), layers=2), [one, one], one, one)  # of (uv - 1)^2 / 2: u^2 + v^2
        2.0
    """
    shapes, sizes = [factor.shape for factor in factors], [factor.numel() for factor in factors]
    point = torch.cat([factor.detach().double().flatten() for factor in factors])
    if not bool(torch.isfinite(point).all()):
        return float("nan")
    operator, values = operator.double(), values.double()

    def training_loss(flat: Tensor) -> Tensor:
        parts = [part.reshape(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        return scale * loss(factorization.product(parts), operator, values)

    if len(point) <= EXACT:
        return float(torch.linalg.eigvalsh(torch.func.hessian(training_loss)(point))[-1])
    return _largest(training_loss, point)


def _largest(function: Callable[[Tensor], Tensor], point: Tensor) -> float:
    from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

    def product(vector: np.ndarray) -> np.ndarray:
        tangent = torch.from_numpy(np.ascontiguousarray(vector.ravel()))
        return np.asarray(torch.func.jvp(torch.func.grad(function), (point,), (tangent,))[1].numpy())

    n = len(point)
    hessian = LinearOperator((n, n), matvec=product, dtype=np.float64)
    first = np.random.default_rng(0).standard_normal(n)
    try:
        values = eigsh(hessian, k=1, which="LA", tol=1e-6, v0=first, return_eigenvectors=False)
    except ArpackNoConvergence:
        return float("nan")
    return float(values[0])
