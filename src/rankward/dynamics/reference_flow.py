"""Gradient flow (Equation 4) in plain torch: one run's Runge-Kutta steps, the same as the compiled engine's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from rankward.dynamics.kernels.tableau import DORMAND_PRINCE
from rankward.dynamics.state import Problem, Progress

Slopes = Callable[[Tensor], tuple[Tensor, float]]  # of all parameters in one vector, and the loss
CLOSE = 1e-10  # a flow ends at most so far (relative) below its stop


class Stepper:
    """One run between two accepted steps.

    Args:
        slopes: from all parameters to the direction of the flow and the loss.
        start: [parameters] float64.
        run: its place in `problem` and `progress`, from which it takes up time and step size.
    """

    def __init__(self, slopes: Slopes, start: Tensor, run: int, problem: Problem, progress: Progress) -> None:
        assert problem.flow is not None
        flow = problem.flow
        self.slopes, self.point, self.run, self.progress = slopes, start, run, progress
        self.rtol, self.atol = float(flow.rtol[run]), float(flow.atol[run])
        self.stop, self.max_time = float(problem.stop_loss[run]), float(flow.max_time[run])
        self.time, self.step = float(progress.time[run]), float(progress.step[run])
        self.error, self.closing = float(progress.error[run]), bool(progress.closing[run])
        self.slope, self.loss = slopes(start)
        if not self.step > 0:
            self.step = self._first_step()
        self.step = min(self.step, self.max_time - self.time)

    @property
    def over(self) -> bool:
        """Whether its time is."""
        return self.time >= self.max_time * (1 - 1e-15)

    @property
    def stuck(self) -> bool:
        """Whether no step is short enough: slopes that are not finite."""
        return not (self.over or self.step > 1e-100)

    def save(self) -> None:
        """Put what the next chunk needs into `progress`."""
        for name in ("time", "step", "error", "closing"):
            getattr(self.progress, name)[self.run] = float(getattr(self, name))

    def _first_step(self) -> float:
        unit = self.atol + self.rtol * self.point.abs()
        size, speed = float((self.point / unit).norm()), float((self.slope / unit).norm())
        guess = 0.01 * size / speed if speed > 0 else math.inf
        return min(guess if guess > 0 else 1e-6, 1.0)

    def accept(self) -> None:
        """Try steps until one is accepted, or none is short enough."""
        while not self.stuck and not self._try():
            pass

    def _try(self) -> bool:
        stages = [self.slope]
        for row in DORMAND_PRINCE.stages:
            trial = self.point + self.step * _combined(row, stages)
            slope, loss = self.slopes(trial)
            stages.append(slope)
        unit = self.atol + self.rtol * torch.maximum(self.point.abs(), trial.abs())
        wrong = self.step * _combined(DORMAND_PRINCE.error, stages) / unit
        error = float((wrong * wrong).mean().sqrt())
        now = max(error, 1e-12) ** 0.125
        if not error <= 1:
            factor = 0.9 / now
            self.step *= max(0.2, min(5.0, factor)) if math.isfinite(factor) else 0.2
            return False
        aim = self.stop * (1 - CLOSE / 2)
        if loss < self.stop * (1 - CLOSE):
            self.closing = True
            self.step *= (self.loss - aim) / (self.loss - loss)
            self._come_near(aim)
            return False
        self.time += self.step
        self.point, self.slope, self.loss = trial, stages[-1], loss
        self.step = min(self.step * max(0.2, min(5.0, 0.9 * math.sqrt(self.error) / now)), 1e15)
        self.error = now
        self._come_near(aim)
        return True

    def _come_near(self, aim: float) -> None:
        """No longer a step than Newton's, once one has jumped over the stop; nor beyond the end of time."""
        if self.closing:
            self.step = min(self.step, (self.loss - aim) / float((self.slope * self.slope).sum()))
        self.step = min(self.step, self.max_time - self.time)


def _combined(weights: Sequence[object], slopes: Sequence[Tensor]) -> Tensor:
    return torch.stack([float(w) * k for w, k in zip(weights, slopes, strict=True)]).sum(0)  # type: ignore[arg-type]
