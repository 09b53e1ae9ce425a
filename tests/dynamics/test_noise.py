"""Random parts of a step: numbers by counter, minibatches, and the same bits in every engine, company and chunk."""

from dataclasses import replace

import mpmath
import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from helpers.engines import ensemble
from helpers.optimizing import optimized, picked, with_rule
from rankward.dynamics import BatchedEngine, FusedEngine, Noise, Problem, ReferenceEngine, Schedule, SplitEngine
from rankward.dynamics.kernels import cache
from rankward.dynamics.noise import drawn, normals, ranks, threefry
from rankward.factorizations import DiagonalFactorization, MatrixFactorization
from rankward.optimizers import Adam, Descent, Optimizer
from rankward.seeding import key_words

ALL = {"labels": 0.3, "gradients": 0.2, "batch": 2}
RUNS = 9


class Clipped(Optimizer):
    """An optimizer as a user may write it."""

    per_run = ("steps",)

    def __init__(self, limit):
        self.limit = limit

    def update(self, parameter, gradient, state, eta, iteration):
        steps = state["steps"] + 1
        return parameter - eta / steps.sqrt() * gradient.clamp(-1.0, 1.0) * self.limit, {"steps": steps}


def keys(*seeds):
    return torch.tensor([key_words(seed, "noise") for seed in seeds])


def numbers(seed=0, kinds=("labels",), step=0, count=1000):
    noise = Noise(kinds, keys(seed), torch.tensor([0]), torch.tensor([count]))
    made = drawn(noise, torch.tensor([step]), count, torch.ones(1, count, dtype=torch.bool))
    return next(each for each in made if each is not None)[0].numpy()


@pytest.mark.parametrize(
    ("key", "counter", "words"),
    [
        ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
        ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
        ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
    ],
)
def test_threefry_has_the_published_words(key, counter, words):
    """Test vectors of the library Random123."""
    made = threefry(torch.tensor([key]), *(torch.tensor([each]) for each in counter))
    assert tuple(int(word) for word in made) == words


@pytest.mark.slow
def test_threefry_has_the_words_of_jax():
    random = pytest.importorskip("jax.extend.random")
    given = np.random.default_rng(0).integers(0, 2**32, (2, 1000))
    key = (0x12345678, 0x9ABCDEF0)
    theirs = np.asarray(random.threefry_2x32(tuple(map(np.uint32, key)), given.astype(np.uint32).ravel()))
    ours = threefry(torch.tensor([key]), *torch.from_numpy(given)[:, None])
    assert (torch.cat([each[0] for each in ours]).numpy() == theirs).all()


def test_normal_numbers_are_those_of_their_definition():
    """By mpmath; also for the smallest and the largest size, and beside every edge of the angle."""
    edges = [part * 2**30 + beside for part in range(4) for beside in (0, 1, 2**29, 2**30 - 1)]
    random = np.random.default_rng(0).integers(0, 2**32, (2, 100)).tolist()
    pairs = [*zip(*random, strict=True), *((first, second) for first in (2**31, 2**31 - 1, 0) for second in edges)]
    made = normals(*torch.tensor(pairs).T)
    with mpmath.workdps(30):
        for (first, second), *ours in zip(pairs, *map(Tensor.tolist, made), strict=True):
            x = (mpmath.mpf((first + 2**31) % 2**32) + 0.5) / 2**32
            part = (second % 2**30 + 2**29) % 2**30  # of 2^30 parts of a quarter turn, in order
            angle = (part + mpmath.mpf(0.5)) * mpmath.pi / 2**31
            size = mpmath.sqrt(-2 * mpmath.log(x))
            signs = (-1) ** (second >> 31), (-1) ** (second >> 30 & 1)
            theirs = signs[0] * size * mpmath.sin(angle), signs[1] * size * mpmath.cos(angle)
            assert max(abs(each - other) for each, other in zip(ours, theirs, strict=True)) < 2e-15


def test_numbers_are_normal():
    made = np.concatenate([numbers(seed, ("labels",), step) for seed in range(10) for step in range(20)])
    assert stats.kstest(made, "norm").pvalue > 1e-3
    count = len(made)
    for power, mean, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)):
        assert abs((made**power).mean() - mean) < 4 * np.sqrt(variance / count)


