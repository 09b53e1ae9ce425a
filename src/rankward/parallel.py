"""Number of cores, and calls in threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor


def cores() -> int:
    """Number of cores that this process may use. A task of SLURM uses its share, which not every cluster enforces.

    Example:
        >>> cores() >= 1
        True
    """
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    given = os.environ.get("SLURM_CPUS_PER_TASK") or os.environ.get("SLURM_CPUS_ON_NODE") or ""
    return max(1, min(available, int(given))) if given.isdigit() else available


def side_by_side(threads: int, function: Callable[..., object], *arguments: object) -> None:
    """Call a function once in each of several threads, which share the work through the arguments (a queue).

    Args:
        threads: their number; 1 calls the function in this thread.

    Raises:
        Exception: raised by one of the calls.

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
