"""Measure the GPU engines: nanoseconds per run and iteration, share of the peak, and figures against the CPU.

python -m benchmarks.gpu            everything; needs an NVIDIA card
python -m benchmarks.gpu --quick    fewer runs
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks import peers
from rankward.dynamics import BatchedEngine, CudaEngine, Engine, FusedEngine, Problem, Progress, Schedule
from rankward.dynamics.tracing import trace
from rankward.factorizations import Factorization, MatrixFactorization, TensorFactorization

QUICK = "--quick" in sys.argv
FIGURES = ("figure1", "phase_diagram", "figure2")


def seconds(engine: Engine, factors: list[torch.Tensor], problem: Problem, iterations: int) -> float:
    """The best of three, after a first call that compiles."""
    times = []
    for _ in range(4):
        own, progress = [factor.clone() for factor in factors], Progress.start(problem.runs)
        torch.cuda.synchronize()
        started = time.perf_counter()
        while len(progress.running):
            engine.advance(own, problem, progress, iterations)
        torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times[1:])


def problem_of(mask: torch.Tensor, values: torch.Tensor, eta: float, iterations: int) -> Problem:
    runs = len(mask)
    ones = torch.ones(runs, dtype=mask.dtype)
    limits = torch.full((runs,), iterations)
    return Problem(mask, values, eta * ones, torch.zeros(runs, dtype=torch.float64), limits, ones.double())


Maker = Callable[[Factorization, Schedule], Engine]


FEW_ROWS, MANY_ROWS = Schedule(stride=1000, every=10_000), Schedule()  # of a run: 2; 110 to 200


def chain(runs: int, depth: int, iterations: int, make: Maker, card: bool, schedule: Schedule) -> float:
    """Nanoseconds a run-iteration of 2x2 matrices."""
    p = peers.problem(runs, depth, 2, scale=0.3)
    factors = [torch.from_numpy(p["factors"][:, layer].copy()) for layer in range(depth)]
    mask, values = (torch.from_numpy(p[name].copy()) for name in ("mask", "values"))
    fixed = problem_of(mask, values, 1e-3, iterations)
    engine = make(MatrixFactorization((2, 2), depth), schedule)
    return seconds(engine, [f.cuda() if card else f for f in factors], fixed, iterations) / (runs * iterations) * 1e9


def tensors(runs: int, iterations: int) -> tuple[float, float]:
    """Nanoseconds a run-iteration of 8x8x8 tensors with 64 components, on the card and on the processor."""
    random = torch.Generator().manual_seed(0)
    factors = [0.1 * torch.randn(runs, 8, 64, dtype=torch.float64, generator=random) for _ in range(3)]
    mask = (torch.rand(runs, 8, 8, 8, generator=random) < 0.3).double()
    fixed = problem_of(mask, mask * torch.randn(runs, 8, 8, 8, dtype=torch.float64, generator=random), 1e-3, iterations)
    kind, schedule = TensorFactorization((8, 8, 8), 64), Schedule(stride=100)
    card = seconds(BatchedEngine(kind, schedule), [factor.cuda() for factor in factors], fixed, iterations)
    here = seconds(FusedEngine(kind, schedule), factors, fixed, iterations)
    return card / (runs * iterations) * 1e9, here / (runs * iterations) * 1e9


def float64_peak() -> float:
    """Operations a second, unfused: one a clock of each float64 unit, of which a data card's processors have 64."""
    properties = torch.cuda.get_device_properties(0)
    clock = getattr(properties, "clock_rate", None)
    return properties.multi_processor_count * 64 * clock * 1e3 if clock else np.nan


def figure(name: str, trainer: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        command = [sys.executable, "-m", "rankward", "-m", f"experiment={name}", f"trainer={trainer}", "logger=none"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started


def main() -> None:
    if not torch.cuda.is_available():
        sys.exit("benchmarks.gpu: no CUDA device is to be seen here")
    print(torch.cuda.get_device_name(0))
    peak = float64_peak()
    for depth in (2, 3, 4, 6):
        kind = MatrixFactorization((2, 2), depth)
        work = trace(kind.product, kind.shapes, (2, 2), (2, 2), "float64").operations  # of the loss and its gradients
        for schedule, rows in ((FEW_ROWS, "a row at each end"), (MANY_ROWS, "logarithmic rows")):
            here = chain(10_000, depth, 10_000, FusedEngine, False, schedule)
            print(f"depth {depth}, {rows}: processor {here:.2f} ns a run-iteration (10,000 runs)")
            for runs in (10**3, 10**4, 10**5) if QUICK or schedule is MANY_ROWS else (10**3, 10**4, 10**5, 10**6):
                there = chain(runs, depth, 10_000, CudaEngine, True, schedule)
                print(
                    f"  {runs:>9,} runs: {there:.4f} ns, {here / there:.1f} times the processor, "
                    f"{work / there * 1e9 / peak:.0%} of the float64 peak"
                )
    for runs in (100, 1000):
        card, here = tensors(runs, 1000)
        print(f"tensors 8x8x8, {runs} runs: {card:.0f} ns, processor {here:.0f} ns, {here / card:.1f} times")
    for name in FIGURES[:1] if QUICK else FIGURES:
        there, here = figure(name, "gpu"), figure(name, "cpu")
        print(f"{name}: {there:.1f} s, processor {here:.1f} s")


if __name__ == "__main__":
    main()
