"""Factorizations of odd shapes, as users would write them, and what autograd makes of them."""

from __future__ import annotations

from dataclasses import fields, replace
from math import prod

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics import Adaptive, Flow, Problem
from rankward.dynamics.kernels import cache
from rankward.dynamics.layouts import GraphLayout
from rankward.factorizations import Factorization
from rankward.linalg import one_thread

HADAMARD = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=torch.float64) / 2
ANGLE = 2 * np.pi * np.outer(np.arange(4), np.arange(4)) / 4
COSINES, SINES = torch.from_numpy(np.cos(ANGLE)), torch.from_numpy(np.sin(ANGLE))


class Written(Factorization):
    """One whose product is a function of its factors, one argument each."""

    def __init__(self, function, *shapes, mean=False):
        self.function, self._shapes, self.mean = function, list(shapes), mean

    @property
    def shapes(self):
        return self._shapes

    def start(self, init, seed):
        return [torch.from_numpy(np.asarray(each)) for each in numbers(self._shapes, seed)]

    def product(self, factors):
        return self.function(*factors)

    @property
    def mean_loss(self):
        return self.mean


def numbers(shapes, seed):
    random = np.random.default_rng([5, seed])
    return [np.asarray(0.5 * random.standard_normal(shape)) for shape in shapes]


def like(constant: Tensor, factor: Tensor) -> Tensor:
    return constant.to(factor.dtype)


def residual(a, b):
    result = torch.eye(3, dtype=a.dtype) + a
    return result + b @ result


def entries(u, v):
    """An array that is filled in place."""
    result = torch.zeros(3, 3, dtype=u.dtype)
    result[0] = u[:3]
    result[1:, 0] = v[:2] * u[3]
    result[2, 1:] += v[1:] * 2
    result[[0, 1, 1], [2, 2, 1]] = u[:3] * v[[0, 0, 2]]
    return result


def summed(u, v):
    """Components that are added to what begins as zeros."""
    total = torch.zeros(3, 3, dtype=u.dtype)
    for component in range(2):
        total += torch.outer(u[:, component], v[:, component])
    return total


def hierarchical(leaves, inner, top):
    pairs = torch.einsum("nir,njr,nrs->nijs", leaves[:2], leaves[2:], inner)
    return torch.einsum("ijs,kls,s->ijkl", pairs[0], pairs[1], top)


def clamped(a, b):
    return torch.where(a @ b > 0, (a @ b).clamp(-0.3, 0.8), torch.maximum(a, b).mean(0) * torch.minimum(a, -b))


def moved(a, b):
    both = torch.cat([a.flip(0), b.roll(1, 1)], dim=0)
    return torch.stack([both[::2], both[1::2]]).sum(0).triu() + torch.tril(both[1:4], -1) + a.diagonal().diag_embed()


def picked(a, u):
    index = torch.tensor([[0, 1, 2], [2, 2, 0], [1, 0, 1]])
    return u[index] * a.gather(1, index) + a.index_select(0, torch.tensor([2, 0, 0])) + torch.take(a, index)


def normed(a, b):
    return (a / a.norm()) @ (b / b.norm(dim=0, keepdim=True)) * a.abs().sum() / (1 + b.square().mean()).sqrt()


