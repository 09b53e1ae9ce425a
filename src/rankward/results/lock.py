"""Locks: only one process at a time works on a folder of results.

The file `.lock` names the process that holds the folder; its modification time is a heartbeat. On file systems with
locks, `flock` decides, and a lock ends with its process. On others, the process that creates the file holds the folder
until it ends, or, if it runs on another machine, until its heartbeat stops.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from rankward.config.errors import RankwardError
from rankward.results.atomic import ResultsError, io_error
from rankward.terminal import say

LOCK = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
HELD = (errno.EAGAIN, errno.EACCES)
BEAT, SILENT = 15.0, 180.0  # seconds between heartbeats; seconds after which a process elsewhere counts as ended
SETTLE = 1.0  # seconds in which other processes may take over the same file; the last one holds it
TRIES = 100  # the lock file may vanish during each, as its process ends
FLOCK, FILE = "flock", "file"  # how other processes are excluded
UNKNOWN = "?"


class FolderLocked(RankwardError):
    """Another process works on the folder."""


class _Hold:
    """A lock that this process holds, with its heartbeat.

    Args:
        file: the open lock.
    """

    def __init__(self, file: int) -> None:
        self.file, self.claims = file, 0
        self._over = threading.Event()
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        while not self._over.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(self.file)

    def end(self) -> None:
        self._over.set()
        self._heart.join()
        os.close(self.file)


_holds: dict[Path, _Hold] = {}


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Lock the folder for this process; the lock ends with the context, or with the process.

    A folder may be claimed again inside. A line on standard error says if the file system has no locks.

    Raises:
        FolderLocked: another process holds it.
        ResultsError: the folder cannot be written; or, at the end, it was deleted or moved, or another process has
            taken it over.
    """
    path = folder.resolve() / LOCK
    if path not in _holds:
        try:
            _holds[path] = _Hold(_taken(path))
        except FolderLocked:
            raise FolderLocked(f"{folder} is in use: another process is at work on it") from None
        except OSError as error:
            raise io_error("write", path, error) from error
    hold = _holds[path]
    hold.claims += 1
    gone = ""
    try:
        yield
    finally:
        hold.claims -= 1
        if not _is_at(path, hold.file):
            replaced = path.is_file() and not os.fstat(hold.file).st_nlink
            gone = "taken over by another process" if replaced else "deleted or moved"
        if not hold.claims:
            if not gone:
                path.unlink()
            del _holds[path]
            hold.end()
    if gone:
        raise ResultsError(f"{folder} was {gone} while it was in use: its results are not all there")


def is_held(folder: Path) -> bool:
    """Whether a process holds the folder; the folder is neither locked nor written.

    The lock of a process that was killed counts until its end is noticed: at once on this machine, and after three
    minutes without a heartbeat on another.
    """
    return _lives(folder / LOCK, time.time())


def _taken(path: Path) -> int:
    """Open the lock file and lock it for this process.

    Raises:
        FolderLocked: another process holds it.
        OSError: it cannot be created.
    """
    for _ in range(TRIES):
        with contextlib.ExitStack() as closing:
            try:
                file, created = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
            except FileExistsError:
                try:
                    file, created = os.open(path, os.O_RDWR | os.O_NOFOLLOW), False
                except FileNotFoundError:
                    continue  # its process has just ended
            closing.callback(os.close, file)
            way = _lock(file, path.parent)
            if not _is_at(path, file):
                continue  # its process has ended since the file was opened
            if not created and way == FILE:
                return _taken_over(path)
            if not created and _read(path)[-1] == FILE and _lives(path, time.time()):
                raise FolderLocked  # it runs on a machine where this file system has no locks
            with contextlib.suppress(OSError):  # the disk may be full
                os.ftruncate(file, 0)
                os.pwrite(file, _record(way), 0)
            closing.pop_all()
            return file
    raise FolderLocked


def _lock(file: int, folder: Path) -> str:
    """Lock an open file; return how other processes are excluded: by the lock, or without locks by the file itself."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            raise FolderLocked from None
        if error.errno not in NO_LOCKS:
            raise
        text = f"its file system has no locks ({error.strerror})"
        say(f"rankward: {folder}: {text}: {LOCK} names host and process, and its time is a heartbeat", error=True)
        return FILE
    return FLOCK


def _taken_over(path: Path) -> int:
    """Replace the lock file of a process that has ended, on a file system without locks.

    Raises:
        FolderLocked: its process is alive, or another process was faster.
    """
    new = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(file, _record(FILE))
        if _lives(path, os.fstat(file).st_mtime):  # both times are of the file system's clock
            raise FolderLocked
        new.replace(path)
        time.sleep(SETTLE)
        if not _is_at(path, file):
            raise FolderLocked
    except BaseException:
        os.close(file)
        new.unlink(missing_ok=True)
        raise
    return file


def _record(way: str) -> bytes:
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())} {_machine()} {way}\n".encode()


def _read(path: Path) -> list[str]:
    """Host, process, its start, the machine, and how others are excluded; `UNKNOWN` if the file does not say."""
    with contextlib.suppress(OSError, ValueError):
        if len(record := path.read_text(encoding="utf-8").split()) == 5:
            return record
    return [UNKNOWN] * 5


def _lives(path: Path, now: float) -> bool:
    """Whether the process that a lock names is alive; on another machine, whether its heartbeat is recent."""
    try:
        silent = now - path.stat().st_mtime
    except OSError:
        return False
    _, process, started, machine, _ = _read(path)
    if machine == UNKNOWN or machine != _machine():
        return silent < SILENT
    try:
        os.kill(int(process), 0)
    except PermissionError:
        pass  # it is alive and belongs to another user
    except (OSError, ValueError, OverflowError):
        return False
    return UNKNOWN in (started, found := _started(int(process))) or started == found


def _started(process: int) -> str:
    """Start time of a process of this machine, which distinguishes it from later ones with the same number."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return UNKNOWN
    return "ended" if state in "ZX" else fields[18]  # zombies count as ended


@functools.cache
def _machine() -> str:
    """Name of the machine since its start, or of the container, in which process numbers are unique."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is still the one at the path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except OSError:
        return False
