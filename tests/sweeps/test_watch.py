import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import termios
import time

import pytest

from helpers import commands
from helpers.in_process import rankward
from rankward import results
from rankward.sweeps.status import DONE, RUNNING, STOPPED, SweepMonitor, sparkline

ENDLESS = ["-m", "depth=3", "seed=range(0,3)", "lr.eta=1e-6", "stop_loss=1e-9", "max_iterations=2000000000"]
ENDLESS += ["checkpoint.seconds=0.5", "logger=none", "hydra.sweep.dir=sweep"]
DIVERGING = ["-m", "depth=2", "lr.eta=1e-2,50", "max_iterations=2000", "logger=none", "hydra.sweep.dir=done"]


def everything(folder):
    """Names, sizes, times and contents of all files."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [(str(path), path.stat().st_mtime_ns, path.read_bytes()) for path in files]


def waiting_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def endless(tmp_path):
    """A sweep that trains until it is killed, once it has written a checkpoint."""
    command = [sys.executable, "-m", "rankward", *ENDLESS]
    training = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        waiting_for(lambda: list((tmp_path / "sweep").glob("*/checkpoint.ckpt")))
        yield tmp_path / "sweep", training
    finally:
        training.kill()
        training.communicate()


def test_a_sweep_that_is_done(tmp_path):
    assert rankward(*DIVERGING, cwd=tmp_path).returncode == 0
    before = everything(tmp_path / "done")
    shown = rankward("watch", "done", cwd=tmp_path, env=os.environ | {"COLUMNS": "120"})
    assert (shown.returncode, shown.stderr) == (0, "")
    first, *rest = shown.stdout.splitlines()
    assert first.rstrip() == "done  2 runs: 2 done  (1 converged, 1 diverged)"
    lines = {line.split()[0]: line for line in rest if line.split() and line.split()[0].isdigit()}
    assert "diverged" in lines["1"] and "lr.eta=50" in lines["1"] and "depth" not in lines["1"]  # all have depth=2
    loss = results.read_trace(tmp_path / "done" / "0")["loss"]
    assert f"{loss[-1]:.2e}" in lines["0"] and sparkline(loss.to_list(), 20, log=True) in lines["0"]
    assert everything(tmp_path / "done") == before


@pytest.mark.slow
def test_a_sweep_at_work_is_seen_from_another_process_and_left_alone(endless):
    sweep, training = endless
    status = SweepMonitor(sweep).look()
    assert status.active and status.counts == {RUNNING: 3} and len(status.runs) == 3
    assert all(run.state == RUNNING and run.loss and run.rank and run.iterations > 0 for run in status.runs)
    training.send_signal(signal.SIGKILL)
    training.wait()
    assert (sweep / results.LOCK).exists() and not results.is_held(sweep)  # left behind, and nobody's
    before = everything(sweep)
    shown = commands.rankward("watch", "sweep", "--once", cwd=sweep.parent)
    assert shown.returncode == 1 and "3 stopped" in shown.stdout and "rankward resume sweep" in shown.stdout
    assert everything(sweep) == before
    assert SweepMonitor(sweep).look().counts == {STOPPED: 3}


@pytest.mark.slow
@pytest.mark.parametrize("how", ["q", pytest.param("ctrl-c", marks=pytest.mark.slow)])
def test_it_quits_and_leaves_the_terminal_as_it_was(endless, how):
    sweep, training = endless
    main, side = pty.openpty()
    before = termios.tcgetattr(side)
    command = [sys.executable, "-m", "rankward", "watch", "sweep", "--seconds", "1"]
    watching = subprocess.Popen(command, cwd=sweep.parent, stdin=side, stdout=side, stderr=side, start_new_session=True)
    seen = b""
    end = time.monotonic() + 60
    while b"q quits" not in seen:
        assert time.monotonic() < end, seen
        if select.select([main], [], [], 0.1)[0]:
            seen += os.read(main, 65536)
    assert b"\x1b[?1049h" in seen and "▁".encode() in seen  # its own screen
    if how == "q":
        os.write(main, b"q")
    else:
        watching.send_signal(signal.SIGINT)
    while watching.poll() is None or select.select([main], [], [], 0.5)[0]:  # the kernel hands its last bytes on later
        assert time.monotonic() < end
        if select.select([main], [], [], 0.1)[0]:
            seen += os.read(main, 65536)
    assert watching.returncode == 0 and b"\x1b[?1049l" in seen and b"Traceback" not in seen
    assert termios.tcgetattr(side) == before
    assert training.poll() is None  # the sweep goes on
    os.close(main)
    os.close(side)


@pytest.mark.slow
def test_a_sweep_in_a_table(tmp_path):
    few = ["-m", "depth=2", "seed=range(0,30)", "max_iterations=500", "results=table", "metrics=few", "logger=none"]
    assert rankward(*few, "hydra.sweep.dir=table", cwd=tmp_path).returncode == 0
    status = SweepMonitor(tmp_path / "table").look()
    assert status.counts == {DONE: 30} and sum(status.ends.values()) == 30 and not status.active
    told = rankward("status", "table", cwd=tmp_path)
    assert told.returncode == 0 and told.stdout.startswith("table: 30 done, in a table of 1 parts")


def test_jobs_that_left_nothing_count_as_stopped(tmp_path):
    assert rankward(*DIVERGING, cwd=tmp_path).returncode == 0
    shutil.rmtree(tmp_path / "done" / "1")
    assert SweepMonitor(tmp_path / "done").look().counts == {DONE: 1, STOPPED: 1}
    told = rankward("status", "done", cwd=tmp_path)
    assert told.returncode == 1 and "2 runs: 1 done, 0 running, 0 pending, 1 stopped" in told.stdout
    assert "rankward resume done starts what is missing" in told.stdout
    summary = tmp_path / "done" / "0" / results.SUMMARY
    summary.write_text(re.sub(r'"status": "\w+"', '"status": "interrupted"', summary.read_text()))
    told = rankward("status", "done", cwd=tmp_path)
    assert "run 0: interrupted; a checkpoint has what was done" in told.stdout


def test_folder_that_is_no_sweep_is_refused(tmp_path):
    wrong = rankward("watch", ".", cwd=tmp_path)
    assert wrong.returncode == 2 and wrong.stderr.startswith("rankward: watch: '.' is not allowed")
    assert wrong.stderr.count("\n") == 1 and not list(tmp_path.iterdir())
    wrong = rankward("watch", ".", "--seconds", "0", cwd=tmp_path)
    assert wrong.returncode == 2 and "invalid positive number value: '0'" in wrong.stderr


def test_sparklines_have_gaps_for_what_is_not_finite():
    assert sparkline([1.0, float("nan"), 2.0], 3) == "▁ █"
    assert sparkline([1.0, 0.0, 10.0, float("inf")], 4, log=True) == "▁ █ "
    assert sparkline([], 5) == "" and sparkline([3.0], 5) == "▁"
    assert sparkline([float(k) for k in range(1000)], 8) == "▁▂▃▄▅▆▇█"
