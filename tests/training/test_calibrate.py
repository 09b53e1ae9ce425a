"""Estimates of training time: near NumPy's own time for the same products, and soon had."""

import time

import numpy as np
import pytest

from helpers.runs import composed
from rankward.training.calibrate import max_training_seconds
from rankward.training.ensemble import ObservationCache, measurement_of


@pytest.mark.slow
def test_large_runs_are_timed_by_few_iterations():
    size, iterations = 400, 1000
    problem = ["observations=random_matrix", f"observations.dims=[{size},{size}]", "observations.count=9000"]
    runs = [composed(*problem, f"seed={seed}", f"max_iterations={iterations}")[0] for seed in range(20)]
    start = time.process_time()
    seconds = max_training_seconds(runs)
    assert time.process_time() - start < 10  # fifty iterations of each run: a minute
    square = np.random.default_rng(0).standard_normal((size, size))
    start = time.process_time()
    for _ in range(5):
        square @ square
    product = (time.process_time() - start) / 5
    alone = 20 * iterations * 7 * product  # two products forward, two back, three slopes, on one core
    assert alone / 10 < seconds < alone * 10


def test_observation_cache_is_bounded(monkeypatch):
    monkeypatch.setattr("rankward.training.ensemble.CACHE_BYTES", 100_000)
    monkeypatch.setattr("rankward.training.ensemble._cache", ObservationCache())
    problem = ["observations=random_matrix", "observations.dims=[40,40]", "observations.count=90"]
    runs = [composed(*problem, f"observations.seed={seed}")[0] for seed in range(9)]
    first = measurement_of(runs[0])
    assert measurement_of(runs[0]) is first
    for run in runs[1:]:  # 27,200 bytes each: mask, values and truth
        measurement_of(run)
    assert measurement_of(runs[-1]) is measurement_of(runs[-1])
    assert measurement_of(runs[0]) is not first
