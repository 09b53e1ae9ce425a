"""The numbers that a step of descent needs besides the gradient, in the order of the engines' arrays."""

from __future__ import annotations

import torch
from torch import Tensor

from rankward.dynamics.state import Problem, Progress

MEMORY = ("mean_square", "weight")  # fields of `Progress` in the last columns, which an adaptive rate changes


def rates_of(problem: Problem, progress: Progress, device: torch.device) -> Tensor:
    """[runs, 7] in the runs' dtype: eta, scale, beta, 1 - beta, eps, and the two fields of an adaptive rate."""
    eta = problem.eta
    zeros = torch.zeros_like(eta)
    beta, eps = zeros, zeros
    if problem.adaptive is not None:
        beta, eps = problem.adaptive.beta.to(eta), problem.adaptive.eps.to(eta)
    columns = [eta, problem.loss_scale, beta, 1 - beta, eps, progress.mean_square, progress.weight]
    return torch.stack([column.to(device, eta.dtype) for column in columns], dim=1)
