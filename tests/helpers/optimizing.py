"""Ensembles that optimizers train, and torch's own optimizers as the oracle."""

from dataclasses import replace

import torch

from rankward.dynamics import Noise, Progress, Rule
from rankward.dynamics.reference import loss
from rankward.dynamics.stepping import state_shapes
from rankward.seeding import key_words


def with_rule(problem, optimizers, batch=0, **deviations):
    """The problem of runs that these optimizers train.

    With `labels` or `gradients`, standard deviations, or a `batch`, steps have a random part; the seed of a run is its
    index.
    """
    dtype, noise = problem.eta.dtype, None
    kinds = (*deviations, *(["batch"] if batch else []))
    if kinds:
        keys = torch.tensor([key_words(seed, "noise") for seed in range(problem.runs)])
        noise = Noise(kinds, keys, torch.full((problem.runs,), batch), problem.observed.sum(1))
    numbers = [[*each.numbers, *deviations.values()] for each in optimizers]
    return replace(problem, rule=Rule(optimizers[0], torch.tensor(numbers, dtype=dtype), noise))


def picked(factors, problem, at):
    """Some runs of an ensemble."""
    at = torch.as_tensor(at)
    names = ("operator", "values", "eta", "stop_loss", "max_iterations", "loss_scale")
    noise = problem.rule and problem.rule.noise
    if noise is not None:
        noise = Noise(noise.kinds, noise.keys[at], noise.batch[at], noise.observed[at])
    rule = problem.rule and Rule(problem.rule.optimizer, problem.rule.numbers[at], noise)
    chosen = {name: getattr(problem, name)[at] for name in names}
    return [factor[at].clone() for factor in factors], replace(problem, **chosen, rule=rule)


def optimized(engine, factors, problem, length=10_000, break_after=None):
    """Final factors, progress and rows by run; the progress is stored and loaded after so many chunks."""
    factors = [factor.clone() for factor in factors]
    shapes = [tuple(factor.shape[1:]) for factor in factors]
    numbers = sum(map(torch.Size.numel, map(torch.Size, state_shapes(problem.rule.optimizer, shapes))))
    progress = Progress.start(problem.runs, numbers)
    rows = {run: [] for run in range(problem.runs)}
    chunks = 0
    while len(progress.running):
        chunk = engine.advance(factors, problem, progress, length)
        chunks += 1
        if chunks == break_after:
            progress = Progress(**{name: value.clone() for name, value in progress.state_dict().items()})
        for i, run in enumerate(chunk.run.tolist()):
            values = [int(chunk.iteration[i]), float(chunk.loss[i])]
            rows[run].append((*values, *(f[i].numpy().tobytes() for f in chunk.factors)))
    return factors, progress, rows


def by_torch(factorization, factors, problem, run, make, iterations):
    """Factors of one run after so many steps of torch's optimizer `make(parameters, lr=...)`."""
    weights = [factor[run].clone().requires_grad_() for factor in factors]
    steps = make(weights, lr=float(problem.eta[run]))
    for _ in range(iterations):
        steps.zero_grad()
        (
            problem.loss_scale[run] * loss(factorization.product(weights), problem.operator[run], problem.values[run])
        ).backward()
        steps.step()
    return [weight.detach() for weight in weights]