def test_seeds_purposes_iterations_and_indices_are_independent():
    count = 20_000
    made = numbers(count=count)
    others = {
        "seed": numbers(seed=1, count=count),
        "purpose": numbers(kinds=("gradients",), count=count),
        "iteration": numbers(step=1, count=count),
        "epoch of 2^16": numbers(step=2**16, count=count),
        "index": np.roll(made, 1),
        "pair": made.reshape(-1, 2)[:, ::-1].ravel(),
    }
    for name, other in others.items():
        for a, b in ((made, other), (made**2, other**2)):
            correlation = np.corrcoef(a, b)[0, 1]
            assert abs(correlation) < 4.5 / np.sqrt(count if name != "pair" else count / 2), name
    assert (numbers(count=7) == made[:7]).all()  # a number does not depend on how many there are


def test_the_minibatches_of_an_epoch_are_a_partition():
    observed = torch.tensor([[True, False, True, True, True, True], [True] * 6])
    noise = Noise(("batch",), keys(0, 1), torch.tensor([2, 4]), observed.sum(1))
    assert noise.steps_an_epoch.tolist() == [3, 2]
    for run, steps in enumerate((3, 2)):
        for epoch in range(3):
            shares = [
                drawn(noise, torch.full((2,), epoch * steps + step), 1, observed).share[run] for step in range(steps)
            ]
            seen = torch.stack(shares) > 0
            assert (seen.sum(0) == observed[run]).all()
            assert [int(each.sum()) for each in seen] == ([2, 2, 1], [4, 2])[run]  # the last one is smaller
            for share in shares:  # so the mean over minibatches of a random order is the full gradient
                assert float(share.sum()) == pytest.approx(int(observed[run].sum()))


def test_every_order_of_three_entries_is_as_likely():
    epochs = 6000
    order = ranks(keys(3).expand(epochs, 2), torch.arange(epochs), torch.ones(epochs, 3, dtype=torch.bool))
    _, counts = np.unique(order.numpy(), axis=0, return_counts=True)
    assert len(counts) == 6
    assert stats.chisquare(counts).pvalue > 1e-3


def test_a_step_with_label_noise_has_the_moments_of_its_derivation():
    """Its mean is the step of descent, its covariance eta^2 sigma^2 J^T J, J the derivative of observed entries."""
    runs, eta, sigma = 5_000, 0.1, 0.5
    w = torch.tensor([[1.0, 2.0], [0.5, -1.0]], dtype=torch.float64)
    mask, values = torch.tensor([[1.0, 0], [1, 1]]).double(), torch.tensor([[0.3, 0], [0, -0.2]]).double()
    problem = Problem(
        *(each.expand(runs, 2, 2).clone() for each in (mask, values)),
        torch.full((runs,), eta).double(), torch.zeros(runs).double(), torch.ones(runs, dtype=torch.int64),
        torch.ones(runs).double(),
    )  # fmt: skip
    problem = with_rule(problem, [Descent()] * runs, labels=sigma)
    factors = [(w + layer).expand(runs, 2, 2).clone() for layer in range(2)]
    start = [each[0].clone() for each in factors]
    engine = BatchedEngine(MatrixFactorization((2, 2), 2), Schedule(stride=1))
    moved = torch.cat([each.flatten(1) for each in optimized(engine, factors, problem)[0]], dim=1)
    jacobian = torch.zeros(4, 8, dtype=torch.float64)  # of W_2 W_1, by hand
    for i in range(2):
        for j in range(2):
            for k in range(2):
                jacobian[2 * i + j, 2 * k + j] = mask[i, j] * start[1][i, k]
                jacobian[2 * i + j, 4 + 2 * i + k] = mask[i, j] * start[0][k, j]
    residual = (mask * (start[1] @ start[0] - values)).flatten()
    mean = torch.cat([each.flatten() for each in start]) - eta * jacobian.T @ residual
    covariance = (eta * sigma) ** 2 * jacobian.T @ jacobian
    deviation = covariance.diagonal().sqrt()
    assert ((moved.mean(0) - mean).abs() <= 4.5 * deviation / runs**0.5).all()
    assert ((torch.cov(moved.T) - covariance).abs() <= 6 * torch.outer(deviation, deviation) / runs**0.5).all()


