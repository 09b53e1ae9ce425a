"""Checkpoints: whole whatever happens while they are written, without a temporary folder; errors of the place; signals."""

import errno
import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

import pytest
import torch
from hydra.core.utils import JobReturn
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger

from helpers.commands import leavings, rankward, small_disk
from helpers.runs import LONG, QUICK, composed, contents, interrupted_after, trained
from rankward import results
from rankward.loggers.run import log_from_files
from rankward.loggers.target import LogTarget
from rankward.results.contract import FACTORS, SUMMARY, TRACE
from rankward.sweeps.execution.ensembles import Job, Session, find_checkpoints, train_batch
from rankward.sweeps.execution.local import LocalExecutor
from rankward.training import checkpoints
from rankward.training.checkpoints import HASHES, AtomicCheckpoints
from rankward.training.module import EnsembleModule
from rankward.training.resume import newest


def held(path):
    """The number in a checkpoint that `write` has made."""
    return int(torch.load(path)["number"])


def write(path, number, resumed=None, size=1000):
    keeper = resumed or AtomicCheckpoints()
    keeper.save_checkpoint({HASHES: ["a"], "trace": {}, "number": number, "large": torch.zeros(size)}, path)
    return keeper


def test_checkpoints_need_no_temporary_folder(tmp_path, monkeypatch):
    """On clusters it is another file system, often a small one."""
    trained(tmp_path / "whole", LONG)
    with monkeypatch.context() as patched:
        patched.setattr(tempfile, "tempdir", str(tmp_path / "nowhere"))
        interrupted_after(patched, 2)
        trained(tmp_path / "parts", LONG)
    trained(tmp_path / "parts", LONG, ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "whole" / "0")


@pytest.mark.parametrize(("moment", "found"), [("write", 2), ("fsync", 2), ("first rename", 2), ("second rename", 3)])
def test_kill_during_a_checkpoint_leaves_an_intact_one(tmp_path, moment, found):
    path = tmp_path / results.CHECKPOINT
    keeper = write(path, 2, write(path, 1))
    child = os.fork()
    if child == 0:  # killed before the step that is named
        count = 0
        real = {"replace": os.replace, "fsync": os.fsync}

        def die(*_):
            os.kill(os.getpid(), signal.SIGKILL)

        def replace(source, target):
            nonlocal count
            count += 1
            real["replace"](source, target)
            if moment == ("first rename" if count == 1 else "second rename"):
                die()

        def half(content, temporary):
            temporary.write_bytes(b"half of")
            die()

        os.replace = replace
        os.fsync = die if moment == "fsync" else real["fsync"]
        if moment == "write":
            checkpoints._save = half
        write(path, 3, keeper)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert held(newest(path)) == found
    assert results.checkpoints(tmp_path) == [path]
    write(path, 4, AtomicCheckpoints(newest(path)))
    assert held(newest(path)) == 4 and not list(tmp_path.glob("*.tmp"))


def test_previous_checkpoint_replaces_a_torn_one(tmp_path, capsys):
    path = tmp_path / results.CHECKPOINT
    write(path, 2, write(path, 1))
    path.write_bytes(path.read_bytes()[:500])
    before = results.previous_checkpoint(path)
    assert newest(path) == before and held(before) == 1
    assert capsys.readouterr().err == f"rankward: {path} is torn and counts as none: {before} is used\n"
    write(path, 3, AtomicCheckpoints(before))
    assert (held(path), held(before)) == (3, 1)
    results.remove_checkpoint(path)
    assert not list(tmp_path.iterdir())


def test_run_with_torn_checkpoint_ends_with_the_same_bytes(tmp_path, monkeypatch, capsys):
    trained(tmp_path / "whole", LONG)
    with monkeypatch.context() as patched:
        interrupted_after(patched, 3)
        trained(tmp_path / "parts", [*LONG, "checkpoint.seconds=1e-9"])
    config, plain = composed("logger=none", *LONG)
    folder = tmp_path / "parts" / "0"
    path = folder / results.CHECKPOINT
    path.write_bytes(b"")
    job = Job(0, config, LogTarget(folder, tmp_path, None, "run", plain))
    find_checkpoints([job], results.checkpoints(folder))
    assert job.checkpoint == results.previous_checkpoint(path) and "is torn" in capsys.readouterr().err
    (ended,) = train_batch([job], Session(0, 1))
    assert ended.error is None and contents(folder) == contents(tmp_path / "whole" / "0")
    assert {found.name for found in folder.iterdir()} == {TRACE, FACTORS, SUMMARY, results.LOG}


