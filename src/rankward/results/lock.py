"""A folder of results is one process's at a time.

Its `.lock` says who holds it, and its time is a heartbeat. Where the file system has locks, `flock` decides, and a hold
ends with its process. Where it has none, whoever makes the file has the folder until that process has ended, or, on
another machine, until its heartbeat has stopped.
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

from rankward.results.atomic import ResultsError, io_error
from rankward.terminal import say

LOCK = ".lock"
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS)
HELD = (errno.EAGAIN, errno.EACCES)
BEAT, SILENT = 15.0, 180.0  # seconds: between heartbeats; without one after which a holder elsewhere has ended
SETTLE = 1.0  # seconds for others who take over the same file: the last one has it
TRIES = 100  # in which the lock's file may go, as its holder ends
FLOCK, FILE = "flock", "file"  # what keeps others out
UNKNOWN = "?"


class FolderLocked(OSError):
    """A folder that another process is at work on."""


class _Hold:
    """A hold of this process, with its heartbeat.

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
    """Hold the folder for this process; the hold ends with the process, however that ends.

    A folder that this process holds already may be claimed again inside. Where the file system has no locks, a line on
    standard error says so.

    Raises:
        FolderLocked: another process holds it.
        ResultsError: the folder cannot be written; or, at the end, it was deleted or moved in the meantime, or another
            process has taken it over.
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
    """Whether a process holds the folder, asked without taking hold of it or writing there.

    A process that was killed leaves its lock behind: on this machine it is known to have ended at once, and on another
    one after three minutes without a heartbeat.
    """
    return _lives(folder / LOCK, time.time())


def _taken(path: Path) -> int:
    """The lock, open and this process's.

    Raises:
        FolderLocked: it is another's.
        OSError: it cannot be made.
    """
    for _ in range(TRIES):
        with contextlib.ExitStack() as closing:
            try:
                file, made = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644), True
            except FileExistsError:
                try:
                    file, made = os.open(path, os.O_RDWR | os.O_NOFOLLOW), False
                except FileNotFoundError:
                    continue  # its holder has just ended
            closing.callback(os.close, file)
            way = _lock(file, path.parent)
            if not _is_at(path, file):
                continue  # its holder has ended since it was opened
            if not made and way == FILE:
                return _taken_over(path)
            if not made and _read(path)[-1] == FILE and _lives(path, time.time()):
                raise FolderLocked  # it is on a machine on which this file system has no locks
            with contextlib.suppress(OSError):  # a disk may be full
                os.ftruncate(file, 0)
                os.pwrite(file, _record(way), 0)
            closing.pop_all()
            return file
    raise FolderLocked


def _lock(file: int, folder: Path) -> str:
    """Lock an open file. The answer says how others are kept out: by the lock, or without locks by the file itself."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            raise FolderLocked from None
        if error.errno not in NO_LOCKS:
            raise
        said = f"its file system has no locks ({error.strerror}): {LOCK} names host and process, and is kept fresh"
        say(f"rankward: {folder}: {said}", error=True)
        return FILE
    return FLOCK


def _taken_over(path: Path) -> int:
    """A new lock in the place of one whose holder has ended, where the file system has no locks.

    Raises:
        FolderLocked: its holder lives, or somebody else has been faster.
    """
    own = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    file = os.open(own, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        os.write(file, _record(FILE))
        if _lives(path, os.fstat(file).st_mtime):  # by the file system's clock
            raise FolderLocked
        own.replace(path)
        time.sleep(SETTLE)
        if not _is_at(path, file):
            raise FolderLocked
    except BaseException:
        os.close(file)
        own.unlink(missing_ok=True)
        raise
    return file


def _record(way: str) -> bytes:
    return f"{socket.gethostname()} {os.getpid()} {_started(os.getpid())} {_machine()} {way}\n".encode()


def _read(path: Path) -> list[str]:
    """Host, process, its start, the machine, and what keeps others out; unknown ones where nothing is told."""
    with contextlib.suppress(OSError, ValueError):
        if len(record := path.read_text(encoding="utf-8").split()) == 5:
            return record
    return [UNKNOWN] * 5


def _lives(path: Path, now: float) -> bool:
    """Whether the process that a lock names lives, by a look at it, or from elsewhere by its heartbeat."""
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
        pass  # it lives, under another user
    except (OSError, ValueError, OverflowError):
        return False
    return UNKNOWN in (started, found := _started(int(process))) or started == found


def _started(process: int) -> str:
    """When a process of this machine started, so that another one with its number is not taken for it."""
    try:
        state, *fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return UNKNOWN
    return "ended" if state in "ZX" else fields[18]  # a zombie has no more to do


@functools.cache
def _machine() -> str:
    """A name of the place in which a process has its number: a machine since its start, or a container."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot}/{Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return socket.gethostname()


def _is_at(path: Path, file: int) -> bool:
    """Whether an open file is the one at the path."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file))
    except OSError:
        return False
