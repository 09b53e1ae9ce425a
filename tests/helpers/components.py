"""Ensembles of tensors as sums of components."""

import numpy as np
import torch

from rankward.dynamics import Adaptive, Problem
from rankward.factorizations import TensorFactorization
from rankward.factorizations.initialisation import Gaussian
from rankward.observations import random_tensor


def problem_of(dims, runs, share, dtype, adaptive=True, eta=1e-2, iterations=400, stop=0.0):
    entries = int(np.prod(dims))
    seen = [random_tensor(dims, 1, max(1, int(share * entries)), seed=run) for run in range(runs)]
    many = torch.ones(runs, dtype=dtype)
    return Problem(
        torch.from_numpy(np.stack([o.mask for o in seen])).to(dtype),
        torch.from_numpy(np.stack([o.values for o in seen])).to(dtype),
        eta * torch.linspace(0.5, 1.5, runs, dtype=dtype),
        torch.full((runs,), stop, dtype=torch.float64),
        torch.full((runs,), iterations),
        torch.tensor([2 / o.count for o in seen], dtype=torch.float64),
        Adaptive(0.99 * many, 1e-6 * many) if adaptive else None,
    )


def starts(dims, components, runs, dtype, scale=0.5):
    factorization = TensorFactorization(dims, components)
    drawn = [factorization.start(Gaussian(scale), seed) for seed in range(runs)]
    return factorization, [torch.stack(mode).to(dtype) for mode in zip(*drawn, strict=True)]
