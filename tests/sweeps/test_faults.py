"""What goes wrong stops what it must and nothing more; what is killed goes on to the same bits."""

import random
import subprocess
import sys
import time

import numpy as np
import pytest

from helpers.commands import TENSOR, leavings, rankward, small_disk, wandb_records
from rankward import results
from rankward.sweeps.status import SweepMonitor
from rankward.sweeps.status_command import show_status
from rankward.sweeps.watch import watch

MINE = """
from rankward.metrics import TraceMetric

class Touchy(TraceMetric):
    def update(self, product, iteration):
        if ((iteration == 0) & ((product[:, 0, 0] - 3.0).abs() < 1e-9)).any():
            raise ArithmeticError("a product that I do not like")
        self.measured.append(product[:, 0, 0])

    def columns(self):
        return {"mine/corner": self.gathered()}
"""


@pytest.mark.slow
def test_a_raising_metric_and_a_diverging_run_among_fifty(tmp_path):
    """Starts 0.1 to 5.0: the metric raises on 3.0's, and rate 1000 diverges."""
    (tmp_path / "mine.py").write_text(MINE)
    scales = ",".join(f"{i / 10}" for i in range(1, 51))
    sweep = ["-m", "logger=none", "init=identity", f"init.scale={scales}", "max_iterations=200", "hydra.sweep.dir=s"]
    done = rankward(*sweep, "+metrics.columns.mine._target_=mine.Touchy", cwd=tmp_path)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "job 29 (" in line and "init.scale=3.0" in line and "a product that I do not like" in line
    table = results.gather(tmp_path / "s")
    assert table["status"].to_list().count("missing") == 1 and table.filter(job=29)["status"][0] == "missing"
    assert table["mine/corner"].null_count() == 1
    wild = rankward(
        "-m",
        "logger=none",
        "lr.eta=0.01,1000,0.02",
        "init.scale=0.1",
        "max_iterations=200",
        "hydra.sweep.dir=w",
        cwd=tmp_path,
    )
    assert wild.returncode == 0
    assert results.gather(tmp_path / "w")["status"].to_list() == ["max_iterations", "diverged", "max_iterations"]
    assert " 1 " in wild.stdout.splitlines()[-2]  # the closing table counts it


