"""The console script `rankward`, and `python -m rankward`.

Ctrl-C ends it in a line from the first moment on, and the working directory leaves Python's path before anything else
is imported.
"""

from __future__ import annotations

import os
import signal
from typing import Any

from rankward.import_path import leave_directory


def _end(*_: Any) -> None:
    """Nothing has been written yet, and libraries that are half imported cannot be left in order."""
    os.write(2, b"rankward: interrupted\n")
    os._exit(130)


def main() -> None:
    """Import the command line, then do as it says."""
    leave_directory()
    ours = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # as of nohup, it may be ignored
    if ours:
        signal.signal(signal.SIGINT, _end)
    from rankward.cli import main as command_line

    if ours:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    command_line()


if __name__ == "__main__":
    main()
