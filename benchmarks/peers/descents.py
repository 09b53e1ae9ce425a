"""The peers of Rankward: the loop of a paper's script, and a careful implementation in JAX.

Nothing of Rankward is imported here.
"""

from __future__ import annotations

from functools import lru_cache, partial, reduce
from typing import Any

import numpy as np

CHECK_EVERY = 50
FORMS = ("entries", "sums", "matmul")  # ways to write a product in JAX: each is fastest somewhere
Arrays = dict[str, Any]


def problem(batch: int, layers: int, dims: int | tuple[int, int], dtype: str = "float64", scale: float = 0.1) -> Arrays:
    """Starts, masks, values and rates for `batch` completions, entry (1, 1) unobserved.

    `factors` is one array [runs, layers, d, d], W_1 first, or for dims (d, d') a list of arrays [runs, rows, cols].
    """
    rng = np.random.default_rng(0)
    rows, cols = (dims, dims) if isinstance(dims, int) else dims
    values = np.eye(rows, cols)
    values[:2] = values[1::-1]
    mask = np.ones((rows, cols))
    mask[0, 0] = 0
    chain = (cols, *[min(rows, cols)] * (layers - 1), rows)
    shapes = zip(chain[1:], chain, strict=False)
    factors = [(scale * rng.standard_normal((batch, *shape))).astype(dtype) for shape in shapes]
    return {
        "factors": np.stack(factors, 1) if isinstance(dims, int) else factors,
        "mask": np.broadcast_to(mask, (batch, rows, cols)).astype(dtype),
        "values": np.broadcast_to(values * mask, (batch, rows, cols)).astype(dtype),
        "eta": np.linspace(1e-3, 6e-3, batch).astype(dtype),
    }


def autograd_loop(p: Arrays, iterations: int) -> Any:
    """The first run as papers' scripts have it, a loss read every iteration. Final factors, no runs axis."""
    import torch

    class Factorization(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weights = torch.nn.ParameterList([torch.from_numpy(w[0].copy()) for w in _layers(p)])

        def forward(self) -> torch.Tensor:
            return reduce(lambda product, weight: weight @ product, self.weights)

    model = Factorization()
    mask, values = (torch.from_numpy(p[name][0].copy()) for name in ("mask", "values"))
    optimizer = torch.optim.SGD(model.parameters(), lr=float(p["eta"][0]))
    for _ in range(iterations):
        loss = 0.5 * (((model() - values) * mask) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return _like(p, [weight.detach().numpy() for weight in model.weights], axis=0)


def jax_descent(p: Arrays, iterations: int, stop_loss: float = 0.0, form: str = "", devices: int = 1) -> Any:
    """Final factors of a batch of runs, shaped as they came; see `jax_train`."""
    return jax_train(p, iterations, stop_loss, form, devices)[0]


def jax_train(p: Arrays, iterations: int, stop_loss: float = 0.0, form: str = "", devices: int = 1) -> tuple[Any, Any]:
    """Final factors and iterations [runs]; a run is frozen at the check that finds its loss below `stop_loss`.

    Args:
        iterations: a multiple of CHECK_EVERY.
        form: one of FORMS; by default what was fastest for such a batch.
        devices: 2 shards the runs over XLA's host devices (XLA_FLAGS=--xla_force_host_platform_device_count=2).
    """
    if iterations % CHECK_EVERY:
        raise ValueError(f"iterations {iterations}: not a multiple of {CHECK_EVERY}")
    layers, (batch, *size) = _layers(p), p["mask"].shape
    form = form or ("matmul" if max(size) > 3 else "entries" if batch >= 32 else "sums")
    measured = [p["mask"], p["values"]]
    shared = None
    if all((array == array[0]).all() for array in measured):  # then compiled in as constants, twice as fast
        shared, measured = tuple(array[0].tobytes() for array in measured), [np.zeros(batch)] * 2
    program = _program(form, devices, shared, tuple(size), p["mask"].dtype.name)
    factors, done = program(layers, p["eta"], *measured, stop_loss, iterations)
    return _like(p, [np.asarray(factor) for factor in factors], axis=1), np.asarray(done)


@lru_cache
def _program(form: str, devices: int, shared: tuple[bytes, bytes] | None, size: tuple[int, ...], dtype: str) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    constants = shared and [np.frombuffer(array, dtype).reshape(size) for array in shared]

    def times(a: Any, b: Any) -> Any:
        if form == "entries":  # nested lists of scalars: under vmap XLA fuses a whole step into one loop over runs
            return [[sum(x * y for x, y in zip(row, col, strict=True)) for col in zip(*b, strict=True)] for row in a]
        return a @ b if form == "matmul" else (a[:, :, None] * b[None]).sum(1)

    def run(layers: Any, eta: Any, mask: Any, values: Any, stop_loss: Any, iterations: Any) -> Any:
        mask, values = constants or (mask, values)

        def loss(factors: Any) -> Any:
            product = reduce(lambda below, above: times(above, below), factors)
            if form != "entries":
                return 0.5 * jnp.sum(((product - values) * mask) ** 2)
            seen = [at for at in np.ndindex(*size) if constants is None or mask[at]]
            return 0.5 * sum(((product[i][j] - values[i, j]) * mask[i, j]) ** 2 for i, j in seen)

        def step(factors: Any, _: None) -> Any:
            return jax.tree.map(lambda w, gradient: w - eta * gradient, factors, jax.grad(loss)(factors)), None

        def check(state: Any) -> Any:
            factors, done, alive = state
            moved, _ = jax.lax.scan(step, factors, None, length=CHECK_EVERY)  # unrolling makes this slower
            factors = jax.tree.map(partial(jnp.where, alive), moved, factors)
            return factors, done + jnp.where(alive, CHECK_EVERY, 0), alive & ~(loss(factors) < stop_loss)

        if form == "entries":
            layers = [[list(row) for row in w] for w in layers]
        start = layers, jnp.int64(0), ~(loss(layers) < stop_loss)
        factors, done, _ = jax.lax.while_loop(lambda s: s[2] & (s[1] < iterations), check, start)
        return [jnp.array(factor) for factor in factors], done

    batch = jax.vmap(run, in_axes=(0, 0, 0, 0, None, None))
    if devices > 1:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("runs",))
        rows, whole = jax.sharding.PartitionSpec("runs"), jax.sharding.PartitionSpec()
        batch = jax.shard_map(batch, mesh=mesh, in_specs=(rows,) * 4 + (whole,) * 2, out_specs=rows, check_vma=False)
    return jax.jit(batch)


def _layers(p: Arrays) -> list[np.ndarray]:
    return list(p["factors"]) if isinstance(p["factors"], list) else list(np.moveaxis(p["factors"], 1, 0))


def _like(p: Arrays, layers: list[np.ndarray], axis: int) -> Any:
    return layers if isinstance(p["factors"], list) else np.stack(layers, axis)
