"""The plan of a sweep that `--dry-run` prints: its ensembles with estimates of memory and time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rankward.config import RunConfig
from rankward.config.checks import GIB
from rankward.terminal import align, duration


def plan(ensembles: Sequence[Sequence[RunConfig]], equal: int = 0) -> str:
    """Format a plan: a line for each ensemble with its memory and an upper bound on its training time.

    A few iterations are timed for each ensemble; the bound assumes that every run reaches `max_iterations` or
    `max_seconds`.

    Args:
        ensembles: configs of each ensemble's runs.
        equal: number of other jobs, which are equal to one of these and are not trained.
    """
    from rankward.training.calibrate import max_training_seconds
    from rankward.training.ensemble import bytes_per_run

    seconds = [min(max_training_seconds(runs), runs[0].max_seconds or math.inf) for runs in ensembles]
    rows = [
        [
            str(number),
            str(len(runs)),
            f"{len(runs) * bytes_per_run(runs[0]) / GIB:.2f}",
            duration(time),
            _describe(runs),
        ]
        for number, (runs, time) in enumerate(zip(ensembles, seconds, strict=True))
    ]
    lines = align([["ensemble", "runs", "memory GiB", "at most", "runs are"], *rows])
    runs = sum(map(len, ensembles))
    jobs = f"{runs + equal} jobs, {equal} of them equal to another in all that has effect: " if equal else ""
    total = f"{jobs}{runs} runs, at most about {duration(sum(seconds))} of training"
    return "\n".join([*lines, f"{total}; nothing was trained or written"])


def _describe(runs: Sequence[RunConfig]) -> str:
    from rankward.training.job import describe

    names = list(dict.fromkeys(describe(run) for run in runs))
    return "; ".join(names[:3]) + ("; ..." if len(names) > 3 else "")
