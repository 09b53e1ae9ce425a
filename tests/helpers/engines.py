"""Ensembles of chains of matrices, engines that train them, and Equation 2's descent written out in NumPy."""

import math
from fractions import Fraction

import numpy as np
import torch

from rankward.dynamics import Problem, Progress
from rankward.factorizations import MatrixFactorization
from rankward.factorizations.initialisation import Gaussian
from rankward.observations import random_matrix


def ensemble(sizes, runs, dtype=torch.float64, max_iterations=1000, stop_loss=0.0, scale=0.3, eta=(1e-3, 5e-3)):
    factorization = MatrixFactorization((sizes[-1], sizes[0]), len(sizes) - 1, list(sizes[1:-1]))
    starts = [factorization.start(Gaussian(scale), seed) for seed in range(runs)]
    factors = [torch.stack(layer).to(dtype) for layer in zip(*starts, strict=True)]
    entries = sizes[-1] * sizes[0]
    seen = [random_matrix((sizes[-1], sizes[0]), 1, max(1, entries * 2 // 3), seed=s) for s in range(runs)]
    problem = Problem(
        torch.from_numpy(np.stack([o.mask for o in seen])).to(dtype),
        torch.from_numpy(np.stack([o.values for o in seen])).to(dtype),
        torch.linspace(*eta, runs, dtype=dtype),
        torch.full((runs,), stop_loss, dtype=torch.float64),
        torch.full((runs,), max_iterations),
        torch.ones(runs, dtype=torch.float64),
    )
    return factorization, factors, problem


def picked(factors, problem, at):
    at = torch.as_tensor(at)
    return [f[at].clone() for f in factors], Problem(
        *(
            getattr(problem, name)[at]
            for name in ("operator", "values", "eta", "stop_loss", "max_iterations", "loss_scale")
        )
    )


def trained(engine, factors, problem, length=10_000):
    """Final factors, progress and every row, by run; every NaN has the same bits, which differ between processors."""
    factors = [factor.clone() for factor in factors]
    progress = Progress.start(problem.runs)
    rows = {run: [] for run in range(problem.runs)}
    while len(progress.running):
        chunk = engine.advance(factors, problem, progress, length)
        for i, run in enumerate(chunk.run.tolist()):
            rows[run].append(
                (
                    int(chunk.iteration[i]),
                    float(chunk.loss[i]),
                    *[f[i].nan_to_num(torch.nan, torch.inf, -torch.inf).numpy().tobytes() for f in chunk.factors],
                )
            )
    return factors, progress, rows


class InTurn:
    """A chunk by one engine, the next by the other."""

    def __init__(self, *engines):
        self.engines = list(engines)

    def advance(self, *arguments):
        self.engines.reverse()
        return self.engines[0].advance(*arguments)


def by_hand(factors, mask, values, eta, iterations):
    """Equation 2's gradient, written out once more in NumPy, of one run."""
    factors = [f.numpy().copy() for f in factors]
    for _ in range(iterations):
        below = [np.eye(factors[0].shape[1])]
        for factor in factors:
            below.append(factor @ below[-1])
        error = mask.numpy() * (below[-1] - values.numpy())
        above, gradients = np.eye(factors[-1].shape[0]), []
        for layer in reversed(range(len(factors))):
            gradients.insert(0, above.T @ error @ below[layer].T)
            above = above @ factors[layer]
        factors = [f - float(eta) * g for f, g in zip(factors, gradients, strict=True)]
    return factors


class OnCard:
    """An engine that is handed tensors of the processor and works on a card's."""

    def __init__(self, engine):
        self.engine = engine

    def advance(self, factors, problem, progress, length):
        on_card = [factor.cuda() for factor in factors]
        rows = self.engine.advance(on_card, problem, progress, length)
        for factor, advanced in zip(factors, on_card, strict=True):
            factor.copy_(advanced)
        rows.factors[:] = [factor.cpu() for factor in rows.factors]
        return rows


def after(schedule, iteration):
    """The iteration at which the next row is due after a row at `iteration`, in whole numbers and fractions."""
    if schedule.every:
        return iteration + schedule.every
    grown = math.ceil(Fraction(iteration * schedule.iteration_ratio) / schedule.stride) * schedule.stride
    return max(iteration + schedule.stride, grown)
