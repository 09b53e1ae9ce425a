"""Output to the terminal: control characters are shown as text, and a failing stream does not stop the program.

Only the standard library is imported, since the command line needs this module first.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import select
import sys
import unicodedata
from collections.abc import Iterator, Sequence
from contextvars import ContextVar
from typing import Any

ESCAPED = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control characters, surrogates, line separators
# Marks of direction, which reorder the text around them.
DIRECTIONS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"

_in_program = ContextVar("in_program", default=False)
_quiet = ContextVar("quiet", default=False)


@contextlib.contextmanager
def inside_program(quiet: bool = False) -> Iterator[None]:
    """Run a block inside another program, which goes on afterwards.

    Args:
        quiet: whether the block prints nothing but warnings and errors, and shows no progress.
    """
    tokens = _in_program.set(True), _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(tokens[1])
        _in_program.reset(tokens[0])


def is_inside_program() -> bool:
    """Whether another program has called this one, so that the process must not end."""
    return _in_program.get()


def shows_progress() -> bool:
    """Whether standard error can redraw a line, as a terminal and a notebook can, and should."""
    is_notebook = type(sys.stderr).__module__.startswith("ipykernel")
    return not _quiet.get() and (is_notebook or (sys.stderr is not None and sys.stderr.isatty()))


def visible(text: object) -> str:
    """Replace control characters, and those that reorder text, by Python's escapes; the result is one line.

    A terminal obeys such characters: in a folder's name or an error they could colour, move or erase other text.

    Example:
        >>> visible("a\\x1b[31mb\\nc"), visible("ü – \\u202e")
        ('a\\\\x1b[31mb\\\\nc', 'ü – \\\\u202e')
    """
    line = str(text)
    if line.isascii() and line.isprintable():
        return line
    return "".join(
        character.encode("unicode_escape").decode()
        if character in DIRECTIONS or unicodedata.category(character) in ESCAPED
        else character
        for character in line
    )


def say(*lines: object, error: bool = False) -> None:
    """Print lines, each of them `visible`, and flush.

    Args:
        lines: to be printed.
        error: whether to print to standard error.

    Nothing but errors is printed inside of a quiet `inside_program`.
    """
    if _quiet.get() and not error:
        return
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


class _Unfailing(io.FileIO):
    """A file descriptor whose writes never raise; `failure` is the last error, after which data were lost."""

    failure: OSError | None = None

    def write(self, data: Any) -> int:
        """Write all bytes, or record the error. If the descriptor is non-blocking, wait until it is ready."""
        try:
            while (written := super().write(data)) is None:
                select.select([], [self], [])
            return written
        except (OSError, ValueError) as error:
            self.failure = error if isinstance(error, OSError) else OSError(str(error))
            return len(data)


def steady() -> None:
    """Replace standard output and standard error by streams whose writes never raise.

    Closed streams (`2>&-`, as under cron), also a closed standard input, are connected to the null device, so that
    files that are opened later do not get their numbers. A second call, or a stream that was replaced by other code,
    changes nothing.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            null = os.open(os.devnull, os.O_RDWR)
            if null != number:
                os.dup2(null, number)
                os.close(null)
            os.set_inheritable(number, True)
    sys.stdin = sys.stdin or open(0, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.stdout = _steadied(sys.stdout, sys.__stdout__, 1)
    sys.stderr = _steadied(sys.stderr, sys.__stderr__, 2)


def _steadied(stream: Any, original: Any, number: int) -> Any:
    if stream is not None and stream is not original:
        return stream
    if stream is not None:
        with contextlib.suppress(OSError):
            stream.flush()
    # The error handler writes characters that the encoding lacks as escapes.
    buffer = io.BufferedWriter(_Unfailing(number, "w", closefd=False))
    options: Any = {"line_buffering": number == 2 or os.isatty(number)}
    if isinstance(stream, io.TextIOWrapper):
        options = {"line_buffering": stream.line_buffering, "write_through": stream.write_through}
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return io.TextIOWrapper(buffer, encoding=encoding, errors="backslashreplace", **options)


def lost() -> str:
    """A line that says why data for standard output were lost; empty if none were lost.

    A reader that has exited (`| head -1`) does not count.
    """
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    failure = getattr(raw, "failure", None)
    if failure is None or failure.errno == errno.EPIPE:
        return ""
    reason = failure.strerror or failure
    return f"standard output: {reason}; some of what was printed is lost, and nothing else"
