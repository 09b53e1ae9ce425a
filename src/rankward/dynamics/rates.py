"""The numbers that a step needs besides the gradient, in the order of the engines' arrays."""

from __future__ import annotations

import torch
from torch import Tensor

from rankward.dynamics.state import Problem, Progress

MEMORY = ("mean_square", "weight")  # fields of `Progress` in the last columns, which an adaptive rate changes


def rates_of(problem: Problem, progress: Progress, device: torch.device) -> Tensor:
    """[runs, columns] in the runs' dtype: constants of a step, then what steps change.

    Descent: eta, scale, beta, 1 - beta, eps, and the two fields of an adaptive rate. An optimizer: eta, scale, its
    numbers, the iteration, and its state.
    """
    eta = problem.eta
    if (rule := problem.rule) is not None:
        assert progress.state is not None
        single = [eta[:, None], problem.loss_scale[:, None], rule.numbers, progress.iteration[:, None], progress.state]
        return torch.cat([each.to(device, eta.dtype) for each in single], dim=1)
    zeros = torch.zeros_like(eta)
    beta, eps = zeros, zeros
    if problem.adaptive is not None:
        beta, eps = problem.adaptive.beta.to(eta), problem.adaptive.eps.to(eta)
    columns = [eta, problem.loss_scale, beta, 1 - beta, eps, progress.mean_square, progress.weight]
    return torch.stack([column.to(device, eta.dtype) for column in columns], dim=1)


def remembered(problem: Problem, rates: Tensor) -> dict[str, Tensor]:
    """Fields of `Progress` that steps have changed, from columns as `rates_of` makes them."""
    if problem.rule is not None:
        return {"state": rates[:, 3 + problem.rule.numbers.shape[1] :]}
    return dict(zip(MEMORY, rates[:, -len(MEMORY) :].unbind(1), strict=True))
