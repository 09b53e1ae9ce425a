"""The cosine schedule: its factors in 40 digits, and steps with it, which are torch's in every engine."""

from functools import partial

import mpmath
import numpy as np
import pytest
import torch

from helpers.engines import ensemble
from helpers.optimizing import by_torch, optimized, picked, with_rule
from rankward.dynamics import BatchedEngine, FusedEngine, ReferenceEngine, Schedule, choose_engine
from rankward.optimizers import AdamW, Cosine, Momentum, Scheduled

ITERATIONS = 200


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 6), (torch.float32, 6)])
@pytest.mark.parametrize(
    ("warmup", "steps", "start", "end"), [(37, 10007, 0.25, 0.0), (0, 64, 0.0, 0.125), (1, 2, 0, 1)]
)
def test_the_factor_is_that_of_forty_digits(dtype, limit, warmup, steps, start, end):
    made = Cosine(warmup, steps, start, end)
    made = made.with_numbers([torch.tensor(number, dtype=dtype) for number in made.numbers])
    for iteration in {*range(1, 45), *range(1, steps, 97), *range(steps - 9, steps + 9)} - set(range(-9, 1)):
        done = iteration - 1
        with mpmath.workdps(40):
            p = min(mpmath.mpf(1), mpmath.mpf(done - warmup) / (steps - warmup))
            exact = end + (1 - mpmath.mpf(end)) * (1 + mpmath.cos(mpmath.pi * p)) / 2
            exact = start + (1 - mpmath.mpf(start)) * done / warmup if done < warmup else exact
            exact = 0 if abs(exact) < mpmath.mpf(10) ** -30 else exact
            factor = made.factor(torch.tensor(float(iteration), dtype=dtype)).numpy()
            assert factor.dtype == made.fall.numpy().dtype
            assert abs(mpmath.mpf(float(factor)) - exact) <= limit * np.spacing(np.abs(factor)), iteration


class ByTorch:
    """An optimizer of torch after each step of which its schedule steps."""

    def __init__(self, make, weights, lr, cosine):
        self.optimizer = make(weights, lr=lr)
        warm, steps = int(cosine.warmup_steps), int(cosine.decay_steps)
        schedules = torch.optim.lr_scheduler
        rising = schedules.LinearLR(self.optimizer, cosine.start_factor, total_iters=warm)
        falling = schedules.CosineAnnealingLR(self.optimizer, steps - warm, cosine.end_factor * lr)
        self.schedule = schedules.SequentialLR(self.optimizer, [rising, falling], [warm])
        self.zero_grad = self.optimizer.zero_grad

    def step(self):
        self.optimizer.step()
        self.schedule.step()


def scheduled(optimizer, runs):
    """Runs whose schedules differ in all numbers."""
    _, factors, problem = made = ensemble((2, 2, 2), runs, max_iterations=ITERATIONS, eta=(1e-3, 2e-2))
    cosines = [Cosine(30 + n, ITERATIONS + 40 * n, 0.1 + 0.05 * n, 0.01 * n) for n in range(runs)]
    return made[0], factors, with_rule(problem, [Scheduled(optimizer, cosine) for cosine in cosines]), cosines


def check(got, run, factorization, factors, problem, cosine, make):
    expected = by_torch(factorization, factors, problem, run, partial(ByTorch, make, cosine=cosine), ITERATIONS)
    for ours, theirs in zip(got, expected, strict=True):
        assert float((ours - theirs).abs().max()) <= 1e-9 * float(theirs.abs().max())


@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
def test_steps_are_those_of_torch_with_its_schedules():
    factorization, factors, problem, cosines = scheduled(AdamW(weight_decay=0.1), 3)
    make = partial(torch.optim.AdamW, weight_decay=0.1)
    one = optimized(ReferenceEngine(factorization, Schedule()), *picked(factors, problem, [1]))[0]
    check([each[0] for each in one], 1, factorization, factors, problem, cosines[1], make)
    many = optimized(BatchedEngine(factorization, Schedule()), *picked(factors, problem, [1, 2]))[0]
    check([each[1] for each in many], 2, factorization, factors, problem, cosines[2], make)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*scheduler.step:UserWarning")
def test_compiled_steps_with_a_schedule_depend_on_neither_company_nor_chunk():
    """Runs with different schedules share a kernel, and go on from a stored state to the same bits."""
    factorization, factors, problem, cosines = scheduled(Momentum(0.5), 11)
    assert choose_engine("auto", factorization, Schedule(), problem=problem).name == "fused"
    got, _, rows = optimized(FusedEngine(factorization, Schedule(), 1), factors, problem)
    for run in (0, 10):
        make = partial(torch.optim.SGD, momentum=0.5)
        check([each[run] for each in got], run, factorization, factors, problem, cosines[run], make)
    again = optimized(FusedEngine(factorization, Schedule(), 2), factors, problem, length=150, break_after=1)
    alone = optimized(FusedEngine(factorization, Schedule()), *picked(factors, problem, [7]), length=50)
    assert again[2] == rows and alone[2][0] == rows[7]


def test_a_warm_up_as_long_as_the_run_is_refused():
    with pytest.raises(ValueError, match="warmup_steps 50 must be below the 50 steps"):
        Cosine(50, max_iterations=50)
    with pytest.raises(ValueError, match="is needed"):
        Cosine()