# By name: the function and the factors' shapes. Each has one matrix or tensor, in all at most some hundred operations.
ODD: dict[str, Written] = {
    "chain": Written(lambda a, b, c: c @ b @ a, (4, 3), (2, 4), (3, 2)),
    "diagonal": Written(lambda u, v: u * u - v * v, (6,), (6,)),
    "deep diagonal": Written(lambda u, v: (u**5 - v**5).diag(), (3,), (3,)),
    "symmetric": Written(lambda u, v: u @ u.T - v @ v.T, (3, 2), (3, 1)),
    "residual": Written(residual, (3, 3), (3, 3)),
    "tucker 3": Written(
        lambda g, a, b, c: torch.einsum("xyz,ix,jy,kz->ijk", g, a, b, c), (2, 2, 2), (3, 2), (2, 2), (2, 2), mean=True
    ),
    "tucker 4": Written(
        lambda g, a, b, c, d: torch.einsum("wxyz,iw,jx,ky,lz->ijkl", g, a, b, c, d),
        (2, 1, 2, 1), (2, 2), (2, 1), (2, 2), (1, 1), mean=True,
    ),
    "hierarchical": Written(hierarchical, (4, 2, 2), (2, 2, 2), (2,), mean=True),
    "shared components": Written(lambda a, b: torch.einsum("ir,jr,kr->ijk", a, a, b), (3, 2), (2, 2), mean=True),
    "tanh": Written(lambda a, b: b @ torch.tanh(a), (3, 2), (2, 3)),
    "relu": Written(lambda a, b: b @ torch.relu(a), (3, 2), (2, 3)),
    "sigmoid": Written(lambda a, b: torch.sigmoid(a @ b) * 3 - 1, (2, 3), (3, 3)),
    "softmax": Written(lambda a, b: torch.softmax(a, dim=-1) @ b, (3, 4), (4, 2)),
    "exp and log": Written(lambda a, b: torch.exp(a) @ torch.log(1 + b * b), (2, 3), (3, 2)),
    "sqrt and abs": Written(lambda a, b: torch.sqrt(a.abs() + 0.5) @ (b / (b.abs() + 1)), (2, 3), (3, 2)),
    "powers": Written(lambda a, b: a.pow(3) @ (1 + b * b) ** -1.5 + 2.0**a @ b.reciprocal().tanh(), (2, 2), (2, 2)),
    "clamp and where": Written(clamped, (3, 3), (3, 3)),
    "moved": Written(moved, (3, 3), (3, 3)),
    "picked": Written(picked, (3, 3), (3,)),
    "filled in place": Written(entries, (4,), (3,)),
    "summed in place": Written(summed, (3, 2), (3, 2)),
    "repeated and broadcast axes": Written(
        lambda a, b, u: torch.einsum("ii,jk,k->jk", a, b, u) + torch.einsum("ij->i", a)[:, None], (3, 3), (3, 2), (2,)
    ),
    "norms and means": Written(normed, (2, 3), (3, 2)),
    "convolution": Written(lambda u, k: u.unfold(0, 3, 1) @ k, (6,), (3, 2)),
    "triangular": Written(lambda a, b: torch.tril(a) @ b.T, (3, 3), (3, 3)),
    "hadamard": Written(lambda a, u: like(HADAMARD, a) @ a @ (like(HADAMARD, a) * u), (4, 4), (4,)),
    "fourier": Written(lambda u, v: (like(COSINES, u) @ u) * (like(COSINES, v) @ v) + (like(SINES, u) @ u), (4,), (4,)),
    "largest": Written(lambda a, b: a * b.amax(1, keepdim=True) - b.amin() + torch.sum(a, 0), (3, 3), (3, 3)),
    "views": Written(lambda a: a.T[1:].reshape(2, -1).unsqueeze(0).expand(2, 2, 4).permute(1, 2, 0)[..., 0] * 2, (4, 3)),
}  # fmt: skip
EDGES: dict[str, Written] = {
    "no rows": Written(lambda a, b: a @ b * (1 + b.sum()), (0, 3), (3, 2)),
    "nothing between": Written(lambda a, b, c: a @ b + c * (1 + a.sum()) * b.exp().mean(0).shape[0], (2, 0), (0, 3), (2, 3)),
    "one number each": Written(lambda a, b: a @ b * (1 + a.sum()), (1, 1), (1, 1)),
    "no axes": Written(lambda a, b: (a * b).expand(2, 1) + a.exp(), (), ()),
    "one row": Written(lambda a, b: a @ b + a.sum(1, keepdim=True) * b.mean(), (1, 4), (4, 1)),
}  # fmt: skip
SMOOTH = [name for name in ODD if name not in ("relu", "clamp and where", "largest", "sqrt and abs")]


def dims_of(factorization) -> tuple[int, ...]:
    zeros = [torch.zeros(shape, dtype=torch.float64) for shape in factorization.shapes]
    return tuple(factorization.product(zeros).shape)


