"""The working directory, from which only commands that train may import: a folder may be somebody else's."""

from __future__ import annotations

import contextlib
import os
import sys


def leave_directory() -> None:
    """Take the working directory off Python's path, where `python -m` or an empty entry of PYTHONPATH has put it."""
    with contextlib.suppress(OSError):  # a directory that is gone
        here = os.path.realpath(".")
        sys.path[:] = [entry for entry in sys.path if os.path.realpath(entry or ".") != here]


def enter_directory() -> None:
    """Put it last: what is installed comes first, and a user's own metrics and observations are found."""
    with contextlib.suppress(OSError):
        here = os.path.realpath(".")
        if here not in sys.path:
            sys.path.append(here)
