"""The file `.jobs` of a sweep: the number of its jobs, and the keys that vary between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rankward.results.atomic import read_text, write_atomic

JOBS = ".jobs"  # the number in the first line, the keys in the second
NOT_SETTINGS = ("logger", "hydra.")  # keys that do not change a run


def varying_keys(jobs: Iterable[Sequence[str]]) -> list[str]:
    """Keys that jobs' overrides set to different values, or that only some of them set, in order of appearance.

    Example:
        >>> varying_keys([["depth=2", "lr.eta=0.1", "seed=0"], ["depth=2", "lr.eta=0.1", "seed=1", "init=balanced"]])
        ['seed', 'init']
    """
    overrides: Counter[str] = Counter()
    number = 0
    for job in jobs:
        overrides.update(job)
        number += 1
    counts: dict[str, list[int]] = {}  # of jobs with each value, by key
    for override, count in overrides.items():
        counts.setdefault(override.partition("=")[0], []).append(count)
    differ = [key for key, found in counts.items() if len(found) > 1 or found[0] < number]
    return [key for key in differ if not key.lstrip("+~").startswith(NOT_SETTINGS)]


def write_job_list(sweep: Path, jobs: int, keys: Sequence[str]) -> None:
    """Write the number of a sweep's jobs, and the keys that vary between them.

    Raises:
        ResultsError: it cannot be written.
    """
    text = f"{jobs}\n{' '.join(keys)}\n"
    write_atomic(sweep / JOBS, lambda path: path.write_text(text, encoding="utf-8"))


def missing_jobs(sweep: Path, known: int) -> int:
    """Number of a sweep's jobs beyond the `known` ones, which have not begun or have no folder."""
    (number, *_) = [*_lines(sweep), "0"]
    return max(0, int(number) - known) if number.isdigit() else 0


def read_varying_keys(sweep: Path) -> list[str]:
    """Keys that vary between a sweep's jobs; empty if another sweeper made them."""
    return " ".join(_lines(sweep)[1:]).split()


def _lines(sweep: Path) -> list[str]:
    try:
        return read_text(sweep / JOBS).splitlines()
    except (OSError, ValueError):  # a sweep that ended earlier, or another program's
        return []
