"""Compare the compiled engine with its peers in one process: nanoseconds per run and iteration, and ratios.

python -m benchmarks.engine            everything, about two minutes
python -m benchmarks.engine --quick    fewer repetitions
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import time
from functools import partial
from math import prod

import numpy as np
import torch

from benchmarks import peers
from rankward.dynamics import Engine, FusedEngine, Noise, Problem, Progress, ReferenceEngine, Rule, Schedule
from rankward.dynamics.state import LABELS
from rankward.dynamics.stepping import state_shapes
from rankward.factorizations import MatrixFactorization
from rankward.metrics import measure
from rankward.optimizers import (
    Adam,
    AdamW,
    Cosine,
    Descent,
    Momentum,
    Optimizer,
    RMSprop,
    Scheduled,
    SignDescent,
    Spectral,
)
from rankward.seeding import key_words

QUICK = "--quick" in sys.argv


def train(
    engine: Engine,
    p: dict[str, np.ndarray],
    limit: int,
    stop_loss: float,
    optimizer: Optimizer | None = None,
    labels: float = 0.0,
) -> tuple[list[torch.Tensor], Progress]:
    """Final factors and progress of the peers' problem; stops and records included."""
    batch, layers = p["factors"].shape[:2]
    factors = [torch.from_numpy(p["factors"][:, layer].copy()) for layer in range(layers)]
    noise, rule = None, None
    if labels:
        keys, observed = torch.tensor([key_words(run, "noise") for run in range(batch)]), torch.full((batch,), 3)
        noise = Noise((LABELS,), keys, torch.zeros_like(observed), observed)
    if optimizer is not None:
        numbers = [*optimizer.numbers, *([labels] if labels else [])]
        rule = Rule(optimizer, torch.tensor([numbers] * batch, dtype=torch.float64), noise)
    fixed = Problem(
        torch.from_numpy(p["mask"].copy()), torch.from_numpy(p["values"].copy()), torch.from_numpy(p["eta"]),
        torch.full((batch,), stop_loss, dtype=torch.float64), torch.full((batch,), limit),
        torch.ones(batch, dtype=torch.float64), rule=rule,
    )  # fmt: skip
    shapes = [tuple(factor.shape[1:]) for factor in factors]
    progress = Progress.start(batch, None if optimizer is None else sum(map(prod, state_shapes(optimizer, shapes))))
    while len(progress.running):
        engine.advance(factors, fixed, progress, limit // 50 * 50)
    return factors, progress


def rankward_call(p: dict[str, np.ndarray], threads: int | None, engine: str = "fused"):  # type: ignore[no-untyped-def]
    """A function of the number of iterations that trains the peers' problem without an early stop."""
    _, layers, dims, _ = p["factors"].shape
    factorization = MatrixFactorization((dims, dims), layers)
    chosen: Engine = ReferenceEngine(factorization, Schedule())
    if engine == "fused":
        chosen = FusedEngine(factorization, Schedule(), threads)
    return lambda iterations: train(chosen, p, iterations, stop_loss=0.0)[0]


def agreement() -> None:
    p = peers.problem(4, 3, 2, scale=0.3)
    ours = torch.stack(rankward_call(p, 1)(1000), dim=1).numpy()
    print("after 1000 iterations, relative distance to")
    print(f"  the autograd loop {_distance(ours[0], peers.autograd_loop(p, 1000)):.1e}")
    print(f"  JAX               {_distance(ours, peers.jax_descent(p, 1000)):.1e}\n")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a - b) / np.linalg.norm(b))


def batches() -> None:
    print("ns a run-iteration, depth 3, 2x2, float64, stops looked at, rows recorded on our side alone")
    print("JAX: a vmap of matrix products; and the fastest form known to us (scalars written out, a mask compiled in)")
    print(f"{'':6} {'--- one core ---':^36} {'--- two cores ---':^36}")
    print(f"{'runs':>6}" + 2 * f" {'ours':>8} {'vmap':>8} {'best':>8} {'best/ours':>9}")
    for batch, iterations in ((1, 5_000_000), (8, 500_000), (64, 500_000), (1000, 100_000), (10_000, 20_000)):
        p = peers.problem(batch, 3, 2, scale=0.02)  # small, as in the paper: a plateau and a slow descent
        row = f"{batch:6}"
        for cores in (1, 2):
            ours = peers.nanoseconds(rankward_call(p, cores), iterations, batch)
            plain, best = (peers.time_peer("jax", batch, cores=cores, form=form) for form in ("matmul", ""))
            row += f" {ours:8.2f} {plain:8.1f} {best:8.1f} {best / ours:9.1f}"
        print(row, flush=True)
    loop = peers.time_peer("autograd", 1)
    ours = peers.nanoseconds(rankward_call(peers.problem(1, 3, 2), 1), 500_000, 1)
    print(f"autograd loop, one run: {loop:.0f}, {loop / ours:.0f} times ours")


def refill() -> None:
    """Learning rates over a decade, so that runs stop at different times: time a useful run-iteration."""
    p = peers.problem(1000, 3, 2, scale=0.02)
    p["eta"] = np.geomspace(1e-3, 1e-2, 1000)
    for threads in (1, 2):
        engine = FusedEngine(MatrixFactorization((2, 2), 3), Schedule(), threads)
        start = time.perf_counter()
        _, progress = train(engine, p, 200_000, stop_loss=1e-4)
        seconds = time.perf_counter() - start
        useful = int(progress.iteration.sum())
        spread = progress.iteration.double().quantile(torch.tensor([0.1, 0.9], dtype=torch.float64)).tolist()
        print(f"stops that differ ({spread[0]:.0f} to {spread[1]:.0f} iterations), {threads} thread(s): "
              f"{seconds / useful * 1e9:.2f} ns a useful run-iteration")  # fmt: skip


