"""The working directory on Python's path. Only commands that train import from it: it may be a stranger's folder."""

from __future__ import annotations

import contextlib
import os
import sys


def leave_directory() -> None:
    """Remove the working directory from Python's path: `python -m` and empty entries of PYTHONPATH put it there."""
    with contextlib.suppress(OSError):  # the directory was deleted
        directory = os.path.realpath(".")
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != directory]


def enter_directory() -> None:
    """Append the working directory to Python's path: a user's metrics are found, and installed packages come first."""
    with contextlib.suppress(OSError):
        directory = os.path.realpath(".")
        if directory not in sys.path:
            sys.path.append(directory)
