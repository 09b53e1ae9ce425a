"""Measure the peers, each in a separate process, and check that they agree."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.descents import CHECK_EVERY, FORMS, autograd_loop, jax_descent, problem
from benchmarks.peers.optimizers import optax_adam


def nanoseconds(call: Callable[[int], Any], iterations: int, batch: int, repeats: int = 3) -> float:
    """Median time a run-iteration of `call(iterations)`, after a warm-up."""
    call(iterations)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(iterations)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / iterations / batch * 1e9


def time_peer(
    name: str,
    batch: int,
    depth: int = 3,
    dims: Any = 2,
    dtype: str = "float64",
    cores: int = 1,
    repeats: int = 3,
    form: str = "",
) -> float:
    """Nanoseconds a run-iteration of peer `autograd` (batch 1), `jax` or `optax` (Adam), no run stopping early.

    JAX in the given form, or in the best of all.

    In a process of its own held to `cores` cores, since XLA sizes its threads when it starts.

    Raises:
        ImportError: `jax` or `optax` wanted and not installed.
    """
    if name not in ("autograd", "jax", "optax") or (name == "autograd" and batch != 1):
        raise ValueError(f"peer {name!r} with batch {batch}: autograd with one run, jax, or optax")
    if name != "autograd" and importlib.util.find_spec(name) is None:
        raise ImportError(f"{name} is not installed (pip install {name}): this peer is skipped")
    arguments = name, batch, depth, dims, dtype, cores, repeats, form
    code = (
        f"import os; os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:{cores}])\n"
        f"from benchmarks.peers.timing import _measure; print(_measure{arguments!r})"
    )
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={cores}"
    environment = os.environ | {"XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "OMP_NUM_THREADS": str(cores)}
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"peer {name}: {done.stderr.strip().splitlines()[-1]}")
    return float(done.stdout.split()[-1])


def _measure(name: str, batch: int, depth: int, dims: Any, dtype: str, cores: int, repeats: int, form: str) -> float:
    p = problem(batch, depth, dims, dtype)
    if name == "autograd":
        return nanoseconds(partial(autograd_loop, p), 1000, 1, repeats)
    small = np.max(dims) <= 3  # written out in entries, larger products take minutes to compile
    sharded = [devices for devices in range(1, cores + 1) if batch % devices == 0]
    best = np.inf
    forms = (form,) if form else FORMS[0 if small else 1 :]
    for each, devices in [(each, devices) for each in forms for devices in sharded]:
        call = partial(jax_descent, p, form=each, devices=devices)
        call = partial(optax_adam, p, form=each) if name == "optax" else call
        rough = nanoseconds(call, 2 * CHECK_EVERY, batch, 1) * batch * CHECK_EVERY  # of one check, to size the rest
        best = min(best, nanoseconds(call, CHECK_EVERY * max(2, int(2e8 / rough)), batch, repeats))
    return best


def check() -> float:
    """The largest relative distance of JAX, in every form, from the autograd loop after 1000 float64 iterations."""
    worst = 0.0
    for dims, run in ((2, 0), (3, 1), ((2, 3), 2), ((3, 2), 3)):
        p = problem(4, 3, dims, scale=0.6)
        one = {n: [f[run:] for f in a] if isinstance(a, list) else a[run:] for n, a in p.items()}
        slow = autograd_loop(one, 1000)
        for fast in (jax_descent(p, 1000, form=form) for form in FORMS):
            ours = [f[run] for f in fast] if isinstance(fast, list) else fast[run]
            pairs = zip(ours, slow, strict=True)
            worst = max(worst, *(float(np.linalg.norm(a - b) / np.linalg.norm(b)) for a, b in pairs))
    return worst
