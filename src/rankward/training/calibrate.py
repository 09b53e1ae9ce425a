"""How long an ensemble would take, from a few iterations of some of its runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from rankward.config import RunConfig
from rankward.dynamics import Progress
from rankward.training.ensemble import Ensemble

SAMPLE = 32  # runs
SECONDS = 0.2


def longest(runs: Sequence[RunConfig]) -> float:
    """Seconds until every run has reached its iterations' limit, if none stops before; compiling not counted."""
    ensemble = Ensemble.of(runs[:SAMPLE])
    engine, progress = ensemble.engine(), Progress.start(len(ensemble.runs))
    factors = [factor.clone() for factor in ensemble.factors]
    stride = ensemble.schedule.stride
    stops = torch.zeros_like(ensemble.problem.stop_loss), torch.full_like(ensemble.problem.max_iterations, 2**60)
    problem = replace(ensemble.problem, stop_loss=stops[0], max_iterations=stops[1])  # or few are left to be timed
    engine.advance(factors, problem, progress, stride)  # compiles, where that has not been done
    length, spent, before = stride, 0.0, 0
    while spent < SECONDS and len(progress.running):
        before, started = int(progress.iteration.sum()), time.perf_counter()
        engine.advance(factors, problem, progress, length)
        spent = time.perf_counter() - started
        length *= 4
    done = int(progress.iteration.sum()) - before
    limit = sum(run.protocol(ensemble.factorization.mean_loss).max_iterations for run in runs)
    return limit * spent / max(1, done)
