"""The plan that `--dry-run` prints: the ensembles of a sweep, or a single run, with estimates of memory and time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rankward import results
from rankward.config import RunConfig
from rankward.config.checks import GIB
from rankward.terminal import align, duration

if TYPE_CHECKING:
    from rankward.training.module import EnsembleModule

NOTHING = "nothing was trained or written"


def plan(ensembles: Sequence[Sequence[RunConfig]], equal: int = 0) -> str:
    """Format a plan: a line for each ensemble with its memory and an upper bound on its training time.

    A few iterations are timed for each ensemble; the bound assumes that every run reaches `max_iterations` or
    `max_seconds`.

    Args:
        ensembles: configs of each ensemble's runs.
        equal: number of other jobs, which are equal to one of these and are not trained.
    """
    seconds = [_max_seconds(runs) for runs in ensembles]
    rows = [
        [
            str(number),
            str(len(runs)),
            _gib(runs),
            duration(time),
            _describe(runs),
        ]
        for number, (runs, time) in enumerate(zip(ensembles, seconds, strict=True))
    ]
    lines = align([["ensemble", "runs", "memory GiB", "at most", "runs are"], *rows])
    runs = sum(map(len, ensembles))
    jobs = f"{runs + equal} jobs, {equal} of them equal to another in all that has effect: " if equal else ""
    total = f"{jobs}{runs} runs, at most about {duration(sum(seconds))} of training"
    return "\n".join([*lines, f"{total}; {NOTHING}"])


def plan_of_run(module: EnsembleModule, folder: Path) -> list[str]:
    """Format the plan of a single run: its problem, limits, engine, memory, training time at most, and folder.

    Args:
        module: that would train it.
        folder: of the run; it need not exist.
    """
    from rankward.training.ensemble import protocol_of
    from rankward.training.resume import checkpoint_of

    ensemble = module.ensemble
    (run,), (measurement,) = ensemble.runs, ensemble.measurements
    protocol = protocol_of(run, ensemble.factorization)
    parameters = sum(factor[0].numel() for factor in ensemble.factors)
    size = f"{'x'.join(map(str, measurement.dims))}, {parameters:,} parameters, {measurement.count:,} observations"
    state = "complete: it would be kept" if results.is_complete(folder) else NOTHING
    if state == NOTHING and (checkpoint := checkpoint_of(run, folder)):
        state = f"the run would go on from {checkpoint}; {NOTHING}"
    return [
        f"{_describe([run])}, seed {run.seed}: {size}",
        f"stop_loss {protocol.stop_loss:g}, max_iterations {protocol.max_iterations:,}",
        f"engine {module.engine.name}, {_gib([run])} GiB, at most about {duration(_max_seconds([run]))} of training",
        f"{folder}: {state}",
    ]


def _max_seconds(runs: Sequence[RunConfig]) -> float:
    """Training time of an ensemble at most; a few iterations are timed."""
    from rankward.training.calibrate import max_training_seconds

    return min(max_training_seconds(runs), runs[0].max_seconds or math.inf)


def _gib(runs: Sequence[RunConfig]) -> str:
    from rankward.training.ensemble import bytes_per_run

    return f"{len(runs) * bytes_per_run(runs[0]) / GIB:.2f}"


def _describe(runs: Sequence[RunConfig]) -> str:
    from rankward.training.job import describe

    names = list(dict.fromkeys(describe(run) for run in runs))
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