def test_failed_checkpoint_leaves_the_last_one(tmp_path, monkeypatch):
    with small_file_limit(40_000):
        path = tmp_path / results.CHECKPOINT
        keeper = write(path, 1)
        with pytest.raises(results.ResultsError, match=rf"cannot write {path}: File too large"):
            write(path, 2, keeper, size=10**6)
        assert held(path) == 1 and [found.name for found in tmp_path.iterdir()] == [path.name]


class small_file_limit:
    """No file of this process may be longer; writing beyond is an error as on a full disk."""

    def __init__(self, size):
        import resource

        self.resource, self.size = resource, size

    def __enter__(self):
        self.before = self.resource.getrlimit(self.resource.RLIMIT_FSIZE)
        self.handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        self.resource.setrlimit(self.resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_):
        self.resource.setrlimit(self.resource.RLIMIT_FSIZE, self.before)
        signal.signal(signal.SIGXFSZ, self.handler)


def jobs_of(tmp_path, overrides):
    pairs = [composed("logger=none", *each) for each in overrides]
    return [
        Job(i, config, LogTarget(tmp_path / str(i), tmp_path, None, "", plain))
        for i, (config, plain) in enumerate(pairs)
    ]


def test_storage_error_is_raised_once(tmp_path, monkeypatch):
    """Halving four runs would meet it seven times."""
    jobs = jobs_of(tmp_path, [[*LONG, f"seed={seed}", "checkpoint.seconds=1e-9"] for seed in range(4)])
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EACCES):
        calls = []

        def full(self, path, number=number, calls=calls):
            calls.append(path)
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(Trainer, "save_checkpoint", full)
        with pytest.raises(OSError, match=os.strerror(number)):
            train_batch(jobs, Session(0, 4))
        assert calls == [tmp_path / "0" / results.CHECKPOINT]


def test_disk_error_at_results_ends_the_launch(tmp_path, monkeypatch):
    tried = []

    def full(folder, **_):
        tried.append(folder.name)
        raise results.io_error("write", folder / SUMMARY, OSError(errno.ENOSPC, ""))

    monkeypatch.setattr(results, "write_run", full)
    jobs = jobs_of(tmp_path, [[*QUICK, "max_iterations=50"], [*QUICK, "max_iterations=50", "dtype=float32"]])
    with pytest.raises(results.ResultsError, match=r"0/summary\.json: No space left on device"):
        LocalExecutor(1.0).run(jobs, [JobReturn(), JobReturn()], tmp_path)
    assert tried == ["0"]


def test_single_run_is_complete_despite_its_loggers_and_logged_from_files(tmp_path, monkeypatch):
    def full(self, status):
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "0" / "csv" / "metrics.csv"))

    with monkeypatch.context() as patched:
        patched.setattr(CSVLogger, "finalize", full)
        (outcome,) = trained(tmp_path, QUICK, logger="csv")
    assert str(outcome.error) == f"logger.csv: cannot write {tmp_path}/0/csv/metrics.csv: No space left on device"
    assert results.is_complete(tmp_path / "0") and not (tmp_path / "0" / results.CHECKPOINT).exists()
    (tmp_path / "0" / results.FAILURE).touch()
    run, plain = composed("logger=csv", *QUICK)
    target = LogTarget(tmp_path / "0", tmp_path, "sweep", "run 0", plain)
    log_from_files(run, target)
    trained(tmp_path / "other", QUICK, logger="csv")
    logged = [(folder / "0" / "csv" / "metrics.csv").read_text() for folder in (tmp_path, tmp_path / "other")]
    assert logged[0] == logged[1] and len(logged[0].splitlines()) == 1 + len(results.read_trace(tmp_path / "0"))
    assert not [name for name in (results.UNLOGGED, results.FAILURE) if (tmp_path / "0" / name).exists()]
    (tmp_path / "0" / "csv" / "metrics.csv").unlink()
    log_from_files(run, target)  # once is enough
    assert not (tmp_path / "0" / "csv" / "metrics.csv").exists()


