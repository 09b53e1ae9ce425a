"""Tensor completion by the loop of the paper's script, and by a careful implementation in JAX.

Nothing of Rankward is imported here. Factors are a list of [runs, d, R], mask and values [runs, *dims].
"""

from __future__ import annotations

import sys
import time
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

ETA, BETA, EPS = 1e-2, 0.99, 1e-6
Arrays = dict[str, Any]


def problem(dims: tuple[int, ...], count: int, batch: int, dtype: str, scale: float = 0.1) -> Arrays:
    """Completions of rank-1 tensors of Frobenius norm 1, `count` entries observed, R the paper's."""
    rng = np.random.default_rng(0)
    components = prod(dims) // max(dims)
    truth = np.ones(())
    for dim in dims:
        truth = np.multiply.outer(truth, rng.standard_normal(dim))
    truth /= np.linalg.norm(truth)
    mask = np.zeros((batch, truth.size))
    for row in mask:
        row[rng.permutation(truth.size)[:count]] = 1
    mask = mask.reshape(batch, *dims)
    factors = [(scale * rng.standard_normal((batch, dim, components))).astype(dtype) for dim in dims]
    return {"factors": factors, "mask": mask.astype(dtype), "values": (mask * truth).astype(dtype), "count": count}


def autograd_loop(p: Arrays, iterations: int) -> list[np.ndarray]:
    """The first run: the tensor built mode by mode, autograd, an adaptive rate over all parameters, a loss read."""
    import torch

    factors = [torch.from_numpy(f[0].copy()).requires_grad_() for f in p["factors"]]
    mask = torch.from_numpy(p["mask"][0]).bool()
    values = torch.from_numpy(p["values"][0])[mask]
    mean = 0.0
    for step in range(1, iterations + 1):
        tensor = factors[0]
        for factor in factors[1:]:
            tensor = tensor.unsqueeze(-2) * factor
        loss = ((tensor.sum(-1)[mask] - values) ** 2).mean()
        gradients = torch.autograd.grad(loss, factors)
        mean = BETA * mean + (1 - BETA) * sum(float((g * g).sum()) for g in gradients)
        rate = ETA / ((mean / (1 - BETA**step)) ** 0.5 + EPS)
        with torch.no_grad():
            for factor, gradient in zip(factors, gradients, strict=True):
                factor -= rate * gradient
        loss.item()
    return [factor.detach().numpy() for factor in factors]


def jax_descent(p: Arrays, iterations: int) -> list[np.ndarray]:
    """All runs: Khatri-Rao halves and a matrix product, vmap and scan."""
    program = _program(p["mask"].shape[1:], p["count"])
    return [np.asarray(f) for f in program(p["factors"], p["mask"], p["values"], iterations)]


@lru_cache
def _program(dims: tuple[int, ...], count: int) -> Any:
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    half = len(dims) // 2

    def khatri_rao(factors: Any) -> Any:
        product = factors[0]
        for factor in factors[1:]:
            product = (product[:, None] * factor[None]).reshape(-1, factor.shape[-1])
        return product

    def run(factors: Any, mask: Any, values: Any, iterations: Any) -> Any:
        left = prod(dims[:half])
        mask, values = mask.reshape(left, -1), values.reshape(left, -1)

        def loss(parts: Any) -> Any:
            tensor = khatri_rao(parts[:half]) @ khatri_rao(parts[half:]).T
            return jnp.sum((mask * (tensor - values)) ** 2) / count

        def step(_: Any, state: Any) -> Any:
            parts, mean, weight = state
            slopes = jax.grad(loss)(parts)
            mean = BETA * mean + (1 - BETA) * sum(jnp.sum(g * g) for g in slopes)
            weight = BETA * weight + (1 - BETA)
            rate = ETA / (jnp.sqrt(mean / weight) + EPS)
            return [part - rate * slope for part, slope in zip(parts, slopes, strict=True)], mean, weight

        zero = jnp.zeros((), mask.dtype)
        return jax.lax.fori_loop(0, iterations, step, (list(factors), zero, zero))[0]

    return jax.jit(jax.vmap(run, in_axes=(0, 0, 0, None)))


def gemm_peak(dtype: str) -> float:
    """Floating-point operations a second of NumPy's and torch's matrix products, the best of a few sizes of both."""
    import torch

    best = 0.0
    for size, multiply in [(size, multiply) for size in (64, 256, 512, 1024) for multiply in (np.matmul, torch.matmul)]:
        a: Any
        b: Any
        a, b = (np.random.default_rng(i).standard_normal((size, size)).astype(dtype) for i in (0, 1))
        if multiply is torch.matmul:
            a, b = torch.from_numpy(a), torch.from_numpy(b)
        out = a @ b
        for _ in range(5):
            repeats = max(1, int(2e8 / size**3))
            start = time.perf_counter()
            for _ in range(repeats):
                multiply(a, b, out=out)
            best = max(best, 2 * size**3 * repeats / (time.perf_counter() - start))
    return best


def microseconds(name: str, dims: tuple[int, ...], count: int, batch: int, dtype: str) -> float:
    """Median time a run-iteration of `autograd` (the first run) or `jax`."""
    p = problem(dims, count, batch, dtype)
    call, runs = (autograd_loop, 1) if name == "autograd" else (jax_descent, batch)
    call(p, 2)
    start = time.perf_counter()
    call(p, 4)
    iterations = max(4, int(1.0 / ((time.perf_counter() - start) / 4)))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        call(p, iterations)
        times.append(time.perf_counter() - start)
    return float(np.median(times)) / iterations / runs * 1e6


if __name__ == "__main__":
    kind, *rest = sys.argv[1:]
    if kind == "gemm":
        print(gemm_peak(rest[0]))
    else:
        sizes, observed, runs, precision = rest
        print(microseconds(kind, tuple(map(int, sizes.split("x"))), int(observed), int(runs), precision))
