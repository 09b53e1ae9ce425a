"""Compare user-defined factorizations with JAX and the autograd loop: nanoseconds per run and iteration, and ratios.

python -m benchmarks.factorizations             everything, about three minutes
python -m benchmarks.factorizations --quick     one number of runs for each
python -m benchmarks.factorizations --busy      processor time on one core, for a machine that has other work
python -m benchmarks.factorizations forms       written out, or as instructions: speed and compile time by operations
python -m benchmarks.factorizations trees       hierarchical tensors of the published size, beside matrix products
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.peers import products
from rankward.dynamics import FusedEngine, Problem, Progress, Schedule
from rankward.dynamics.cp import Plan
from rankward.dynamics.layouts import ComponentsLayout, GraphLayout, Layout, layout_of
from rankward.factorizations import Factorization, HierarchicalFactorization, TensorFactorization
from rankward.factorizations.initialisation import Initialisation
from rankward.parallel import side_by_side

QUICK, BUSY = "--quick" in sys.argv, "--busy" in sys.argv
CLOCK, CORES = ("process_time", 1) if BUSY else ("perf_counter", 2)  # a function of `time`
ROOT = Path(__file__).resolve().parents[1]
RUNS = (64,) if QUICK else (1, 8, 64, 1000)
SECONDS = 0.1 if QUICK else 0.25  # of each try


class Own(Factorization):
    """A factorization as a user writes one: shapes and a product."""

    def __init__(self, kind: products.Kind) -> None:
        self.kind = kind

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return list(self.kind.shapes)

    def start(self, init: Initialisation, seed: int) -> list[Tensor]:
        raise NotImplementedError  # factors are given here

    def product(self, factors: Sequence[Tensor]) -> Tensor:
        made: Tensor = self.kind.product(factors, torch)
        return made


def train(
    factorization: Factorization, p: products.Arrays, iterations: int, threads: int, batch: int = 0
) -> list[Tensor]:
    """Final factors of the peers' problem, or of its first runs; stops looked at, rows recorded."""
    batch = batch or len(p["mask"])
    factors = [torch.from_numpy(factor[:batch].copy()) for factor in p["factors"]]
    one = torch.ones(batch, dtype=torch.float64)
    mask, values = (torch.from_numpy(p[name][:batch]) for name in ("mask", "values"))
    problem = Problem(mask, values, products.ETA * one.to(mask.dtype), 0 * one, torch.full((batch,), iterations), one)
    engine, progress = FusedEngine(factorization, Schedule(), threads), Progress.start(batch)
    while len(progress.running):
        engine.advance(factors, problem, progress, iterations)
    return factors


def nanoseconds(factorization: Factorization, p: products.Arrays, threads: int, clock: str = CLOCK) -> float:
    """The least time a run-iteration of three tries."""
    now, batch = getattr(time, clock), len(p["mask"])
    train(factorization, p, 50, threads)
    start = now()
    train(factorization, p, 200, threads)
    iterations = 50 * max(4, int(4 * SECONDS / max(1e-6, now() - start)))
    times = []
    for _ in range(3):
        start = now()
        train(factorization, p, iterations, threads)
        times.append(now() - start)
    return float(min(times) / iterations / batch * 1e9)


def peer(name: str, kind: str, batch: int, cores: int) -> float | None:
    """Measure a peer in a separate process that may use so many cores; None if the peer is not installed."""
    if name == "jax" and importlib.util.find_spec("jax") is None:
        return None
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={cores}"
    own = {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(cores)}
    code = (
        f"import os, runpy, sys; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])\n"
        f"sys.argv = ['products', {name!r}, {kind!r}, '{batch}', '{cores}', {CLOCK!r}]\n"
        "runpy.run_module('benchmarks.peers.products', run_name='__main__')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | own, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"peer {name}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def first_use(kind: str) -> float:
    """Seconds until the first fifty iterations of a run are made, in a process whose cache of kernels is empty."""
    code = (
        "import time\nfrom benchmarks import factorizations, peers\nfrom benchmarks.peers import products\n"
        "import rankward.dynamics.kernels.lanes\n"
        f"kind = products.KINDS[{kind!r}]\np = products.problem(kind, 1)\nstart = time.{CLOCK}()\n"
        "factorizations.train(factorizations.Own(kind), p, 50, 1)\n"
        f"print(time.{CLOCK}() - start)"
    )
    with tempfile.TemporaryDirectory() as folder:
        own = os.environ | {"RANKWARD_CACHE": folder}
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, env=own, capture_output=True, text=True, check=True
        )
    return float(done.stdout.split()[-1])


