"""The sharpness of a loss at given factors. Descent with a fixed step is stable while it is below 2 / step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from rankward.dynamics.reference import loss, one_thread
from rankward.factorizations.base import Chain, Components, Hierarchy

MAX_DENSE_PARAMETERS = 256  # with more parameters the Hessian is not formed
MAX_LANCZOS_STEPS = 100  # products of the Hessian with a vector
MAX_BASIS_NUMBERS = 2**26  # in all Lanczos vectors
TOLERANCE = 1e-4  # residual of the eigenvector, relative to the eigenvalue, at which the iteration ends

Hessian = Callable[[Tensor], Tensor]  # from vectors [n, parameters] to its products with them


def sharpness(
    product: Callable[[Sequence[Tensor]], Tensor],
    factors: Sequence[Float[Tensor, "runs ..."]],
    operator: Shaped[Tensor, "runs ..."],
    values: Float[Tensor, "runs ..."],
    scale: Float[Tensor, " runs"],
) -> Float[Tensor, " runs"]:
    """The largest eigenvalue of each run's Hessian of `scale` times Equation 1 in all its factors, in float64.

    Up to 256 parameters it is an eigenvalue of the whole Hessian, exact up to rounding. For more it comes from
    Lanczos' iteration, from a fixed start, with at most 100 products of the Hessian with a vector: within 1e-4 of an
    eigenvalue (relative), which is the largest unless the start is orthogonal to its eigenvector. NaN where that was
    not reached, or where a factor, the gradient or the Hessian is not finite. Runs are treated one by one, so that a
    run's value has the same bits in any company; none of this is fast enough for a training loop.

    Args:
        product: of a factorization, from factors without a runs axis; differentiable twice.
        factors: [runs, *shape] each.
        operator: [runs, *dims] masks of 0 and 1, or of bool, or [runs, n, *dims] sensing matrices.
        values: [runs, *dims] observed values (zero elsewhere), or [runs, n].
        scale: what the half sum of squares is multiplied by; 1, or for the mean 2 / observed entries.

    Source: the bound 2 / step is that of gradient descent on a quadratic; Cohen et al., "Gradient descent on neural
    networks typically occurs at the edge of stability" (ICLR 2021).

    Example:
        >>> one = torch.ones(1, 1, 1)  # half of (w_2 w_1 - 1)^2 at (1, 1): the Hessian is [[1, 1], [1, 1]]
        >>> round(sharpness(lambda f: f[1] @ f[0], [one, one], one, one, torch.ones(1)).item(), 12)
        2.0
    """
    with one_thread():
        each = [
            _of_run(product, [f[run] for f in factors], operator[run], values[run], float(scale[run]))
            for run in range(len(scale))
        ]
    return torch.tensor(each, dtype=torch.float64)


def least_sharpness(form: Chain | Components | Hierarchy | None, size: float, scale: float = 1.0) -> float:
    """A bound from below for the sharpness of all factors that fit every observed entry; 0 where none is known.

    At a solution the Hessian is `scale` times the sum, over observed entries, of the outer products of their gradients
    g in the factors. For a product of L matrices |g|^2 = sum_l |e_i^T W_L...W_(l+1)|^2 |W_(l-1)...W_1 e_j|^2, and by
    Cauchy's inequality for neighbouring layers and that of the means |g|^2 >= L size^(2 - 2/L). For N modes and R
    components it is N R (size / R)^(2 - 2/N) in the same way. Both are reached where one entry is all there is.

    Args:
        form: of the factorization.
        size: the absolute value of an observed entry; the largest gives the best bound.
        scale: what the half sum of squares is multiplied by.

    Example:
        >>> least_sharpness(Chain((2, 2, 2)), 10.0), least_sharpness(Components((2, 2), 3), 10.0)
        (20.0, 20.0)
    """
    if isinstance(form, Chain):
        layers = len(form.sizes) - 1
        return scale * layers * size ** (2 - 2 / layers)
    if isinstance(form, Components):
        modes, components = len(form.dims), form.components
        return scale * modes * components * (size / components) ** (2 - 2 / modes)
    return 0.0


def _of_run(
    product: Callable[[Sequence[Tensor]], Tensor],
    factors: Sequence[Tensor],
    operator: Tensor,
    values: Tensor,
    scale: float,
) -> float:
    shapes = [factor.shape for factor in factors]
    point = torch.cat([factor.detach().cpu().double().reshape(-1) for factor in factors]).requires_grad_()
    parts = point.split([shape.numel() for shape in shapes])
    made = product([part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)])
    scaled_loss = scale * loss(made, operator.detach().cpu().double(), values.detach().cpu().double())
    (gradient,) = torch.autograd.grad(scaled_loss, point, create_graph=True)
    if not gradient.isfinite().all():
        return torch.nan

    def hessian(vectors: Tensor) -> Tensor:
        (products,) = torch.autograd.grad(gradient, point, vectors, retain_graph=True, is_grads_batched=True)
        return products

    return _dense(hessian, len(point)) if len(point) <= MAX_DENSE_PARAMETERS else _lanczos(hessian, len(point))


def _dense(hessian: Hessian, parameters: int) -> float:
    matrix = hessian(torch.eye(parameters, dtype=torch.float64))
    if not matrix.isfinite().all():
        return torch.nan
    return float(torch.linalg.eigvalsh((matrix + matrix.mT) / 2)[-1])


def _lanczos(hessian: Hessian, parameters: int) -> float:
    """The largest eigenvalue by Lanczos' iteration, every vector made orthogonal to all before it."""
    steps = max(2, min(MAX_LANCZOS_STEPS, MAX_BASIS_NUMBERS // parameters))
    basis = torch.empty(steps, parameters, dtype=torch.float64)
    tridiagonal = torch.zeros(steps + 1, steps + 1, dtype=torch.float64)
    vector = torch.randn(parameters, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    vector /= vector.norm()
    for step in range(steps):
        basis[step] = vector
        following = hessian(vector[None])[0]
        if not following.isfinite().all():
            return torch.nan
        tridiagonal[step, step] = vector @ following
        for _ in range(2):  # the second time removes what rounding left
            following = following - basis[: step + 1].mT @ (basis[: step + 1] @ following)
        residual = following.norm()
        values, vectors = torch.linalg.eigh(tridiagonal[: step + 1, : step + 1])
        if residual * vectors[-1, -1].abs() <= TOLERANCE * values[-1].abs():
            return float(values[-1])
        tridiagonal[step, step + 1] = tridiagonal[step + 1, step] = residual
        vector = following / residual
    return torch.nan
