"""Measure the seconds that gradient flow and the nuclear-norm baseline take, and compare them with SciPy's.

python -m benchmarks.flow            about a minute
"""

from __future__ import annotations

import time

import numpy as np
import torch
from scipy.integrate import solve_ivp

from rankward.dynamics import Flow, FusedEngine, Problem, Progress, Schedule
from rankward.factorizations import MatrixFactorization
from rankward.factorizations.initialisation import Balanced
from rankward.observations import random_matrix
from rankward.theory.baselines import nuclear_completion

DEPTH, SCALE, STOP = 3, 1e-6, 1e-4


def start(runs: int) -> list[torch.Tensor]:
    drawn = [Balanced(SCALE, "positive").draw((2,) * (DEPTH + 1), seed) for seed in range(runs)]
    return [torch.stack(layer) for layer in zip(*drawn, strict=True)]


def ours(runs: int, stop: float) -> tuple[float, int]:
    """Seconds and accepted steps."""

    def full(value: float) -> torch.Tensor:
        return torch.full((runs,), value, dtype=torch.float64)

    factors, progress = start(runs), Progress.start(runs)
    mask, values = (
        torch.tensor(x, dtype=torch.float64).repeat(runs, 1, 1) for x in ([[0, 1], [1, 1]], [[0, 1], [1, 0]])
    )
    flow = Flow(full(1e-10), full(1e-13), full(torch.inf))
    problem = Problem(mask, values, full(0.0), full(stop), torch.full((runs,), 10**9), full(1.0), flow=flow)
    engine = FusedEngine(MatrixFactorization((2, 2), DEPTH), Schedule(stride=1))
    began = time.perf_counter()
    while len(progress.running):
        engine.advance(factors, problem, progress, 100_000)
    return time.perf_counter() - began, int(progress.iteration.sum())


def scipy_radau(stop: float) -> float:
    """Seconds of one run by SciPy's implicit method at the same tolerance, with a numerical Jacobian."""

    def slope(_: float, y: np.ndarray) -> np.ndarray:
        w_1, w_2, w_3 = y.reshape(3, 2, 2)
        error = w_3 @ w_2 @ w_1 - [[0, 1], [1, 0]]
        error[0, 0] = 0
        return -np.stack([w_2.T @ w_3.T @ error, w_3.T @ error @ w_1.T, error @ w_1.T @ w_2.T]).ravel()

    def below(_: float, y: np.ndarray) -> float:
        w_1, w_2, w_3 = y.reshape(3, 2, 2)
        error = w_3 @ w_2 @ w_1 - [[0, 1], [1, 0]]
        error[0, 0] = 0
        return float(0.5 * (error**2).sum() - stop)

    below.terminal = True  # type: ignore[attr-defined]
    y = torch.cat([f[0].flatten() for f in start(1)]).numpy()
    began = time.perf_counter()
    solve_ivp(slope, (0, 1e9), y, method="Radau", rtol=1e-10, atol=1e-13, events=below)
    return time.perf_counter() - began


def main() -> None:
    ours(1, 0.1), ours(100, 0.1)  # compiles
    print(f"depth {DEPTH}, init {SCALE:g}, to a loss of {STOP:g}")
    for runs in (1, 100):
        seconds, steps = ours(runs, STOP)
        print(f"{runs:4} flows: {seconds:6.2f} s, {seconds / steps * 1e9:6.1f} ns an accepted step")
    seconds, _ = ours(1, 1e-2)
    print(f"one flow to 1e-2: SciPy's Radau takes {scipy_radau(1e-2) / seconds:.0f} times as long")
    for count in (1500, 3000):
        seen = random_matrix((100, 100), 5, count)
        began = time.perf_counter()
        found = nuclear_completion(seen.mask[None], seen.values[None])
        print(
            f"least nuclear norm, 100x100, {count} entries: {time.perf_counter() - began:.2f} s, gap {found.gap[0]:.0e}"
        )


if __name__ == "__main__":
    main()