@pytest.mark.slow
def test_a_failed_run_keeps_why_until_it_is_done(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(MINE)
    sweep = ["-m", "logger=none", "init=identity", "init.scale=4,3", "max_iterations=50", "hydra.sweep.dir=s"]
    assert rankward(*sweep, "+metrics.columns.mine._target_=mine.Touchy", cwd=tmp_path).returncode == 1
    why = (
        "metrics.columns.mine: 'mine.Touchy' is not allowed; expected a metric that can measure this run's start "
        "(ArithmeticError: a product that I do not like); metrics.columns.mine=null leaves it out"
    )
    file = tmp_path / "s" / "1" / results.FAILURE
    assert file.read_text().startswith(f"{why}\n\nTraceback") and 'mine.py", line 7' in file.read_text()
    log = (tmp_path / "s" / "1" / "rankward.log").read_text()
    assert f"] failed: {why}\nTraceback" in log and 'mine.py", line 7' in log
    assert show_status(tmp_path / "s") == 1 and f"run 1: {why}; traceback: {file}" in capsys.readouterr().out
    assert watch(tmp_path / "s", 1, once=True) == 1 and "mine.Touchy" in capsys.readouterr().out
    assert [run.reason for run in SweepMonitor(tmp_path / "s").look().runs] == [why, ""]
    (tmp_path / "mine.py").write_text(MINE.replace("raise", "pass  # "))
    done = rankward("resume", "s", cwd=tmp_path)
    assert done.returncode == 0 and not file.exists(), done.stderr
    log = (tmp_path / "s" / "1" / "rankward.log").read_text()
    assert log.splitlines()[-2].endswith("] trains: engine fused, float64")
    assert "] max_iterations after 50 iterations, loss " in log.splitlines()[-1]


@pytest.mark.slow
def test_a_full_disk_fails_the_runs_that_it_must(tmp_path):
    sweep = ["-m", "logger=none", "seed=range(0,40)", "max_iterations=2000", "hydra.sweep.dir=disk/s"]
    with small_disk(tmp_path / "disk", "1m") as disk:
        done = rankward(*sweep, cwd=tmp_path)
        assert done.returncode == 1 and "No space left on device" in done.stderr, done.stderr
        complete = [folder for folder in results.run_folders(disk / "s") if results.is_complete(folder)]
        assert 0 < len(complete) < 40
        for folder in complete:
            assert len(results.read_trace(folder)) > 1
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        again = rankward(*sweep, cwd=tmp_path)
        assert again.returncode == 0 and again.stdout.count("kept") == len(complete), again.stderr
        assert rankward(*sweep[:-1], "hydra.sweep.dir=whole", cwd=tmp_path).returncode == 0
        assert leavings(disk / "s") == leavings(tmp_path / "whole")


@pytest.mark.slow
def test_a_dozen_random_kills(tmp_path):
    """In composing, training, writing and logging: every time the same command goes on, and ends with the same bytes."""
    job = [argument for argument in TENSOR if argument != "logger=none"]
    long = ["-m", *job, "observations.count=8,20,30", "seed=range(0,5)", "stop_loss=0", "max_iterations=3_000_000"]
    long += ["checkpoint.seconds=0.3"]
    whole = rankward(*long, "hydra.sweep.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    draw, kills = random.Random(0), 0
    command = [sys.executable, "-m", "rankward", *long, "hydra.sweep.dir=parts"]
    while kills < 12:
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
            # Most at some time while it trains, some as soon as results, or W&B's, appear.
            deadline = time.monotonic() + draw.uniform(2.5, 7.0)
            wanted = draw.choice(["time", "time", "*/summary.json", "wandb/offline-run-*", "*/trace.parquet"])
            known = len(list(tmp_path.glob(f"parts/{wanted}"))) if wanted != "time" else 0
            while process.poll() is None and time.monotonic() < deadline:
                if wanted != "time" and len(list(tmp_path.glob(f"parts/{wanted}"))) > known:
                    break
                time.sleep(0.005)
            if process.poll() is not None:
                assert process.returncode == 0, process.stderr.read()
                for folder in results.run_folders(tmp_path / "parts")[:: draw.choice([2, 3])]:
                    (folder / "summary.json").unlink()  # some runs are to be done again
                continue
            process.kill()
            kills += 1
    assert rankward(*long, "hydra.sweep.dir=parts", cwd=tmp_path).returncode == 0
    assert leavings(tmp_path / "whole") == leavings(tmp_path / "parts")
    assert not list(tmp_path.glob("parts/*/checkpoint.ckpt")) and not list(tmp_path.glob("parts/**/*.tmp"))


@pytest.mark.slow
def test_fifty_wandb_runs_hold_their_traces(tmp_path):
    done = rankward(
        "-m",
        "seed=range(0,50)",
        "max_iterations=500",
        "lr.eta=0.02",
        "init.scale=0.1",
        "hydra.sweep.dir=s",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr
    seen = {}
    for folder in (tmp_path / "s" / "wandb").glob("offline-run-*"):
        read = wandb_records(folder)
        run = next(record["run"] for record in read if record["type"] == "run")
        assert run["run_group"] == "s" and run["job_type"] in ("run", "summary")
        if run["job_type"] == "run":
            seen[run["display_name"].split(":")[0]] = [
                record["history"]["item"] for record in read if record["type"] == "history"
            ]
    assert len(seen) == 50
    for folder in results.run_folders(tmp_path / "s"):
        trace, history = results.read_trace(folder), seen[folder.name]
        for name in ("iteration", "loss", "norm/nuclear", "entry/0_0"):
            np.testing.assert_array_equal([row[name] for row in history], trace[name].to_numpy())
