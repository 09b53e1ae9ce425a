"""Everything that reaches a terminal: text is shown as text, and a stream that fails stops nothing.

Only the standard library is imported: the command line starts here, before anything else.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import unicodedata
from collections.abc import Sequence
from typing import Any

HIDDEN = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control characters, halves of pairs, ends of lines
# Marks of direction, which reorder the text around them.
TURNING = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"


def visible(text: object) -> str:
    """One line in which control characters, and those that reorder text, are shown as Python writes them.

    A terminal obeys such characters: those of a folder's name or of an error could colour, move or erase what it shows.

    Example:
        >>> visible("a\\x1b[31mb\\nc"), visible("ü – \\u202e")
        ('a\\\\x1b[31mb\\\\nc', 'ü – \\\\u202e')
    """
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        character.encode("unicode_escape").decode()
        if character in TURNING or unicodedata.category(character) in HIDDEN
        else character
        for character in line
    )


def say(*lines: object, error: bool = False) -> None:
    """Print lines, each of them `visible`, at once.

    Args:
        error: to standard error.
    """
    print(*map(visible, lines), sep="\n", file=sys.stderr if error else sys.stdout, flush=True)


def duration(seconds: float) -> str:
    """A duration in its one or two largest units.

    Example:
        >>> duration(0.4), duration(75), duration(120), duration(7300)
        ('1 s', '1 min 15 s', '2 min', '2 h 1 min')
    """
    if seconds < 60:
        return f"{max(1, round(seconds))} s"
    minutes, rest = divmod(round(seconds), 60)
    large, small, units = (minutes, rest, ("min", "s")) if minutes < 60 else (*divmod(minutes, 60), ("h", "min"))
    return f"{large} {units[0]} {small} {units[1]}" if small else f"{large} {units[0]}"


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column is aligned to the left, the others to the right.

    Example:
        >>> align([["depth", "loss"], ["10", "0.5"]])
        ['depth  loss', '10      0.5']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]


class _Steady(io.FileIO):
    """A file descriptor whose writes do not fail: what it could not take is lost, and it keeps why."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """All bytes are taken; where the descriptor does not wait, this waits for it."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
            return written
        except (OSError, ValueError) as error:
            self.failure = error if isinstance(error, OSError) else OSError(str(error))
            return len(data)


def steady() -> None:
    """Put streams that cannot fail in the place of standard output and standard error.

    A closed one (`2>&-`, as under cron) leads nowhere, and so does a closed standard input: files that are opened later
    must not get their numbers. Called again, it changes nothing; nor where somebody has replaced the streams.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != number:
                os.dup2(nowhere, number)
                os.close(nowhere)
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stdout = _steadied(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _steadied(sys.stderr, sys.__stderr__, 2)


def _steadied(stream: Any, own: Any, number: int) -> Any:
    if stream is not None and stream is not own:
        return stream
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
    # Characters that the encoding lacks are written as escapes.
    buffer = io.BufferedWriter(_Steady(number, "w", closefd=False))
    options: Any = {"line_buffering": number == 2 or os.isatty(number)}
    if isinstance(stream, io.TextIOWrapper):
        options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", **options)


def lost() -> str:
    """Why standard output has lost something, in a line; empty where it has not, or where its reader has gone.

    A reader that goes (`| head -1`) wanted no more.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = getattr(raw, "failure", None)
    if failure is None or failure.errno == errno.EPIPE:
        return ""
    reason = failure.strerror or failure
    return f"standard output: {reason}; some of what was printed is lost, and nothing else"
