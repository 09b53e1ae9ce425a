"""What a sweep notes of its jobs before they begin: how many there are, and which keys vary between them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from rankward.results.atomic import read_text, write_whole

JOBS = ".jobs"  # the number in the first line, the keys in the second
APART = ("logger", "hydra.")  # keys that make no other run


def varying_keys(jobs: Iterable[Sequence[str]]) -> list[str]:
    """Keys that jobs' overrides set to different values, or that only some of them set, as they first appear.

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
    return [key for key in differ if not key.lstrip("+~").startswith(APART)]


def note_jobs(sweep: Path, jobs: int, keys: Sequence[str]) -> None:
    """Keep how many jobs a sweep has, and which keys vary between them.

    Raises:
        ResultsError: it cannot be written.
    """
    text = f"{jobs}\n{' '.join(keys)}\n"
    write_whole(sweep / JOBS, lambda path: path.write_text(text, encoding="utf-8"))


def jobs_without(sweep: Path, known: int) -> int:
    """How many of a sweep's jobs are not among the `known`: they have not begun, or left nothing."""
    (number, *_) = [*_lines(sweep), "0"]
    return max(0, int(number) - known) if number.isdigit() else 0


def noted_keys(sweep: Path) -> list[str]:
    """Keys that vary between a sweep's jobs; none where another sweeper than ours has made them."""
    return " ".join(_lines(sweep)[1:]).split()


def _lines(sweep: Path) -> list[str]:
    try:
        return read_text(sweep / JOBS).splitlines()
    except (OSError, ValueError):  # of a sweep that never got so far, or another program's
        return []
