"""The sharpness of a loss: the largest eigenvalue of its Hessian in all factors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from rankward.linalg import one_thread

MAX_DENSE_PARAMETERS = 256  # with more parameters the Hessian is not formed
MAX_LANCZOS_STEPS = 100  # products of the Hessian with a vector
MAX_BASIS_NUMBERS = 2**26  # in all Lanczos vectors
TOLERANCE = 1e-4  # residual of the eigenvector, relative to the eigenvalue, at which the iteration ends

LossFunction = Callable[..., Tensor]  # from the list of one run's factors, and its data, to a number
Hessian = Callable[[Tensor], Tensor]  # from vectors [n, parameters] to its products with them


def sharpness(
    loss_function: LossFunction, factors: Sequence[Float[Tensor, "runs ..."]], *data: Tensor
) -> Float[Tensor, " runs"]:
    """The largest eigenvalue of the Hessian of each run's loss in all its factors, in float64.

    Up to 256 parameters it is an eigenvalue of the whole Hessian, exact up to rounding. For more it comes from
    Lanczos' iteration, from a fixed start, with at most 100 products of the Hessian with a vector: within 1e-4 of an
    eigenvalue (relative), which is the largest unless the start is orthogonal to its eigenvector. NaN where that was
    not reached, or where a factor, the gradient or the Hessian is not finite. Runs are
    treated one by one, so that a run's value has the same bits in any company: about 0.6 ms a run of 12 parameters,
    which is too slow for every row of a long trace.

    Args:
        loss_function: `loss_function(factors, *data)` of one run, without a runs axis, in torch; differentiable twice.
        factors: [runs, *shape] each.
        data: [runs, ...] each, of which the function gets one run's part.

    Raises:
        RuntimeError: a loss that cannot be differentiated twice.

    Source: Cohen et al., "Gradient descent on neural networks typically occurs at the edge of stability" (ICLR 2021).

    Example:
        >>> two = 2 * torch.ones(1, 1, 1)  # half of (w_2 w_1 - 4)^2 at (2, 2): the Hessian is [[4, 4], [4, 4]]
        >>> values = 4 * torch.ones(1, 1, 1)
        >>> round(sharpness(lambda w, b: ((w[1] @ w[0] - b) ** 2).sum() / 2, [two, two], values).item(), 12)
        8.0
    """
    with one_thread(), torch.enable_grad():  # torchmetrics turn it off
        each = [
            _of_run(loss_function, [factor[run] for factor in factors], [part[run] for part in data])
            for run in range(len(factors[0]))
        ]
    return torch.tensor(each, dtype=torch.float64)


def _of_run(loss_function: LossFunction, factors: Sequence[Tensor], data: Sequence[Tensor]) -> float:
    shapes = [factor.shape for factor in factors]
    point = torch.cat([factor.detach().cpu().double().reshape(-1) for factor in factors]).requires_grad_()
    parts = point.split([shape.numel() for shape in shapes])
    height = loss_function(
        [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)],
        *(each.detach().cpu().double() for each in data),
    )
    (gradient,) = torch.autograd.grad(height, point, create_graph=True)
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
