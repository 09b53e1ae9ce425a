"""The log of a run: a line for each thing that was done, with its time, and why a run has failed."""

from __future__ import annotations

import contextlib
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

LOG = "rankward.log"  # where Hydra puts what a user's own code logs, too


def stamped(text: str) -> str:
    """A line of a log, as Hydra writes them.

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
    """Add to a run's log why it has failed, and the traceback."""
    _append(folder, stamped(f"failed: {why}"), "".join(traceback.format_exception(error)).rstrip())


def _append(folder: Path, *lines: str) -> None:
    """Add lines in one write. What cannot be written is left out: it is no reason to lose a run."""
    with contextlib.suppress(OSError), (folder / LOG).open("a", encoding="utf-8", errors="backslashreplace") as file:
        file.write("".join(f"{line}\n" for line in lines))


class Log:
    """The logs of runs that train together: each is written once, at the run's end, with the lines that all share.

    A run that trains alone has its lines at once, for who follows it.

    Args:
        folders: of the runs.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)
        self.lines: list[str] = []

    def note(self, text: str) -> None:
        """Note what all of the runs do."""
        if len(self.folders) == 1:
            note(self.folders[0], text)
        else:
            self.lines.append(stamped(text))

    def end(self, index: int, text: str) -> None:
        """Write what has become of a run."""
        _append(self.folders[index], *self.lines, stamped(text))
