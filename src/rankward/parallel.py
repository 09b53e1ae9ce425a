"""How many threads there are to use, and using them."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def cores() -> int:
    """Cores that this process may use; of a task of SLURM those it was given, which not every cluster enforces.

    Example:
        >>> cores() >= 1
        True
    """
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    return max(1, min(there, int(given))) if given.isdigit() else there


def side_by_side(threads: int, function: Callable[..., object], *arguments: object) -> None:
    """Call a function that shares its work through its arguments (a queue) once in each of so many threads.

    Raises:
        Exception: what any of the calls raised.

    Example:
        >>> done = []
        >>> side_by_side(3, done.append, 1)
        >>> done
        [1, 1, 1]
    """
    if threads == 1:
        function(*arguments)
        return
    with ThreadPoolExecutor(threads) as pool:
        for call in [pool.submit(function, *arguments) for _ in range(threads)]:
            call.result()
