"""The sharpness of a loss at given factors. Descent with a fixed step is stable while it is below 2 / step."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jaxtyping import Float, Shaped
from torch import Tensor

from rankward.dynamics.reference import loss
from rankward.factorizations.base import Chain, Components, Hierarchy, Spectral
from rankward.losses import SQUARED, Loss
from rankward.metrics.functional import sharpness as largest_curvature
from rankward.metrics.functional.curvature import LossFunction

AT_EDGE = 0.02  # of 2 / step: a sharpness as near to it is at the edge of stability

Product = Callable[[Sequence[Tensor]], Tensor]


def sharpness(
    product: Product,
    factors: Sequence[Float[Tensor, "runs ..."]],
    operator: Shaped[Tensor, "runs ..."],
    values: Float[Tensor, "runs ..."],
    scale: Float[Tensor, " runs"],
    of: Loss = SQUARED,
) -> Float[Tensor, " runs"]:
    """The largest eigenvalue of each run's Hessian of its loss in all its factors, in float64.

    See `rankward.metrics.functional.sharpness` for its accuracy and for NaN.

    Args:
        product: of a factorization, from factors without a runs axis; differentiable twice.
        factors: [runs, *shape] each.
        operator: [runs, *dims] masks of 0 and 1, or of bool, or [runs, n, *dims] sensing matrices.
        values: [runs, *dims] observed values (zero elsewhere), or [runs, n].
        scale: what the sum of the loss's values is multiplied by, see `Problem.loss_scale`.
        of: the loss; the second derivative of a piecewise one is that of its pieces.

    Source: the bound 2 / step is that of gradient descent on a quadratic; Cohen et al., "Gradient descent on neural
    networks typically occurs at the edge of stability" (ICLR 2021).

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1, 1)  # half of (w_2 w_1 - 1)^2 at (1, 1): the Hessian is [[1, 1], [1, 1]]
        >>> round(sharpness(lambda f: f[1] @ f[0], [one, one], one, one, torch.ones(1)).item(), 12)
        2.0
    """
    return largest_curvature(loss_function(product, of), factors, operator, values, scale)


def loss_function(product: Product, of: Loss = SQUARED) -> LossFunction:
    """The loss of one run that trains this product, as a function of its factors, operator, values and scale."""
    return lambda factors, operator, values, scale: scale * loss(product(factors), operator, values, of)


def at_edge(sharp: float, edge: float) -> bool:
    """Whether a sharpness is within 2 % of 2 / step, `edge`; False if one of them is NaN.

    Example:
        >>> at_edge(166.98, 2 / 0.012), at_edge(163.1, 2 / 0.012), at_edge(float("nan"), 1.0)
        (True, False, False)
    """
    return abs(sharp / edge - 1) <= AT_EDGE


def least_sharpness(form: Chain | Components | Hierarchy | Spectral | None, size: float, scale: float = 1.0) -> float:
    """A bound from below for the sharpness of all factors that fit every observed entry; 0 where none is known.

    It is that of the squared loss.

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
