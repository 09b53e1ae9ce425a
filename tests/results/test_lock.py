"""One process holds a folder, on file systems with locks and on those without."""

import errno
import fcntl
import os
import subprocess
import sys
import time

import pytest

from rankward.results import LOCK, FolderLocked, ResultsError, claimed, is_held, lock

NO_LOCKS = "import fcntl, errno, os\ndef none(*_): raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))\nfcntl.flock = none\n"
HOLD = "import sys; from pathlib import Path; from rankward.results import FolderLocked, claimed, lock\nlock.SETTLE = 0.3\n"
HOLD += "with claimed(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"


@pytest.fixture
def no_locks(monkeypatch):
    def flock(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    monkeypatch.setattr(lock, "SETTLE", 0.01)


def holder(folder, locks=False):
    """Another process that claims the folder, until its standard input ends."""
    command = [sys.executable, "-c", ("" if locks else NO_LOCKS) + HOLD, str(folder)]
    pipe, null = subprocess.PIPE, subprocess.DEVNULL
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=null, text=True)


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_file_system_without_locks_is_reported_and_the_folder_locked(tmp_path, monkeypatch, capsys, number):
    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with claimed(tmp_path):
        assert is_held(tmp_path)
        with claimed(tmp_path):
            pass
        assert is_held(tmp_path)
    said = capsys.readouterr().err
    assert said.startswith(f"rankward: {tmp_path}: its file system has no locks ({os.strerror(number)})")
    assert said.count("\n") == 1 and not list(tmp_path.iterdir())


@pytest.mark.parametrize("locks", [True, False])
def test_folder_is_unlocked_after_a_kill(tmp_path, monkeypatch, locks):
    """Also while nobody has waited for the dead process, whose number then still exists."""
    if not locks:
        monkeypatch.setattr(lock, "SETTLE", 0.01)
        monkeypatch.setattr(fcntl, "flock", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSYS, "none")))
    with holder(tmp_path, locks) as process:
        assert process.stdout.readline() == "held\n"
        assert is_held(tmp_path)
        with pytest.raises(FolderLocked, match="in use: another process"), claimed(tmp_path):
            pass
        process.kill()
        process.stdout.read()  # until it has ended
        end = time.monotonic() + 10
        while is_held(tmp_path) and time.monotonic() < end:
            time.sleep(0.01)
        assert (tmp_path / LOCK).is_file() and not is_held(tmp_path)
        with claimed(tmp_path):
            assert is_held(tmp_path)
    assert not list(tmp_path.iterdir())


def test_lock_by_file_excludes_flock(tmp_path):
    """As where one node of a cluster mounts the file system with locks, and another without."""
    with holder(tmp_path) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(FolderLocked), claimed(tmp_path):
            pass
        process.kill()
        process.wait()
    with claimed(tmp_path):
        pass


def test_lock_of_another_machine_depends_on_its_heartbeat(tmp_path, no_locks):
    path = tmp_path / LOCK
    path.write_text("node7 12 345 elsewhere/pid:[1] file\n")
    for silent, held in ((0, True), (lock.SILENT - 30, True), (lock.SILENT + 30, False)):
        os.utime(path, (time.time() - silent,) * 2)
        assert is_held(tmp_path) == held
        if held:
            with pytest.raises(FolderLocked), claimed(tmp_path):
                pass
    with claimed(tmp_path):
        assert path.read_text().split()[1] == str(os.getpid())
    assert not list(tmp_path.iterdir())


def test_empty_lock_file_is_held_while_it_is_recent(tmp_path, no_locks):
    (tmp_path / LOCK).touch()
    with pytest.raises(FolderLocked), claimed(tmp_path):
        pass
    os.utime(tmp_path / LOCK, (0, 0))
    with claimed(tmp_path):
        pass


def test_reused_process_number_does_not_hold_the_lock(tmp_path, no_locks):
    with claimed(tmp_path):
        host, process, started, machine, way = (tmp_path / LOCK).read_text().split()
        assert process == str(os.getpid())
    (tmp_path / LOCK).write_text(f"{host} {process} {int(started) - 1} {machine} {way}\n")
    assert not is_held(tmp_path)
    with claimed(tmp_path):
        pass


def test_heartbeat_continues_while_the_folder_is_locked(tmp_path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 0.02)
    with claimed(tmp_path):
        os.utime(tmp_path / LOCK, (0, 0))
        end = time.monotonic() + 10
        while (tmp_path / LOCK).stat().st_mtime < time.time() - 60 and time.monotonic() < end:
            time.sleep(0.01)
        assert abs((tmp_path / LOCK).stat().st_mtime - time.time()) < 30


def test_lock_taken_over_by_another_process_is_an_error(tmp_path):
    """As from a process that had stopped for hours, on another machine than the one that took over."""
    with pytest.raises(ResultsError, match="was taken over by another process"), claimed(tmp_path):
        (tmp_path / "new").write_text("another's")
        (tmp_path / "new").replace(tmp_path / LOCK)
    assert (tmp_path / LOCK).read_text() == "another's"


def test_only_one_process_takes_over_a_lock(tmp_path):
    (tmp_path / LOCK).write_text("node7 12 345 elsewhere/pid:[1] file\n")
    os.utime(tmp_path / LOCK, (0, 0))
    processes = [holder(tmp_path) for _ in range(6)]
    end = time.monotonic() + 60
    while sum(process.poll() is None for process in processes) > 1 and time.monotonic() < end:
        time.sleep(0.05)
    said = [process.communicate("")[0] for process in processes]
    assert sorted(said) == [""] * 5 + ["held\n"]
    assert not list(tmp_path.iterdir())
