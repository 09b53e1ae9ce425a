"""How long an ensemble would take, from a few iterations of some of its runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from rankward.config import RunConfig
from rankward.dynamics import Engine, Progress
from rankward.parallel import cores
from rankward.training.ensemble import Ensemble

SAMPLE = 32  # runs
LARGE = 100_000  # parameters of a run from which as many runs as there are cores are timed for all
SECONDS = 0.2
MOST = 1.0  # seconds that a longer look may be expected to take


def longest(runs: Sequence[RunConfig]) -> float:
    """Seconds until every run has reached its iterations' limit, if none stops before; compiling not counted."""
    ensemble = Ensemble.of(runs[: cores()])
    if sum(factor[0].numel() for factor in ensemble.factors) < LARGE:
        ensemble = Ensemble.of(runs[:SAMPLE])
    progress = Progress.start(len(ensemble.runs))
    factors = [factor.clone() for factor in ensemble.factors]
    stops = torch.zeros_like(ensemble.problem.stop_loss), torch.full_like(ensemble.problem.max_iterations, 2**60)
    problem = replace(ensemble.problem, stop_loss=stops[0], max_iterations=stops[1])  # or few are left to be timed

    def timed(engine: Engine, length: int) -> tuple[float, int]:
        before, started = int(progress.iteration.sum()), time.perf_counter()
        engine.advance(factors, problem, progress, length)
        return time.perf_counter() - started, int(progress.iteration.sum()) - before

    one_by_one = replace(ensemble, schedule=replace(ensemble.schedule, stride=1)).engine()
    timed(one_by_one, 1)  # compiles, where that has not been done
    spent, done = timed(one_by_one, 1)
    engine, length = ensemble.engine(), ensemble.schedule.stride
    while spent < SECONDS and length * len(progress.running) * spent < MOST * max(1, done) and len(progress.running):
        spent, done = timed(engine, length)
        length *= 4
    limit = sum(run.protocol(ensemble.factorization.mean_loss).max_iterations for run in runs)
    return limit * spent / max(1, done)