@pytest.mark.parametrize("ignored", [False, True])
def test_closed_terminal_interrupts_unless_under_nohup(tmp_path, monkeypatch, ignored):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN if ignored else lambda *_: None)
    step = EnsembleModule.training_step

    def hung_up(self, batch, batch_idx):
        step(self, batch, batch_idx)
        if batch_idx == 1:
            os.kill(os.getpid(), signal.SIGHUP)

    monkeypatch.setattr(EnsembleModule, "training_step", hung_up)
    try:
        (outcome,) = trained(tmp_path, LONG)
    finally:
        signal.signal(signal.SIGHUP, before)
    assert outcome.status == ("max_iterations" if ignored else "interrupted")
    assert (tmp_path / "0" / results.CHECKPOINT).is_file() == (not ignored)


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_run_interrupted_before_its_first_row_resumes(tmp_path, monkeypatch, logger):
    def interrupted(self, batch, batch_idx):
        self.interrupted = True

    with monkeypatch.context() as patched:
        patched.setattr(EnsembleModule, "training_step", interrupted)
        (outcome,) = trained(tmp_path / "parts", QUICK, logger=logger)
    assert outcome.error is None and outcome.status == "interrupted"
    summary = results.read_summary(tmp_path / "parts" / "0")
    assert (summary["iterations"], summary["metrics"], summary["certificates"]) == (0, {}, {})
    assert results.read_trace(tmp_path / "parts" / "0").is_empty()
    checkpoint = tmp_path / "parts" / "0" / results.CHECKPOINT
    trained(tmp_path / "parts", QUICK, ckpt_path=checkpoint)
    trained(tmp_path / "whole", QUICK)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "whole" / "0")


ENDLESS = ["lr.eta=1e-5", "stop_loss=0", "logger=none"]


@pytest.mark.slow
def test_run_in_a_closed_terminal_resumes(tmp_path):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    job = [*ENDLESS, "max_iterations=300000000", "checkpoint.seconds=1000", "hydra.run.dir=run"]
    command = [sys.executable, "-m", "rankward", *job]
    terminal = {"stdin": slave, "stdout": slave, "stderr": slave, "start_new_session": True}
    script = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", script, *command], cwd=tmp_path, **terminal) as process:
        os.close(slave)
        deadline, shown = time.monotonic() + 60, b""
        while b"it/s" not in shown and time.monotonic() < deadline:
            shown += os.read(master, 10_000)
        os.close(master)  # the kernel sends SIGHUP, and every write to the terminal fails from now on
        process.wait(timeout=60)
    assert results.read_summary(tmp_path / "run")["status"] == "interrupted"
    assert rankward("resume", "run", cwd=tmp_path).returncode == 0
    assert rankward(*job[:-1], "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


@pytest.mark.slow
def test_full_disk_at_a_checkpoint_ends_the_sweep_and_keeps_the_last_checkpoint(tmp_path):
    sweep = ["-m", *ENDLESS, "seed=range(0,16)", "max_iterations=40000000", "hydra.sweep.dir=disk/s"]
    sweep.insert(1, "checkpoint.seconds=0.2")
    with small_disk(tmp_path / "disk", "4m") as disk:
        command = [sys.executable, "-m", "rankward", *sweep]
        with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
            path = disk / "s" / "0" / results.CHECKPOINT
            while not path.is_file() and process.poll() is None:
                time.sleep(0.01)
            room = os.statvfs(disk)
            (disk / "filler").write_bytes(b"x" * (room.f_bavail * room.f_bsize))
            started = time.monotonic()
            _, told = process.communicate(timeout=60)
        assert process.returncode == 1 and time.monotonic() - started < 10
        assert told == f"rankward: cannot write disk/s/0/{path.name}: No space left on device\n"
        assert newest(path) == path
        (disk / "filler").unlink()
        done = rankward("resume", "disk/s", "checkpoint.seconds=1000", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert rankward(*sweep[:-1], "hydra.sweep.dir=whole", cwd=tmp_path).returncode == 0
        runs = [str(run) for run in range(16)]
        trace = {key: content for key, content in leavings(disk / "s", *runs).items() if key[1] == TRACE}
        whole = leavings(tmp_path / "whole", *runs)
        assert trace == {key: whole[key] for key in trace}


@pytest.mark.slow
def test_kills_with_a_full_temporary_disk(tmp_path):
    job = [*ENDLESS, "max_iterations=200000000", "checkpoint.seconds=0.001"]
    assert rankward(*job, "hydra.run.dir=whole", cwd=tmp_path).returncode == 0
    with small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "filler").write_bytes(b"x" * 60_000)
        environment = os.environ | {"TMPDIR": str(disk)}
        command = [sys.executable, "-m", "rankward", *job, "hydra.run.dir=parts"]
        checkpoint = tmp_path / "parts" / results.CHECKPOINT
        for _ in range(5):
            with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
                before = checkpoint.stat().st_mtime_ns if checkpoint.is_file() else 0
                while process.poll() is None and not (checkpoint.is_file() and checkpoint.stat().st_mtime_ns > before):
                    time.sleep(0.001)
                time.sleep(0.3)
                process.kill()
                assert "rankward" not in process.stderr.read()
            assert newest(checkpoint) is not None
        assert rankward(*command[3:], cwd=tmp_path, env=environment).returncode == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
