"""The log of a run: timestamped lines, and the traceback of a failure."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

LOG = "rankward.log"  # Hydra writes the messages of user code to the same file


def stamped(text: str) -> str:
    """A log line in Hydra's format.

    Example:
        >>> stamped("converged")[:4].strip("[") < "3000" and stamped("converged")[-10:]
        ' converged'
    """
    now = time.time()
    return f"[{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now))},{int(now % 1 * 1000):03d}] {text}"


def note(folder: Path, text: str) -> None:
    """Add a line to a run's log."""
    _append(folder, stamped(text))


def note_failure(folder: Path, why: str, error: BaseException) -> None:
    """Add the reason of a failure, and the traceback, to a run's log."""
    _append(folder, stamped(f"failed: {why}"), "".join(traceback.format_exception(error)).rstrip())


def _append(folder: Path, *lines: str) -> None:
    """Add lines in one write. Errors are ignored: a log that cannot be written is no reason to lose a run."""
    with contextlib.suppress(OSError), (folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("".join(f"{line}\n" for line in lines))


class Log:
    """The logs of runs that train together: each is written once, at the end of the run, with the common lines.

    The lines of a single run are written at once, so that they can be followed.

    Args:
        folders: of the runs.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Add a line to the logs of all runs."""
        if len(self.folders) == 1:
            note(self.folders[0], text)
        else:
            self.lines.append(stamped(text))

    def end(self, index: int, text: str) -> None:
        """Write the log of one run, with this last line."""
        _append(self.folders[index], *self.lines, stamped(text))
