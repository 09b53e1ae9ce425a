"""Estimate of the training time of an ensemble, from a few iterations of some of its runs."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace

import torch

from rankward.config import RunConfig
from rankward.dynamics import Engine
from rankward.parallel import cores
from rankward.training.ensemble import Ensemble, protocol_of

SAMPLE_RUNS = 32
LARGE_PARAMETERS = 100_000  # of a run; of larger runs, only one per core is timed
MIN_SECONDS = 0.2  # a timing of this length is accurate enough
MAX_SECONDS = 1.0  # expected length of the longest timing


def max_training_seconds(runs: Sequence[RunConfig]) -> float:
    """Estimated seconds until every run has reached `max_iterations`, if none stops earlier; without compilation."""
    ensemble = Ensemble.of(runs[: cores()])
    if sum(factor[0].numel() for factor in ensemble.factors) < LARGE_PARAMETERS:
        ensemble = Ensemble.of(runs[:SAMPLE_RUNS])
    progress = ensemble.start()
    factors = [factor.clone() for factor in ensemble.factors]
    stops = torch.zeros_like(ensemble.problem.stop_loss), torch.full_like(ensemble.problem.max_iterations, 2**60)
    problem = replace(ensemble.problem, stop_loss=stops[0], max_iterations=stops[1])  # all go on while they are timed

    def timed(engine: Engine, length: int) -> tuple[float, int]:
        before, started = int(progress.iteration.sum()), time.perf_counter()
        engine.advance(factors, problem, progress, length)
        return time.perf_counter() - started, int(progress.iteration.sum()) - before

    one_by_one = replace(ensemble, schedule=replace(ensemble.schedule, stride=1)).engine()
    timed(one_by_one, 1)  # compiles the kernel if necessary
    spent, done = timed(one_by_one, 1)
    engine, length = ensemble.engine(), ensemble.schedule.stride
    while spent < MIN_SECONDS and 0 < length * len(progress.running) * spent < MAX_SECONDS * max(1, done):
        spent, done = timed(engine, length)
        length *= 4
    limit = sum(protocol_of(run, ensemble.factorization).max_iterations for run in runs)
    return limit * spent / max(1, done)
