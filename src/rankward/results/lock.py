"""A folder of results is one process's at a time."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from rankward.results.whole import ResultsError, failure

LOCK = ".lock"


class Busy(OSError):
    """A folder that another process is at work on."""


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Hold the folder for this process; the hold ends with the process, however that ends.

    A folder that this process holds already may be claimed again inside.

    Raises:
        Busy: another process holds it.
        ResultsError: the folder cannot be written; or, at the end, it was deleted or moved in the meantime.
    """
    path = folder.resolve() / LOCK
    lock = FileLock(path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise Busy(f"{folder} is in use: another process is at work on it") from None
    except OSError as error:
        raise failure("write", path, error) from error
    try:
        with path.open("rb") as file:
            try:
                yield
            finally:
                there = _is_at(path, file.fileno())
                if there and lock.lock_counter == 1:
                    path.unlink()
    finally:
        lock.release()
    if not there:
        raise ResultsError(f"{folder} was deleted or moved while it was in use: its results are not all there")


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is still the one at the path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except OSError:
        return False
