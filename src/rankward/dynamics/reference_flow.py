"""Gradient flow (Equation 4) in plain torch: the Runge-Kutta steps of one run, as in the compiled engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rankward.dynamics.kernels.tableau import DORMAND_PRINCE
from rankward.dynamics.state import Problem, Progress

Downhill = Callable[[Tensor], tuple[Tensor, float]]  # from all parameters in one vector to -gradient and loss
STOP_TOLERANCE = 1e-10  # a flow ends at most this far (relative) below its stopping loss


class Stepper:
    """One run between two accepted steps.

    Args:
        downhill: from all parameters to the negative gradient of the loss, and the loss.
        start: [parameters] float64.
        run: its index in `problem` and `progress`, which hold the time and step size to start with.
    """

    def __init__(self, downhill: Downhill, start: Tensor, run: int, problem: Problem, progress: Progress) -> None:
        assert problem.flow is not None
        flow = problem.flow
        self.downhill, self.point, self.run, self.progress = downhill, start, run, progress
        self.decay = 0.0 if flow.decay is None else float(flow.decay[run])
        self.rtol, self.atol = float(flow.rtol[run]), float(flow.atol[run])
        self.stop, self.max_time = float(problem.stop_loss[run]), float(flow.max_time[run])
        self.time, self.step = float(progress.time[run]), float(progress.step[run])
        self.error, self.closing = float(progress.error[run]), bool(progress.closing[run])
        self.direction, self.loss = self.direction_at(start)
        if not self.step > 0:
            self.step = self._first_step()
        self.step = min(self.step, self.max_time - self.time)

    @property
    def over(self) -> bool:
        """Whether the time has reached `max_time`."""
        return self.time >= self.max_time * (1 - 1e-15)

    @property
    def stuck(self) -> bool:
        """Whether no step is short enough, as with gradients that are not finite."""
        return not (self.over or self.step > 1e-100)

    def direction_at(self, point: Tensor) -> tuple[Tensor, float]:
        """The direction of the flow, with weight decay, and the loss, which has no term for it."""
        direction, loss = self.downhill(point)
        return (direction - self.decay * point if self.decay else direction), loss

    def save(self) -> None:
        """Write the state that the next chunk needs into `progress`."""
        for name in ("time", "step", "error", "closing"):
            getattr(self.progress, name)[self.run] = float(getattr(self, name))

    def _first_step(self) -> float:
        unit = self.atol + self.rtol * self.point.abs()
        size, speed = float((self.point / unit).norm()), float((self.direction / unit).norm())
        guess = 0.01 * size / speed if speed > 0 else math.inf
        return min(guess if guess > 0 else 1e-6, 1.0)

    def accept(self) -> None:
        """Try steps until one is accepted, or none is short enough."""
        while not self.stuck and not self._try():
            pass

    def _try(self) -> bool:
        stages = [self.direction]
        for row in DORMAND_PRINCE.stages:
            trial = self.point + self.step * _combined(row, stages)
            direction, loss = self.direction_at(trial)
            stages.append(direction)
        unit = self.atol + self.rtol * torch.maximum(self.point.abs(), trial.abs())
        scaled_error = self.step * _combined(DORMAND_PRINCE.error, stages) / unit
        error = float((scaled_error * scaled_error).mean().sqrt())
        root = max(error, 1e-12) ** 0.125
        if not error <= 1:
            factor = 0.9 / root
            self.step *= max(0.2, min(5.0, factor)) if math.isfinite(factor) else 0.2
            return False
        target = self.stop * (1 - STOP_TOLERANCE / 2)
        if loss < self.stop * (1 - STOP_TOLERANCE):
            self.closing = True
            self.step *= (self.loss - target) / (self.loss - loss)
            self._limit_step(target)
            return False
        self.time += self.step
        self.point, self.direction, self.loss = trial, stages[-1], loss
        self.step = min(self.step * max(0.2, min(5.0, 0.9 * math.sqrt(self.error) / root)), 1e15)
        self.error = root
        self._limit_step(target)
        return True

    def _limit_step(self, target: float) -> None:
        """Limit the step to Newton's step once a step has overshot the stopping loss, and to the remaining time."""
        if self.closing:
            gradient = self.direction + self.decay * self.point if self.decay else self.direction
            speed = float((gradient * self.direction).sum())
            if speed > 0:  # with weight decay the loss may rise
                self.step = min(self.step, (self.loss - target) / speed)
        self.step = min(self.step, self.max_time - self.time)


def _combined(weights: Sequence[object], stages: Sequence[Tensor]) -> Tensor:
    return torch.stack([float(w) * k for w, k in zip(weights, stages, strict=True)]).sum(0)  # type: ignore[arg-type]