def test_a_minibatch_of_all_entries_is_descent():
    factorization, factors, problem = ensemble((2, 2, 2), 2, max_iterations=100, eta=(1e-3, 2e-3))
    engine = BatchedEngine(factorization, Schedule())
    full = optimized(engine, factors, with_rule(problem, [Descent()] * 2))[0]
    one_observed = problem.observed.sum(1)
    rule = with_rule(problem, [Descent()] * 2, batch=1).rule
    batches = replace(problem, rule=replace(rule, noise=replace(rule.noise, batch=one_observed)))
    for a, b in zip(full, optimized(engine, factors, batches)[0], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def sensing(dtype):
    """Runs with sensing matrices and a mean loss."""
    random = torch.Generator().manual_seed(0)
    matrices = torch.randn(RUNS, 7, 5, generator=random, dtype=torch.float64).to(dtype)
    factors = [torch.randn(RUNS, 5, generator=random, dtype=torch.float64).to(dtype) for _ in range(2)]
    _, _, problem = ensemble((2, 2, 2), RUNS, dtype, max_iterations=200, eta=(1e-3, 2e-3))
    scale = torch.full((RUNS,), 2 / 7, dtype=torch.float64)
    problem = replace(problem, operator=matrices, values=matrices.sum(2), loss_scale=scale)
    return DiagonalFactorization((5,), 2), factors, problem


def chain(dtype):
    return ensemble((4, 3, 3), RUNS, dtype, max_iterations=200, eta=(1e-3, 2e-3))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("made", "optimizer", "dtype", "noise"),
    [
        (chain, Descent(), torch.float32, ALL),
        (chain, Adam(), torch.float64, {"labels": 0.3}),
        (sensing, Clipped(0.5), torch.float64, {"gradients": 0.2}),
        (sensing, Descent(), torch.float64, {"labels": 0.3, "batch": 2}),
    ],
    ids=["descent in float32", "adam", "own", "minibatches of measurements"],
)
def test_bits_depend_on_neither_engine_company_threads_chunk_nor_resumption(made, optimizer, dtype, noise, monkeypatch):
    """Unrolled, blocked in registers and one by one; the reference and the batched engine to rounding."""
    kernels = {}
    for form, limit in (("unrolled", cache.UNROLLED_LIMIT), ("blocked", 0)):
        monkeypatch.setattr(cache, "UNROLLED_LIMIT", limit)
        factorization, factors, problem = made(dtype)
        problem = with_rule(problem, [optimizer] * RUNS, **noise)
        final, progress, rows = optimized(FusedEngine(factorization, Schedule(), 1), factors, problem)
        kernels[form] = final
        halves = [FusedEngine(factorization, Schedule(), 1) for _ in range(2)]
        for other in (
            optimized(FusedEngine(factorization, Schedule(), 2), factors, problem, length=50, break_after=1),
            optimized(SplitEngine(halves, [torch.device("cpu")] * 2), factors, problem, length=150),
        ):
            assert other[2] == rows and torch.equal(other[1].state, progress.state)
        alone = optimized(FusedEngine(factorization, Schedule()), *picked(factors, problem, [7]), length=100)
        assert alone[2][0] == rows[7]
    few = [2, 7]
    reference = optimized(ReferenceEngine(factorization, Schedule()), *picked(factors, problem, few))[0]
    batched = optimized(BatchedEngine(factorization, Schedule()), *picked(factors, problem, few), length=50)[0]
    tolerance = 1e-11 if dtype == torch.float64 else 1e-3
    for other in ([each[few] for each in kernels["unrolled"]], [each[few] for each in kernels["blocked"]], batched):
        for ours, theirs in zip(other, reference, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


class Keeping(Optimizer):
    """It adds gradients up, so that its factor shows the noise itself."""

    def update(self, parameter, gradient, state, eta, iteration):
        return gradient + 0 * parameter, {}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_noise_itself_has_the_same_bits_in_every_engine(dtype):
    """With a residual of zero and sigma 1 the gradient is the noise; float32 rounds the number of float64."""
    made = []
    for engine in (ReferenceEngine, BatchedEngine, FusedEngine):
        factorization, factors, problem = ensemble((3, 3), 3, dtype, max_iterations=5, eta=(1e-3, 2e-3))
        problem = replace(problem, operator=torch.zeros_like(problem.operator), values=torch.zeros_like(problem.values))
        problem = with_rule(problem, [Keeping()] * 3, gradients=1.0)
        problem = replace(problem, stop_loss=torch.full((3,), -1.0, dtype=torch.float64))
        made.append(optimized(engine(factorization, Schedule()), factors, problem)[0][0])
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    expected = [torch.from_numpy(numbers(run, ("gradients",), 4, 9)).to(dtype) for run in range(3)]
    assert torch.equal(made[0].flatten(1), torch.stack(expected))
