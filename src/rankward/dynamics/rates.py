"""What a step of descent needs of each run beside its gradient, as the engines lay it out."""

from __future__ import annotations

import torch
from torch import Tensor

from rankward.dynamics.state import Problem, Progress

MEMORY = ("mean_square", "weight")  # the last columns, which an adaptive rate changes; of `Progress`


def rates_of(problem: Problem, progress: Progress, place: torch.device) -> Tensor:
    """[runs, 7] in the runs' dtype: eta, scale, beta, 1 - beta, eps, and what an adaptive rate remembers."""
    eta = problem.eta
    nothing = torch.zeros_like(eta)
    beta, eps = nothing, nothing
    if problem.adaptive is not None:
        beta, eps = problem.adaptive.beta.to(eta), problem.adaptive.eps.to(eta)
    columns = [eta, problem.loss_scale, beta, 1 - beta, eps, progress.mean_square, progress.weight]
    return torch.stack([column.to(place, eta.dtype) for column in columns], dim=1)