def sizes() -> None:
    print("\nmicroseconds a run-iteration, depth 3, float64, one thread")
    print(f"{'d':>4} {'64 runs':>9} {'1 run':>9} {'autograd engine':>16}")
    for dims in (2, 3, 5, 10, 20, 50, 64, 80, 100):
        row = []
        for batch in (64 if dims <= 64 else 4, 1):
            p = peers.problem(batch, 3, dims)
            row.append(peers.nanoseconds(rankward_call(p, 1), max(100, 100 * (20_000 // dims**3)), batch) / 1e3)
        p = peers.problem(1, 3, dims)
        slow = peers.nanoseconds(rankward_call(p, 1, engine="reference"), 200, 1) / 1e3
        print(f"{dims:4} {row[0]:9.3f} {row[1]:9.3f} {slow:16.1f}")


def optimizers() -> None:
    """Steps of optimizers at depth 3, 2x2, one thread."""
    print("\nns a run-iteration, and times descent: depth 3, 2x2, one thread")
    made: dict[str, Optimizer | None] = {"descent": None, "descent, decay": Descent(weight_decay=0.01)}
    made |= {"momentum": Momentum(), "adam": Adam(), "adamw": AdamW(weight_decay=0.01), "rmsprop": RMSprop()}
    made |= {"sign": SignDescent(), "cosine": Scheduled(Descent(), Cosine(decay_steps=500_000))}
    made |= {"spectral": Spectral(), "spectral, exact": Spectral(ns_steps=None), "label noise": Descent()}
    plain: dict[int, float] = {}
    for name, optimizer in made.items():
        row = f"{name:16}"
        few = 10 if name == "spectral" else 100 if name == "spectral, exact" else 1
        for batch, iterations in ((1, 500_000 // few), (64, 50_000 // few)):
            p = peers.problem(batch, 3, 2, scale=0.02)
            engine = FusedEngine(MatrixFactorization((2, 2), 3), Schedule(), 1)
            call = partial(train, engine, p, stop_loss=0.0, optimizer=optimizer, labels=0.1 * (name == "label noise"))
            time_each = peers.nanoseconds(lambda limit, call=call: call(limit=limit), iterations, batch)  # type: ignore[misc]
            row += f"{time_each:9.2f} {time_each / plain.setdefault(batch, time_each):6.2f}"
        print(row, flush=True)
    if importlib.util.find_spec("optax") is None:
        print("optax is not installed: it is left out")
        return
    print("Adam by optax (JAX, vmap and scan) on one core, ns a run-iteration: matrix products, the fastest form, ours")
    engine = FusedEngine(MatrixFactorization((2, 2), 3), Schedule(), 1)
    for batch in (8, 64, 1000):
        p = peers.problem(batch, 3, 2, scale=0.02)
        call = partial(train, engine, p, stop_loss=0.0, optimizer=Adam())
        ours = peers.nanoseconds(lambda limit, call=call: call(limit=limit), 4_000_000 // batch // 50 * 50, batch)  # type: ignore[misc]
        products, best = (peers.time_peer("optax", batch, form=form) for form in ("matmul", ""))
        print(f"{batch:5} runs {products:8.1f} {best:8.1f} {ours:8.2f}, {best / ours:.1f} times ours", flush=True)


def metrics() -> None:
    from hydra.utils import get_class
    from omegaconf import OmegaConf

    from rankward.config import CONFIG_FOLDER

    columns = OmegaConf.load(CONFIG_FOLDER / "metrics" / "matrix.yaml").columns
    made = {n: get_class(c._target_)(**{k: v for k, v in c.items() if k != "_target_"}) for n, c in columns.items()}
    factors = [torch.randn(3_000_000, 2, 2, dtype=torch.float64) for _ in range(3)]
    measure(made, factors)  # memory that is touched for the first time costs more than the arithmetic on some machines
    start = time.perf_counter()
    measure(made, factors)
    print(f"\nall metrics of 3,000,000 products 2x2: {time.perf_counter() - start:.2f} s")


def commands() -> None:
    print("\nwhole commands, seconds")
    with tempfile.TemporaryDirectory() as folder:
        for arguments in (["--help"], ["--cfg", "job"], ["lr.etta=1"], ["depth=2", "init.scale=1e-2", "logger=none"],
                          ["-m", "experiment=figure1"]):  # fmt: skip
            times = []
            for _ in range(1 if QUICK else 3):
                start = time.perf_counter()
                subprocess.run([sys.executable, "-m", "rankward", *arguments], cwd=folder, capture_output=True)
                times.append(time.perf_counter() - start)
            print(f"  rankward {' '.join(arguments):45} {np.median(times):6.2f}")
        print("  import torch, pytorch_lightning alone:", end="")
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import torch, pytorch_lightning"], cwd=folder)
        print(f"{time.perf_counter() - start:24.2f}")


if __name__ == "__main__":
    agreement()
    batches()
    refill()
    sizes()
    optimizers()
    metrics()
    commands()
