"""Compare tensor factorization with its peers: microseconds per run and iteration, ratios, and share of the GEMM peak.

python -m benchmarks.tensors            about three minutes
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch

from benchmarks.commands import timed
from benchmarks.peers import completions
from rankward.dynamics import Adaptive, FusedEngine, Problem, Progress, Schedule
from rankward.dynamics.products import cp_tensors
from rankward.factorizations import Components, TensorFactorization
from rankward.metrics.functional import cp_rank

ORDERS = {"8x8x8": (51, 256, 511), "8x8x8x8": (410, 2000, 4095)}


def train(p: completions.Arrays, iterations: int, threads: int) -> list[torch.Tensor]:
    """Final factors of the peers' problem; stops looked at, rows recorded."""
    factors = [torch.from_numpy(f.copy()) for f in p["factors"]]
    runs, dtype = len(factors[0]), factors[0].dtype
    many = torch.ones(runs, dtype=dtype)
    fixed = Problem(
        torch.from_numpy(p["mask"]), torch.from_numpy(p["values"]), completions.ETA * many,
        torch.zeros(runs, dtype=torch.float64), torch.full((runs,), iterations),
        torch.full((runs,), 2 / p["count"], dtype=torch.float64),
        Adaptive(completions.BETA * many, completions.EPS * many),
    )  # fmt: skip
    factorization = TensorFactorization(tuple(p["mask"].shape[1:]), factors[0].shape[-1])
    engine = FusedEngine(factorization, Schedule(stride=100, stop_checks=3), threads)
    progress = Progress.start(runs)
    while len(progress.running):
        engine.advance(factors, fixed, progress, max(100, iterations // 100 * 100))
    return factors


def ours(p: completions.Arrays, threads: int) -> float:
    """Median microseconds a run-iteration."""
    runs = len(p["mask"])
    train(p, 100, threads)
    start = time.perf_counter()
    train(p, 100, threads)
    iterations = max(100, int(100 * 0.7 / (time.perf_counter() - start)) // 100 * 100)
    times = []
    for _ in range(3):
        start = time.perf_counter()
        train(p, iterations, threads)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / iterations / runs * 1e6


def peer(*arguments: object, cores: int = 1) -> float:
    """The output of a peer in a separate process that may use so many cores."""
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "OMP_NUM_THREADS": str(cores),
        "OPENBLAS_NUM_THREADS": str(cores),
    }
    code = (
        f"import os, runpy, sys; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])\n"
        f"sys.argv = ['completions', *{list(map(str, arguments))!r}]\n"
        "runpy.run_module('benchmarks.peers.completions', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return float(done.stdout.split()[-1])


def agreement() -> None:
    p = completions.problem((4, 5, 3), 20, 2, "float64", scale=0.5)
    mine, loop, jax = train(p, 200, 1), completions.autograd_loop(p, 200), completions.jax_descent(p, 200)
    for name, theirs in (("the autograd loop", loop), ("JAX", [f[0] for f in jax])):
        worst = max(np.abs(m[0].numpy() - t).max() for m, t in zip(mine, theirs, strict=True))
        print(f"after 200 iterations, largest difference from {name}: {worst:.1e}")


def iterations() -> None:
    print("\nmicroseconds a run-iteration; peak: what three products of halves take at one core's best GEMM, over ours")
    head = f"{'':>9} {'dtype':>8} {'seen':>5} {'1 run':>7} {'peak':>5} {'10 runs':>8} {'2 cores':>8}"
    print(f"{head} {'autograd':>9} {'JAX 1':>7} {'JAX 10':>7} {'2 cores':>8} {'JAX 1/ours':>11} {'JAX 10/ours':>12}")
    for dtype in ("float32", "float64"):
        peak = peer("gemm", dtype)
        for sizes, counts in ORDERS.items():
            dims = tuple(map(int, sizes.split("x")))
            rest = sizes, counts[-1]  # theirs do the same work for any count
            theirs = [peer("autograd", *rest, 1, dtype), peer("jax", *rest, 1, dtype)]
            theirs += [peer("jax", *rest, 10, dtype, cores=cores) for cores in (1, 2)]
            for count in counts:
                one, ten = (completions.problem(dims, count, runs, dtype) for runs in (1, 10))
                alone, single, double = ours(one, 1), ours(ten, 1), ours(ten, 2)
                operations = 6 * np.prod(dims) * (np.prod(dims) // max(dims))
                row = f"{sizes:>9} {dtype:>8} {count:5} {alone:7.2f} {operations / alone * 1e6 / peak:5.0%}"
                row += (
                    f" {single:8.2f} {double:8.2f} {theirs[0]:9.0f} {theirs[1]:7.1f} {theirs[2]:7.1f} {theirs[3]:8.1f}"
                )
                print(f"{row} {theirs[1] / alone:11.1f} {min(theirs[2:]) / double:12.1f}", flush=True)


def ranks() -> None:
    rng = torch.Generator().manual_seed(0)
    for dims, components in (((8, 8, 8), 64), ((8, 8, 8, 8), 512)):
        factors = [torch.randn(100, dim, components, generator=rng) for dim in dims]
        start = time.perf_counter()
        cp_tensors(Components(dims, components), factors)
        made = time.perf_counter() - start
        low = [torch.randn(100, dim, 2, generator=rng, dtype=torch.float64) for dim in dims]
        tensors = cp_tensors(Components(dims, 2), low)
        cp_rank(tensors[:1])
        start = time.perf_counter()
        cp_rank(tensors / tensors.flatten(1).norm(dim=1).reshape(-1, *[1] * len(dims)))
        seconds = time.perf_counter() - start
        print(f"order {len(dims)}: 100 tensors in {made * 1e3:.0f} ms, ranks of 100 of rank 2 in {seconds:.2f} s")


def command() -> None:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("figure2_order3", "figure2"):
            print(f"rankward -m experiment={name}: {timed(folder, '-m', f'experiment={name}')[0]:.0f} s", flush=True)


if __name__ == "__main__":
    agreement()
    iterations()
    ranks()
    command()