def observed(dims, seed, sensing=False):
    """A mask or sensing matrices, and values."""
    random = np.random.default_rng([6, seed])
    if sensing:
        count = max(1, prod(dims) // 2)
        return random.standard_normal((count, *dims)), random.standard_normal(count)
    mask = np.asarray(random.random(dims) < 0.7, float)
    return mask, np.asarray(mask * random.standard_normal(dims))


def problem_of(factorization, runs, dtype=torch.float64, dynamics="descent", sensing=False, eta=0.02, limit=1000):
    """Runs whose observations, rates and limits differ; and their factors."""
    dims = dims_of(factorization)
    starts = [numbers(factorization.shapes, seed) for seed in range(runs)]
    factors = [torch.from_numpy(np.stack(each)).to(dtype) for each in zip(*starts, strict=True)]
    seen = [observed(dims, seed, sensing) for seed in range(runs)]
    operator, values = (torch.from_numpy(np.stack(each)).to(dtype) for each in zip(*seen, strict=True))
    count = operator.reshape(runs, -1).sum(1) if not sensing else torch.full((runs,), float(values.shape[1]))
    one = torch.ones(runs, dtype=torch.float64)
    problem = Problem(
        operator,
        values,
        torch.linspace(eta / 2, eta, runs, dtype=dtype),
        torch.zeros(runs, dtype=torch.float64),
        torch.full((runs,), limit) - 7 * torch.arange(runs),
        (2 / count.double().clamp(1)) if factorization.mean_loss else one,
    )
    if dynamics == "adaptive":
        problem = replace(problem, adaptive=Adaptive(0.99 * one.to(dtype), 0.5 * one.to(dtype)))
    if dynamics == "flow":
        problem = replace(problem, flow=Flow(1e-8 * one, 1e-10 * one, 20 * one))
    return factors, problem


def half_and_gradients(factorization, factors, operator, values):
    """Equation 1's half sum and its gradients, by autograd from the loss itself."""
    factors = [factor.detach().clone().requires_grad_() for factor in factors]
    made = factorization.product(factors)
    if operator.shape == values.shape:
        residual = operator * (made - values)
    else:
        residual = torch.einsum("n...,...->n", operator, made) - values
    half = 0.5 * residual.square().sum()
    if not half.requires_grad:
        return half, [torch.zeros_like(factor) for factor in factors]
    gradients = torch.autograd.grad(half, factors, allow_unused=True, materialize_grads=True)
    return half.detach(), list(gradients)


def descended(factorization, factors, problem, run, iterations):
    """Descent of one run, written out with autograd."""
    with one_thread():
        return _descended(factorization, [factor[run].clone() for factor in factors], problem, run, iterations)


def _descended(factorization, factors, problem, run, iterations):
    mean = weight = 0.0
    for _ in range(iterations):
        _, gradients = half_and_gradients(factorization, factors, problem.operator[run], problem.values[run])
        gradients = [gradient * problem.loss_scale[run] for gradient in gradients]
        rate = problem.eta[run]
        if problem.adaptive is not None:
            mean = 0.99 * mean + 0.01 * sum(gradient.square().sum() for gradient in gradients)
            weight = 0.99 * weight + 0.01
            rate = rate / ((mean / weight).sqrt() + 0.5)
        factors = [factor - rate * gradient for factor, gradient in zip(factors, gradients, strict=True)]
    return factors


def forced(monkeypatch, kind):
    """Every factorization that is new gets this kernel, whatever its size and company."""
    monkeypatch.setattr(cache, "UNROLLED_LIMIT", 10**9 if kind == "unrolled" else -1)
    monkeypatch.setattr(cache, "ORDERED_LIMIT", 0 if kind == "blas" else 10**9)
    monkeypatch.setattr(GraphLayout, "kernel", lambda self, runs, dynamics: self._made(kind, dynamics))


def afresh(factorization):
    """The same without a layout that was made before."""
    return Written(factorization.function, *factorization.shapes, mean=factorization.mean_loss)


def chosen(problem, at):
    """Some runs of a problem."""
    at = torch.as_tensor(at)

    def some(value):
        if isinstance(value, Adaptive | Flow):
            return replace(value, **{field.name: some(getattr(value, field.name)) for field in fields(value)})
        return value[at] if isinstance(value, torch.Tensor) else value

    return Problem(*(some(getattr(problem, field.name)) for field in fields(Problem)))