def agreement() -> None:
    """The largest difference from the autograd loop, and from JAX where it is installed, over all factorizations."""
    ours_loop, ours_jax = 0.0, 0.0
    with_jax = importlib.util.find_spec("jax") is not None
    for kind in products.KINDS.values():
        p = products.problem(kind, 2)
        ours = train(Own(kind), p, 200, 1)
        for mine, theirs in zip(ours, products.autograd_loop(kind, p, 200), strict=True):
            ours_loop = max(ours_loop, float((mine[0] - torch.from_numpy(theirs)).abs().max()))
        if with_jax:
            for mine, theirs in zip(ours, products.jax_descent(kind, p, 200), strict=True):
                ours_jax = max(ours_jax, float((mine - torch.from_numpy(theirs)).abs().max()))
    print(f"after 200 iterations, largest difference from the autograd loop: {ours_loop:.1e}")
    print(f"and from JAX: {ours_jax:.1e}" if with_jax else "JAX is not installed: it is left out")


def table() -> None:
    print("\nprocessor time, one core" if BUSY else "\nby the clock")
    print("ns a run-iteration, float64, each run its own mask, stops looked at and rows recorded on our side")
    print("first use: seconds to trace, compile and begin, no kernel in the cache")
    print(f"{'':32} {'operations':>10} {'form':>9} {'first use':>9}", end="")
    print(f" {'runs':>5} {'1 core':>8} {'2 cores':>8} {f'JAX, {CORES}':>11} {'JAX/ours':>8} {'autograd/ours':>13}")
    for name, kind in products.KINDS.items():
        own, head = Own(kind), ""
        layout = layout_of(own, kind.dims, kind.dims, "float64")
        assert isinstance(layout, GraphLayout)
        head = f"{name:32} {layout.graph.operations:10} {layout.form:>9} {first_use(name):9.1f}"
        loop = peer("autograd", name, 1, 1)
        assert loop is not None
        for batch in RUNS:
            p = products.problem(kind, batch)
            times = [nanoseconds(own, p, cores) for cores in range(1, CORES + 1)]
            jax = peer("jax", name, batch, CORES)
            row = f"{head:63} {batch:5} {times[0]:8.1f} " + (f"{times[1]:8.1f}" if CORES > 1 else f"{'':8}")
            row += f" {jax:11.1f} {jax / min(times):8.1f}" if jax is not None else f" {'':11} {'':8}"
            print(f"{row} {loop / min(times):13,.0f}", flush=True)
            head = ""


def with_layout(factorization: Factorization, dims: tuple[int, ...], layout: Layout) -> Factorization:
    """A factorization that is trained in a layout of one's choice."""
    factorization.__dict__["_layouts"] = {(dims, dims, "float64"): layout}
    return factorization


def components() -> None:
    """The kernel of CP tensors beside the one that is derived for them; processor time, one thread."""
    print("\nCP tensors, ns a run-iteration on one core (processor time): their own kernel, and the derived one")
    print(f"{'':24} {'operations':>10} {'form':>9} {'runs':>5} {'own':>10} {'derived':>10} {'derived/own':>11}")
    cases = [((2, 2, 2), 4), ((3, 3, 3), 4), ((3, 3, 3), 9), ((4, 4, 4), 4), ((4, 4, 4), 16), ((6, 6, 6), 12),
             ((8, 8, 8), 8), ((8, 8, 8), 64), ((4, 4, 4, 4), 16), ((8, 8, 8, 8), 512)]  # fmt: skip
    for dims, count in cases[4:8:3] if QUICK else cases:
        kind = products.components(dims, count)
        plain = Own(kind)
        layout = layout_of(plain, dims, dims, "float64")
        assert isinstance(layout, GraphLayout)
        special = with_layout(
            TensorFactorization(dims, count), dims, ComponentsLayout(Plan(dims, count, "float64"), "float64")
        )
        for batch in (64,) if QUICK else (1, 64) if count < 512 else (1,):
            p = products.problem(kind, batch)
            mine, derived = (nanoseconds(each, p, 1, "process_time") for each in (special, plain))
            name = f"{'x'.join(map(str, dims))}, {count} components"
            print(
                f"{name:24} {layout.graph.operations:10} {layout.form:>9} {batch:5} {mine:10.1f} {derived:10.1f} "
                f"{derived / mine:11.2f}",
                flush=True,
            )


