"""A learning rate that rises linearly and then falls along half a period of a cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from rankward.optimizers.schedule import RateSchedule

# The sine of pi x / 4 by its Taylor series: for x from 0 to 1 the remainder is below 1e-16 of it.
SINE = tuple((-1) ** n * (math.pi / 4) ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(8))


class Cosine(RateSchedule):
    """Linear warm-up from `start_factor` to 1, then a cosine from 1 to `end_factor`, which stays.

    With c = iteration - 1, W = `warmup_steps` and D = `decay_steps`, which include the warm-up, the factor is
    start_factor + (1 - start_factor) c / W for c < W, and end_factor + (1 - end_factor) (1 + cos(pi p)) / 2 with
    p = (c - W) / (D - W), at most 1, from there on. With the default `start_factor` of 0, the first of the W iterations
    does not move.

    The numbers are those of `optax.warmup_cosine_decay_schedule`, and those of torch's `LinearLR` and
    `CosineAnnealingLR` one after the other. The cosine is composed of plain arithmetic, the same in all engines.

    Args:
        warmup_steps: iterations; 0 without a warm-up.
        decay_steps: iterations, more than `warmup_steps`; None: `max_iterations`.
        start_factor, end_factor: first and last factor, from 0 to 1.
        max_iterations: of the run.

    Raises:
        ValueError: a warm-up that does not end before the decay, or neither `decay_steps` nor `max_iterations`.

    Source: Loshchilov and Hutter, "SGDR: stochastic gradient descent with warm restarts" (ICLR 2017), Equation 5.

    Example:
        >>> cosine = Cosine(warmup_steps=2, decay_steps=6)
        >>> [round(float(cosine.factor(torch.tensor(float(i)))), 4) for i in range(1, 9)]
        [0.0, 0.5, 1.0, 0.8536, 0.5, 0.1464, 0.0, 0.0]
    """

    def __init__(
        self,
        warmup_steps: int = 0,
        decay_steps: int | None = None,
        start_factor: float = 0.0,
        end_factor: float = 0.0,
        max_iterations: int | None = None,
    ) -> None:
        steps = max_iterations if decay_steps is None else decay_steps
        if steps is None:
            raise ValueError("decay_steps or max_iterations is needed")
        if not warmup_steps < steps:
            raise ValueError(f"warmup_steps {warmup_steps} must be below the {steps} steps of warm-up and decay")
        self.warmup_steps, self.decay_steps = float(warmup_steps), float(steps)
        self.rise, self.fall = 1 / max(1, warmup_steps), 1 / (steps - warmup_steps)  # so that a step does not divide
        self.start_factor, self.end_factor = float(start_factor), float(end_factor)

    def factor(self, iteration: Tensor) -> Tensor:
        done = iteration - 1
        rising = self.start_factor + (1 - self.start_factor) * (done * self.rise)
        left = (self.decay_steps - done).relu() * self.fall
        square, sine = left * left, torch.full_like(left, SINE[-1])
        for coefficient in SINE[-2::-1]:
            sine = sine * square + coefficient
        sine = sine * left
        half = sine * sine
        cosine = 4 * half * (1 - half)  # (1 + cos(pi p)) / 2, without cancellation where it is small
        falling = self.end_factor + (1 - self.end_factor) * cosine
        return torch.where(done >= self.warmup_steps, falling, rising)
