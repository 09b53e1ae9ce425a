"""What Rankward is measured against: the loop of a paper's script, and what a careful user would write in JAX today."""

from __future__ import annotations

import time
from functools import partial

import numpy as np
import torch

CHECK_EVERY = 50


def problem(batch: int, layers: int, dims: int, dtype: str = "float64", seed: int = 0) -> dict[str, np.ndarray]:
    """Starts, masks, values and rates for `batch` runs of a dims x dims completion, one entry unobserved."""
    rng = np.random.default_rng(seed)
    values = np.eye(dims)[::-1].copy()
    mask = np.ones((dims, dims))
    mask[0, 0] = 0
    return {
        "factors": (0.1 * rng.standard_normal((batch, layers, dims, dims))).astype(dtype),
        "mask": np.broadcast_to(mask, (batch, dims, dims)).astype(dtype),
        "values": np.broadcast_to(values * mask, (batch, dims, dims)).astype(dtype),
        "eta": np.linspace(1e-3, 6e-3, batch).astype(dtype),
    }


def autograd_loop(p: dict[str, np.ndarray], iterations: int) -> np.ndarray:
    """One run as papers' scripts have it: parameters, SGD, a loss read every iteration."""
    weights = [torch.nn.Parameter(torch.from_numpy(w.copy())) for w in p["factors"][0]]
    mask, values = (torch.from_numpy(p[name][0].copy()) for name in ("mask", "values"))
    optimizer = torch.optim.SGD(weights, lr=float(p["eta"][0]))
    for _ in range(iterations):
        product = weights[0]
        for weight in weights[1:]:
            product = weight @ product
        loss = 0.5 * ((mask * (product - values)) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return np.stack([weight.detach().numpy() for weight in weights])


def jax_descent(p: dict[str, np.ndarray], iterations: int, stop_loss: float = 0.0) -> np.ndarray:
    """A batch of runs: vmap of grad, scan over checks, a run frozen once its loss is below `stop_loss`."""
    import jax

    jax.config.update("jax_enable_x64", True)
    return np.asarray(_jitted(p["factors"].shape[1])(p, iterations // CHECK_EVERY, stop_loss).block_until_ready())


_cache: dict[int, object] = {}


def _jitted(layers: int):  # type: ignore[no-untyped-def]
    import jax
    import jax.numpy as jnp

    if layers in _cache:
        return _cache[layers]

    def loss(factors, mask, values):  # type: ignore[no-untyped-def]
        product = factors[0]
        for layer in range(1, layers):
            product = factors[layer] @ product
        return 0.5 * jnp.sum((mask * (product - values)) ** 2)

    def run(factors, mask, values, eta, checks, stop_loss):  # type: ignore[no-untyped-def]
        def step(w, _):  # type: ignore[no-untyped-def]
            return w - eta * jax.grad(loss)(w, mask, values), None

        def check(w, _):  # type: ignore[no-untyped-def]
            moved, _ = jax.lax.scan(step, w, None, length=CHECK_EVERY, unroll=5)
            return jnp.where(loss(w, mask, values) < stop_loss, w, moved), None

        return jax.lax.scan(check, factors, None, length=checks)[0]

    @partial(jax.jit, static_argnums=1)
    def batch(p, checks, stop_loss):  # type: ignore[no-untyped-def]
        each = jax.vmap(run, in_axes=(0, 0, 0, 0, None, None))
        return each(p["factors"], p["mask"], p["values"], p["eta"], checks, stop_loss)

    _cache[layers] = batch
    return batch


def nanoseconds(call, iterations: int, batch: int, repeats: int = 3) -> float:  # type: ignore[no-untyped-def]
    """Median time a run-iteration of `call(iterations)`, after a warm-up."""
    call(iterations)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call(iterations)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / iterations / batch * 1e9
