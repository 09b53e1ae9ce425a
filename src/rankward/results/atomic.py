"""Files written whole or not at all, alone or several that belong together."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from rankward.config.errors import RankwardError

Writer = Callable[[Path], object]  # fills the file at a path

# What is wrong with a place, whoever writes there: no room, no more of a quota, read-only, broken, not allowed.
OF_PLACE = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES)


class ResultsError(RankwardError):
    """A result that cannot be written or read; one line that names the path and the reason.

    `errno` is the operating system's number of the reason, where it gave one.
    """

    errno: int | None = None


class NoResults(ResultsError):
    """A folder in which no run has left any yet."""


def of_place(error: BaseException | None) -> bool:
    """Whether an error would meet whoever writes in the same place, as a full disk does.

    Example:
        >>> of_place(OSError(errno.ENOSPC, "No space left on device")), of_place(FileNotFoundError(errno.ENOENT, ""))
        (True, False)
    """
    return isinstance(error, OSError | ResultsError) and error.errno in OF_PLACE


def write_whole(path: Path, write: Writer, previous: Path | None = None) -> None:
    """Write a file under a temporary name, then rename it: a reader finds the whole file or none.

    Args:
        path: of the file.
        write: fills it.
        previous: where the file that it replaces is kept.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full. Nothing is left behind.
    """
    write_together({path: write}, previous)


def write_together(writers: Mapping[Path, Writer], previous: Path | None = None) -> None:
    """Write files that belong together; the last one vouches for the others.

    All are written under temporary names before the first is renamed, so that a full disk leaves what stood there. An
    old last file goes before the others are replaced: it never vouches for files that are not its own.

    Args:
        writers: by path.
        previous: where the last file that is replaced is kept.

    Raises:
        ResultsError: a folder cannot be written, or the disk is full. No temporary file is left behind.
    """
    staged: dict[Path, Path] = {}
    path = last = list(writers)[-1]
    try:
        for path, write in writers.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _tidy(path)
            temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
            staged[path] = temporary
            write(temporary)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if previous is not None and last.exists():
            os.replace(last, previous)  # noqa: PTH105
        elif len(writers) > 1:
            last.unlink(missing_ok=True)
        for path, temporary in staged.items():
            os.replace(temporary, path)  # noqa: PTH105 - one call for tests to break
    except Exception as error:  # libraries wrap a full disk in errors of their own
        if isinstance(error, OSError) or "os error" in str(error):
            raise failure("write", path, error) from error
        raise
    finally:  # an interruption cleans up as well; what was renamed is no longer there to remove
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def _tidy(path: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left."""
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        number = stale.name.removeprefix(f".{path.name}.").partition("-")[0]
        try:
            os.kill(int(number), 0)
        except (ProcessLookupError, ValueError):
            stale.unlink(missing_ok=True)
        except OSError:
            continue  # it lives, under another user


def read_text(path: Path) -> str:
    """Text of a regular file: a pipe would keep its reader waiting, and a device may have no end.

    Raises:
        OSError: no such file, or one of another kind.
    """
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    return path.read_text(encoding="utf-8")


def failure(verb: str, path: Path, error: BaseException) -> ResultsError:
    """One line: what could not be done to which path, and the operating system's reason where it gave one."""
    wrapped = re.search(r"os error (\d+)", str(error))  # as Rust libraries tell it
    number = int(wrapped[1]) if wrapped else getattr(error, "errno", None)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    result = ResultsError(f"cannot {verb} {path}: {os.strerror(number) if number else first_line}")
    result.errno = number
    return result
