"""Adam by optax in JAX: `vmap` over runs of a `scan` over steps. Nothing of Rankward is imported here."""

from __future__ import annotations

from functools import lru_cache, reduce
from typing import Any

import numpy as np

from benchmarks.peers.descents import CHECK_EVERY, Arrays


def optax_adam(p: Arrays, iterations: int, form: str = "matmul") -> Any:
    """Final factors [runs, layers, d, d] after Adam's steps with optax's defaults and the runs' learning rates.

    A loss is looked at every 50 iterations, as by our engine.

    Args:
        iterations: a multiple of 50.
        form: one of FORMS.
    """
    factors = _program(form)(list(np.moveaxis(p["factors"], 1, 0)), p["eta"], p["mask"], p["values"], iterations)
    return np.stack([np.asarray(factor) for factor in factors], 1)


@lru_cache
def _program(form: str) -> Any:
    import jax
    import jax.numpy as jnp
    import optax

    jax.config.update("jax_enable_x64", True)

    def times(a: Any, b: Any) -> Any:
        if form == "entries":  # nested lists of scalars: under vmap XLA fuses a whole step into one loop over runs
            return [[sum(x * y for x, y in zip(row, col, strict=True)) for col in zip(*b, strict=True)] for row in a]
        return a @ b if form == "matmul" else (a[:, :, None] * b[None]).sum(1)

    def run(factors: Any, eta: Any, mask: Any, values: Any, iterations: Any) -> Any:
        optimizer = optax.adam(eta)

        def loss(factors: Any) -> Any:
            product = reduce(lambda below, above: times(above, below), factors)
            if form == "entries":
                places = np.ndindex(*mask.shape)
                return 0.5 * sum(((product[i][j] - values[i, j]) * mask[i, j]) ** 2 for i, j in places)
            return 0.5 * jnp.sum(((product - values) * mask) ** 2)

        def step(state: Any, _: None) -> Any:
            factors, kept = state
            updates, kept = optimizer.update(jax.grad(loss)(factors), kept)
            return (optax.apply_updates(factors, updates), kept), None

        def check(state: Any) -> Any:
            moved, done, _ = state
            moved, _ = jax.lax.scan(step, moved, None, length=CHECK_EVERY)
            return moved, done + CHECK_EVERY, loss(moved[0]) >= 0.0

        if form == "entries":
            factors = [[list(row) for row in factor] for factor in factors]
        start = (factors, optimizer.init(factors)), jnp.int64(0), jnp.bool_(True)
        factors = jax.lax.while_loop(lambda state: state[2] & (state[1] < iterations), check, start)[0][0]
        return [jnp.array(factor) for factor in factors]

    return jax.jit(jax.vmap(run, in_axes=(0, 0, 0, 0, None)))
