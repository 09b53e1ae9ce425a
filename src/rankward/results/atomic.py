"""Atomic writes, of one file or of several that belong together."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from rankward.config.errors import RankwardError

Writer = Callable[[Path], object]  # writes a file at this path

# Errors that every write to the same disk would meet: full, over quota, read-only, broken, no permission.
STORAGE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES)


class ResultsError(RankwardError):
    """A result cannot be written or read; one line with the path and the reason.

    `errno` is the operating system's number of the reason, where it gave one.
    """

    errno: int | None = None


class NoResults(ResultsError):
    """A folder has no results yet."""


def is_storage_error(error: BaseException | None) -> bool:
    """Whether other writes to the same disk would fail too, for example because it is full.

    Example:
        >>> is_storage_error(OSError(errno.ENOSPC, "No space left on device"))
        True
        >>> is_storage_error(FileNotFoundError(errno.ENOENT, "No such file or directory"))
        False
    """
    return isinstance(error, OSError | ResultsError) and error.errno in STORAGE_ERRORS


def write_atomic(path: Path, write: Writer, previous: Path | None = None) -> None:
    """Write a file atomically: under a temporary name, which is then renamed.

    Args:
        path: of the file.
        write: writes it.
        previous: path to which an existing file is renamed; None replaces it.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full. No temporary file is left.
    """
    write_atomic_group({path: write}, previous)


def write_atomic_group(writers: Mapping[Path, Writer], previous: Path | None = None) -> None:
    """Write several files as a group; the last file marks the group as complete.

    All are written under temporary names before the first is renamed, so that a full disk leaves the old files. An old
    last file is removed before the others are replaced, so that it never marks stale files as complete.

    Args:
        writers: by path.
        previous: path to which an existing last file is renamed; None removes it.

    Raises:
        ResultsError: a folder cannot be written, or the disk is full. No temporary file is left.
    """
    staged: dict[Path, Path] = {}
    path = last = list(writers)[-1]
    try:
        for path, write in writers.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            _tidy(path)
            temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
            staged[path] = temporary
            temporary.touch()
            mode = temporary.stat().st_mode  # safetensors gives its files another one, for their owner alone
            write(temporary)
            temporary.chmod(mode)
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        if previous is not None and last.exists():
            os.replace(last, previous)  # noqa: PTH105
        elif len(writers) > 1:
            last.unlink(missing_ok=True)
        for path, temporary in staged.items():
            os.replace(temporary, path)  # noqa: PTH105 - one call for tests to break
    except Exception as error:  # libraries wrap the error of a full disk
        if isinstance(error, OSError) or "os error" in str(error):
            raise io_error("write", path, error) from error
        raise
    finally:  # after an interruption, too; renamed files no longer have these names
        for temporary in staged.values():
            with contextlib.suppress(OSError):
                temporary.unlink()


def _tidy(path: Path) -> None:
    """Remove temporary files of processes that were killed while they wrote this file."""
    for stale in path.parent.glob(f".{path.name}.*.tmp"):
        number = stale.name.removeprefix(f".{path.name}.").partition("-")[0]
        try:
            os.kill(int(number), 0)
        except (ProcessLookupError, ValueError):
            stale.unlink(missing_ok=True)
        except OSError:
            continue  # the process is alive and belongs to another user


def read_text(path: Path) -> str:
    """Text of a regular file; pipes and devices are refused because they may block or never end.

    Raises:
        OSError: no such file, or not a regular one.
    """
    if path.exists() and not path.is_file():
        raise OSError("not a regular file")
    return path.read_text(encoding="utf-8")


def io_error(verb: str, path: Path, error: BaseException) -> ResultsError:
    """A ResultsError of one line: the verb, the path, and the reason of the operating system if there is one."""
    wrapped = re.search(r"os error (\d+)", str(error))  # the format of Rust libraries
    number = int(wrapped[1]) if wrapped else getattr(error, "errno", None)
    first_line = (str(error).splitlines() or [type(error).__name__])[0]
    result = ResultsError(f"cannot {verb} {path}: {os.strerror(number) if number else first_line}")
    result.errno = number
    return result
