"""User-defined factorizations, and gradient descent on them in JAX and by an autograd loop.

Nothing of Rankward is imported here. A product is written once, in what torch and jax.numpy have in common. Factors are
a list of [runs, *shape], mask and values [runs, *dims].
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

ETA, SCALE = 1e-3, 0.3
LENGTH = 50  # of a scan
Arrays = dict[str, Any]


@dataclass(frozen=True)
class Kind:
    """A factorization: shapes of its factors and of its product, and the product, of factors and torch or jax.numpy."""

    shapes: Sequence[tuple[int, ...]]
    dims: tuple[int, ...]
    product: Callable[[Sequence[Any], Any], Any]


def _residual(w: Sequence[Any], library: Any) -> Any:
    return w[1] @ w[0] + w[0]


def _diagonal(w: Sequence[Any], library: Any) -> Any:
    return w[0] * w[0] - w[1] * w[1]


def _symmetric(w: Sequence[Any], library: Any) -> Any:
    return w[0] @ w[0].T - w[1] @ w[1].T


def _tucker(w: Sequence[Any], library: Any) -> Any:
    return library.einsum("abc,ia,jb,kc->ijk", *w)


def _hierarchical(w: Sequence[Any], library: Any) -> Any:
    """Four modes: two pairs of leaves, a matrix above each, and the root's vector."""
    a, b, above_ab, c, d, above_cd, root = w
    left = (a[:, None] * b[None]).reshape(-1, a.shape[1]) @ above_ab
    right = (c[:, None] * d[None]).reshape(-1, c.shape[1]) @ above_cd
    return ((left * root) @ right.T).reshape(a.shape[0], b.shape[0], c.shape[0], d.shape[0])


def _chain(w: Sequence[Any], library: Any) -> Any:
    made = w[0]
    for factor in w[1:]:
        made = factor @ made
    return made


def _components(w: Sequence[Any], library: Any) -> Any:
    modes = "abcd"[: len(w)]
    return library.einsum(",".join(f"{mode}z" for mode in modes) + f"->{modes}", *w)


def tucker(dim: int, core: int) -> Kind:
    return Kind(((core,) * 3, *[(dim, core)] * 3), (dim,) * 3, _tucker)


def hierarchical(dim: int, width: int) -> Kind:
    leaf, node = (dim, width), (width, width)
    return Kind((leaf, leaf, node, leaf, leaf, node, (width,)), (dim,) * 4, _hierarchical)


def chain(dim: int, depth: int) -> Kind:
    return Kind(((dim, dim),) * depth, (dim, dim), _chain)


def components(dims: tuple[int, ...], count: int) -> Kind:
    return Kind(tuple((dim, count) for dim in dims), dims, _components)


KINDS: dict[str, Kind] = {
    "W_2 W_1 + W_1, 2x2": Kind(((2, 2),) * 2, (2, 2), _residual),
    "u*u - v*v, d = 8": Kind(((8,),) * 2, (8,), _diagonal),
    "U U' - V V', 3x3": Kind(((3, 3),) * 2, (3, 3), _symmetric),
    "Tucker 3x3x3, core 2": tucker(3, 2),
    "hierarchical 2x2x2x2, widths 2": hierarchical(2, 2),
    "hierarchical 4x4x4x4, widths 8": hierarchical(4, 8),
    "hierarchical 4x4x4x4, widths 16": hierarchical(4, 16),
    "Tucker 8x8x8, core 4": tucker(8, 4),
    "chain 10x10, depth 3": chain(10, 3),
}


def problem(kind: Kind, batch: int) -> Arrays:
    """Starts, masks (each run's own) and values for `batch` completions."""
    rng = np.random.default_rng(0)
    mask = (rng.random((batch, *kind.dims)) < 0.7).astype(float)
    factors = [SCALE * rng.standard_normal((batch, *shape)) for shape in kind.shapes]
    return {"factors": factors, "mask": mask, "values": mask * rng.standard_normal((batch, *kind.dims))}


def autograd_loop(kind: Kind, p: Arrays, iterations: int) -> list[np.ndarray]:
    """The first run as papers' scripts have it, a loss read every iteration."""
    import torch

    factors = [torch.from_numpy(factor[0].copy()).requires_grad_() for factor in p["factors"]]
    mask, values = (torch.from_numpy(p[name][0].copy()) for name in ("mask", "values"))
    optimizer = torch.optim.SGD(factors, lr=ETA)
    for _ in range(iterations):
        loss = 0.5 * (((kind.product(factors, torch) - values) * mask) ** 2).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        loss.item()
    return [factor.detach().numpy() for factor in factors]


def jax_descent(kind: Kind, p: Arrays, iterations: int, devices: int = 1) -> list[np.ndarray]:
    """All runs: `vmap` of `grad` in a `scan`; over several of XLA's host devices, each with its share of the runs.

    Args:
        iterations: a multiple of LENGTH.
    """
    program = _program(kind, devices)
    moved = program(list(p["factors"]), p["mask"], p["values"], iterations // LENGTH)
    return [np.asarray(factor) for factor in moved]


@lru_cache
def _program(kind: Kind, devices: int) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def run(factors: Any, mask: Any, values: Any, scans: Any) -> Any:
        def loss(parts: Any) -> Any:
            return 0.5 * jnp.sum(((kind.product(parts, jnp) - values) * mask) ** 2)

        def step(parts: Any, _: None) -> Any:
            return jax.tree.map(lambda w, slope: w - ETA * slope, parts, jax.grad(loss)(parts)), None

        # The number of iterations is not compiled in.
        return jax.lax.fori_loop(0, scans, lambda _, parts: jax.lax.scan(step, parts, None, length=LENGTH)[0], factors)

    batch = jax.vmap(run, in_axes=(0, 0, 0, None))
    if devices > 1:
        mesh = jax.sharding.Mesh(np.array(jax.devices()[:devices]), ("runs",))
        rows, same = jax.sharding.PartitionSpec("runs"), jax.sharding.PartitionSpec()
        batch = jax.shard_map(batch, mesh=mesh, in_specs=(rows, rows, rows, same), out_specs=rows, check_vma=False)
    return jax.jit(batch)


def nanoseconds(peer: str, name: str, batch: int, cores: int, clock: str) -> float:
    """The least time a run-iteration of `autograd` (the first run) or `jax`, in the faster way to use so many cores.

    Args:
        clock: a function of `time`.
    """
    kind = KINDS[name]
    p = problem(kind, batch)
    calls: list[Callable[[int], Any]] = [partial(autograd_loop, kind, p)]
    if peer == "jax":
        calls = [partial(jax_descent, kind, p, devices=n) for n in range(1, cores + 1) if batch % n == 0]
    return min(_seconds(call, getattr(time, clock)) for call in calls) / (1 if peer == "autograd" else batch) * 1e9


def _seconds(call: Callable[[int], Any], now: Callable[[], float]) -> float:
    """The least time an iteration, of three tries of about a quarter of a second."""
    call(LENGTH)
    start = now()
    call(LENGTH)
    iterations = LENGTH * max(1, int(0.25 / max(1e-6, now() - start)))
    times = []
    for _ in range(3):
        start = now()
        call(iterations)
        times.append(now() - start)
    return min(times) / iterations


if __name__ == "__main__":
    chosen, factorization, runs, available, function = sys.argv[1:]
    print(nanoseconds(chosen, factorization, int(runs), int(available), function))
