"""Measure training on observed entries by index: processor time, GFLOP/s, ratios to the dense engine and to autograd.

python -m benchmarks.indexed            about two minutes
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics import Entries, FusedEngine, IndexedEngine, Problem, Progress, Schedule
from rankward.factorizations import Factorization, MatrixFactorization, TensorFactorization

ROWS, COLUMNS, RATINGS, HIDDEN = 943, 1682, 100_000, 50
ETA = 1e-4
THREADS = (1,)  # more make processor time meaningless


def entries_of(dims: Sequence[int], count: int) -> Entries:
    """Made observations: different entries of a matrix, random ones of a tensor; standard normal values."""
    random = np.random.default_rng(0)
    if len(dims) == 2:
        places = np.sort(random.choice(dims[0] * dims[1], count, replace=False))
        index = np.stack(np.divmod(places, dims[1]), axis=1)
    else:
        index = random.integers(0, dims, (count, len(dims)))
    return Entries(tuple(dims), index.astype(np.int32), random.standard_normal(count))


def problem_of(entries: Entries, iterations: int, dense: bool = False) -> Problem:
    """One run without a stop, with a mask or by index."""
    operator = values = torch.zeros(1, 0, dtype=torch.float64)
    if dense:
        shape = (1, *entries.dims)
        operator, values = torch.zeros(shape, dtype=torch.float64), torch.zeros(shape, dtype=torch.float64)
        at = (0, *torch.from_numpy(entries.index.T.astype(np.int64)))
        operator[at], values[at] = 1.0, torch.from_numpy(entries.values)
    one = torch.ones(1, dtype=torch.float64)
    return Problem(
        operator, values, ETA * one, 0 * one, torch.tensor([iterations]), one / entries.count,
        entries=None if dense else (entries,),
    )  # fmt: skip


def seconds(advance: Callable[[int], object], least: int = 5) -> float:
    """Seconds of processor time an iteration: the least of three trials of at least half a second."""
    advance(1)
    started = time.process_time()
    advance(least)
    count = max(least, int(0.5 * least / (time.process_time() - started)))
    trials = []
    for _ in range(3):
        started = time.process_time()
        advance(count)
        trials.append((time.process_time() - started) / count)
    return min(trials)


def trained(
    factorization: Factorization, factors: list[Tensor], problem: Problem, engine: type, threads: int, least: int = 5
) -> float:
    """Seconds an iteration of an engine; the loss is looked at every 50 iterations."""
    progress, made = Progress.start(1), engine(factorization, Schedule(stride=50), threads)
    moving = [factor.clone()[None] for factor in factors]

    def advance(iterations: int) -> None:
        problem.max_iterations[0] = progress.iteration[0] + iterations
        progress.status[0] = 0
        made.advance(moving, problem, progress, 50 * (1 + iterations // 50))

    return seconds(advance, least)


def gathered_rows(factors: list[Tensor], entries: Entries, threads: int) -> float:
    """Seconds an iteration of autograd, which gathers a row of each half for every entry."""
    torch.set_num_threads(threads)
    row, column = (torch.from_numpy(entries.index[:, axis].astype(np.int64)) for axis in (0, 1))
    values, weights = torch.from_numpy(entries.values), [factor.clone().requires_grad_() for factor in factors]

    def advance(iterations: int) -> None:
        for _ in range(iterations):
            right, left = weights[0], weights[-1]
            for weight in weights[1:-1]:
                right = weight @ right
            made = (left[row] * right.T[column]).sum(1)
            gradients = torch.autograd.grad(0.5 * (made - values).square().sum() / len(values), weights)
            with torch.no_grad():
                for weight, gradient in zip(weights, gradients, strict=True):
                    weight -= ETA * gradient

    return seconds(advance)


def products_over_modes(factors: list[Tensor], entries: Entries, threads: int) -> float:
    """Seconds an iteration of autograd, which gathers a row of each factor for every entry and multiplies them."""
    torch.set_num_threads(threads)
    index, values = torch.from_numpy(entries.index.T.astype(np.int64)), torch.from_numpy(entries.values)
    stacked, modes = torch.stack(factors).requires_grad_(), torch.arange(len(factors))[:, None]

    def advance(iterations: int) -> None:
        for _ in range(iterations):
            made = stacked[modes, index].prod(0).sum(1)
            (gradient,) = torch.autograd.grad(0.5 * (made - values).square().sum() / len(values), stacked)
            with torch.no_grad():
                stacked.sub_(ETA * gradient)

    return seconds(advance, 1)


def best_product(threads: int) -> float:
    """GFLOP/s of one matrix product of NumPy on these cores."""
    from threadpoolctl import threadpool_limits

    made = np.random.default_rng(0).standard_normal((1500, 1500))
    with threadpool_limits(threads):
        return 2 * 1500**3 / seconds(lambda count: [made @ made for _ in range(count)], 2) / 1e9


def chain(depth: int) -> None:
    entries = entries_of((ROWS, COLUMNS), RATINGS)
    factorization = MatrixFactorization((ROWS, COLUMNS), depth, HIDDEN)
    random = torch.Generator().manual_seed(0)
    factors = [0.3 * torch.randn(shape, generator=random, dtype=torch.float64) for shape in factorization.shapes]
    inner = [min(HIDDEN, size) for size in factorization.sizes]
    # A product of the chain's halves and the two gradients of each; each entry: its product and both gradients.
    work = 6 * (sum(np.prod(shape) for shape in factorization.shapes[1:-1]) * inner[-1])
    work += 6 * HIDDEN * HIDDEN * COLUMNS * (depth > 2) + 6 * RATINGS * HIDDEN
    for threads in THREADS:
        ours = trained(factorization, factors, problem_of(entries, 1), IndexedEngine, threads)
        dense = trained(factorization, factors, problem_of(entries, 1, dense=True), FusedEngine, threads)
        loop, peak = gathered_rows(factors, entries, threads), best_product(threads)
        rate = work / ours / 1e9
        numbers = f"{1e3 * ours:9.2f} {rate:8.1f} {rate / peak:8.2f} {dense / ours:11.1f} {loop / ours:9.1f}"
        print(f"{depth:5} {threads:7} {numbers}", flush=True)


def components(order: int, count: int, rank: int) -> None:
    entries = entries_of((2,) * order, count)
    factorization = TensorFactorization((2,) * order, rank)
    random = torch.Generator().manual_seed(0)
    factors = [1 + 0.1 * torch.randn(shape, generator=random, dtype=torch.float64) for shape in factorization.shapes]
    loop = products_over_modes(factors, entries, 1) if count * order * rank < 5e7 else float("nan")
    for threads in THREADS:
        ours = trained(factorization, factors, problem_of(entries, 1), IndexedEngine, threads, least=1)
        rate = 5 * count * order * rank / ours / 1e9
        print(f"{order:5} {count:7} {rank:4} {threads:7} {1e3 * ours:9.2f} {rate:8.2f} {loop / ours:9.1f}", flush=True)


if __name__ == "__main__":
    print(f"{ROWS} x {COLUMNS}, {RATINGS:,} entries, hidden size {HIDDEN}, float64")
    print("depth threads        ms  GFLOP/s  of GEMM  dense/ours  autograd/ours")
    for depth in (2, 3, 4):
        chain(depth)
    print("\ncomponents of a tensor with dims 2, float64; autograd on one thread")
    print("order entries    R threads        ms  GFLOP/s  autograd/ours")
    for order, count, ranks in ((64, 1797, (1, 5, 15)), (784, 60_000, (1, 15))):
        for rank in ranks:
            components(order, count, rank)