def forms() -> None:
    """Measure processor time on one thread to justify the limit of operations of unrolled kernels."""
    print("\nwritten out / as instructions: ns a run-iteration on one core (processor time), and seconds to compile")
    print(f"{'':28} {'operations':>10} {'compile':>8} {'1 run':>17} {'64 runs':>17}")
    cases = {f"chain {d}x{d}, depth {depth}": products.chain(d, depth)
             for d, depth in ((3, 3), (4, 3), (4, 4), (5, 3), (5, 4), (6, 3), (7, 3))}  # fmt: skip
    cases |= {f"Tucker {d}x{d}x{d}, core {core}": products.tucker(d, core)
              for d, core in ((3, 2), (4, 2), (4, 3), (5, 2), (5, 3), (6, 3))}  # fmt: skip
    for name, kind in cases.items():
        times: dict[str, list[float]] = {}
        compiling, operations = 0.0, 0
        for form in ("unrolled", "blocked"):
            own = Own(kind)
            layout = layout_of(own, kind.dims, kind.dims, "float64")
            assert isinstance(layout, GraphLayout)
            layout.form, operations = form, layout.graph.operations
            start = time.process_time()
            train(own, products.problem(kind, 1), 50, 1)
            compiling = compiling or time.process_time() - start
            times[form] = [nanoseconds(own, products.problem(kind, batch), 1, "process_time") for batch in (1, 64)]
        row = f"{name:28} {operations:10} {compiling:8.1f}"
        for out, instructions in zip(times["unrolled"], times["blocked"], strict=True):
            row += f" {out:8.1f} {instructions:8.1f}"
        print(row, flush=True)


def trees() -> None:
    """Order 4, dimensions 8, widths 512, float32: iterations between matrix products of NumPy.

    On a machine that has other work, compare within a row: its three parts are measured one after the other, with
    --busy in processor time on one core.
    """
    clock = "processor time" if BUSY else "by the clock"
    print(f"\nhierarchical 8x8x8x8, widths 512, float32, {clock}: one run on each core")
    print(f"{'cores':>5} {'ms an iteration':>15} {'Gop/s a core':>12} {'NumPy, 1024^3':>13} {'64x512x512':>10}", end="")
    print(f" {'of 1024^3':>9} {'eager torch, ms':>15}")
    made = HierarchicalFactorization((8,) * 4)
    kind = products.Kind(made.shapes, made.dims, lambda factors, _: made.product(factors))
    layout = layout_of(made, kind.dims, kind.dims, "float32")
    assert isinstance(layout, GraphLayout)
    now = getattr(time, CLOCK)
    for cores in (1, CORES)[:CORES] * (1 if QUICK else 5):
        p = products.problem(kind, cores)
        p = {"factors": [0.1 * f.astype(np.float32) for f in p["factors"]], "mask": np.float32(p["mask"]),
             "values": np.float32(p["values"])}  # fmt: skip
        train(made, p, 50, cores)
        start = now()
        train(made, p, 200, cores)
        ours = (now() - start) / 200
        rate = layout.graph.operations / ours / 1e9
        peak, alike = multiplied(1024, 1024, 1024, cores), multiplied(64, 512, 512, cores)
        row = f"{cores:5} {1e3 * ours:15.2f} {rate:12.0f} {peak:13.0f} {alike:10.0f} {rate / peak:9.2f}"
        print(f"{row} {1e3 * eager(made, p):15.2f}" if cores == 1 else row, flush=True)


def multiplied(rows: int, inner: int, columns: int, cores: int) -> float:
    """Billions of operations a second and core of float32 matrix products in NumPy, one stream of them on each core."""
    times = max(1, 10**10 // (2 * rows * inner * columns))
    factors = np.ones((rows, inner), np.float32), np.ones((inner, columns), np.float32)

    def work() -> None:
        out = np.empty((rows, columns), np.float32)
        for _ in range(times):
            np.dot(*factors, out)

    now = getattr(time, CLOCK)
    with threadpool_limits(1, user_api="blas"):
        start = now()
        side_by_side(cores, work)
        return 2e-9 * rows * inner * columns * times / (now() - start)


def eager(factorization: Factorization, p: products.Arrays) -> float:
    """Seconds an iteration of an autograd loop of one run in torch, on one thread."""
    now, threads = getattr(time, CLOCK), torch.get_num_threads()
    torch.set_num_threads(1)
    factors = [torch.from_numpy(factor[0].copy()).requires_grad_() for factor in p["factors"]]
    mask, values = torch.from_numpy(p["mask"][0]), torch.from_numpy(p["values"][0])
    optimizer = torch.optim.SGD(factors, lr=products.ETA)
    for iteration in range(60):
        if iteration == 10:
            start = now()
        loss = 0.5 * (((factorization.product(factors) - values) * mask) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        loss.item()
    torch.set_num_threads(threads)
    return (now() - start) / 50


if __name__ == "__main__":
    if "forms" in sys.argv[1:]:
        forms()
    elif "trees" in sys.argv[1:]:
        trees()
    else:
        agreement()
        table()
        components()
