"""Before and after a sweep: the plan that trains nothing, the closing table, and the way back from a folder."""

import json
import subprocess
import sys

import pytest

from helpers.in_process import rankward
from helpers.runs import composed
from rankward import results
from rankward.config import ConfigError
from rankward.dynamics import FusedEngine
from rankward.sweeps.command import command_of
from rankward.sweeps.summary import closing_table
from rankward.training.calibrate import max_training_seconds


def test_dry_run_prints_the_plan_and_writes_nothing(tmp_path):
    sweep = ["-m", "logger=none", "depth=2,3", "seed=range(0,4)", "max_iterations=1000"]
    done = rankward(*sweep, "--dry-run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["ensemble", "runs"] and [line.split()[1] for line in lines[1:3]] == ["4", "4"]
    assert lines[3].startswith("8 runs, at most") and list(tmp_path.iterdir()) == []
    one = rankward(
        "logger=none", "depth=3", "seed=7", "--dry-run", "hydra.run.dir=new", cwd=tmp_path
    ).stdout.splitlines()
    assert one[0] == "depth 3, gaussian, seed 7: 2x2, 12 parameters, 3 observations"
    assert one[1] == "stop_loss 0.0001, max_iterations 5,000,000" and one[2].startswith("engine fused, 0.00")
    assert one[3] == "new: nothing was trained or written" and list(tmp_path.iterdir()) == []
    wrong = rankward(*sweep, "lr.eta=0", "--dry-run", cwd=tmp_path)
    assert wrong.returncode == 2 and "lr.eta: 0.0" in wrong.stderr


def test_the_time_at_most_is_of_runs_that_do_not_stop(monkeypatch):
    """Sixteen runs that would converge at once: what is timed is their iterations all the same."""
    config, _ = composed("depth='2'", "init=balanced", "init.scale=0.5", "lr.eta=0.3", "stop_loss=0.5")
    counted = []
    advance = FusedEngine.advance

    def counting(self, factors, problem, progress, length):
        rows = advance(self, factors, problem, progress, length)
        counted.append(progress.iteration.tolist())
        return rows

    monkeypatch.setattr(FusedEngine, "advance", counting)
    seconds = max_training_seconds([config] * 16)
    assert len(counted) > 2 and min(counted[-1]) > 10_000  # none has stopped
    assert 0 < seconds < 600  # 80 million iterations of some nanoseconds


def test_going_on_with_other_settings(tmp_path):
    """What is given takes the place of what was; another launcher, of all that the old one was told."""
    task, own = ["seed=0,1", "lr.eta=1e-3"], ["hydra/launcher=slurm", "hydra.launcher.tasks=2", "hydra.sweep.dir=x"]
    made = {"hydra": {"overrides": {"task": task, "hydra": own}, "runtime": {"config_sources": []}}}
    (tmp_path / "multirun.yaml").write_text(json.dumps(made))
    where = f"hydra.sweep.dir='{tmp_path}'"
    assert command_of(tmp_path, ["hydra.launcher.tasks=3"]) == [
        "-m", *task, own[0], "hydra.launcher.tasks=3", where]  # fmt: skip
    assert command_of(tmp_path, ["hydra/launcher=batched"]) == ["-m", *task, "hydra/launcher=batched", where]
    with pytest.raises(ConfigError, match="no other folder"):
        command_of(tmp_path, ["hydra.sweep.dir=elsewhere"])


@pytest.mark.slow
def test_a_folder_tells_the_command_that_goes_on_with_it(tmp_path):
    sweep = ["-m", "logger=none", "depth=2,3", "seed=0,1", "max_iterations=100", "hydra.sweep.dir=it's mine"]
    sweep[-1] = "hydra.sweep.dir='it\\'s mine'"
    assert rankward(*sweep, cwd=tmp_path).returncode == 0
    folder = tmp_path / "it's mine"
    before = (folder / "1" / "trace.parquet").read_bytes()
    for name in ("summary.json", "trace.parquet"):
        (folder / "1" / name).unlink()
    done = rankward("resume", str(folder), cwd=tmp_path)
    assert done.returncode == 0 and done.stdout.count("kept") == 3, done.stderr
    assert (folder / "1" / "trace.parquet").read_bytes() == before
    single = [sys.executable, "-m", "rankward", "logger=none", "max_iterations=100", "depth=2", "hydra.run.dir=one"]
    subprocess.run(single, cwd=tmp_path, check=True, capture_output=True)
    assert command_of(tmp_path / "one") == [
        "logger=none",
        "max_iterations=100",
        "depth='2'",
        f"hydra.run.dir='{tmp_path / 'one'}'",
    ]
    assert "kept" in rankward("resume", "one", cwd=tmp_path).stdout
    refused = rankward("resume", "nowhere", cwd=tmp_path)
    assert refused.returncode == 2 and "resume: 'nowhere' is not allowed" in refused.stderr
    with pytest.raises(ConfigError, match="resume"):
        command_of(tmp_path)


def finished(folder, overrides, loss, status="converged", **metrics):
    trace = {"iteration": [0], "loss": [loss]}
    summary = {"status": status, "metrics": {"loss": loss, **metrics}}
    results.write_run(folder, trace=trace, factors={}, summary=summary)
    (folder / ".hydra").mkdir()
    (folder / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {override}\n" for override in overrides))


def test_the_closing_table_is_over_seeds(tmp_path):
    for seed, loss in enumerate((1.0, 3.0, 2.0)):
        finished(tmp_path / str(seed), ["a=1", "b=7", f"seed={seed}", f"observations.seed={seed}"], loss)
    finished(tmp_path / "3", ["a=2", "b=7", "seed=0"], 9.0)
    finished(tmp_path / "4", ["a=2", "b=7", "seed=1"], float("inf"), "diverged")
    head, one, two = (line.split() for line in closing_table([results.gather(tmp_path)]).splitlines())
    assert head[:4] == ["setting", "runs", "converged", "failed"]
    assert one == ["a=1", "3", "3", "0", "1", "2", "1"]
    assert two == ["a=2", "2", "1", "1", "9", "9", "0"]
    runs = results.gather(tmp_path)
    assert closing_table([runs[3:], runs[:3]]) == closing_table([runs])  # parts come in any order


def test_closing_table_has_ranks_and_waits_for_missing_runs(tmp_path):
    for seed, rank in enumerate((1.0, 3.0, 2.0)):
        finished(tmp_path / str(seed), ["a=1", f"seed={seed}"], 0.5, **{"rank/effective": rank})
    finished(tmp_path / "3", ["a=1", "seed=3"], 0.5, "interrupted", **{"rank/effective": 9.0})
    head, one = (line.split() for line in closing_table([results.gather(tmp_path)]).splitlines())
    assert head == [
        "setting",
        "runs",
        "converged",
        "failed",
        "interrupted",
        *["best", "loss", "median", "loss", "spread"],
        "rank/effective",
    ]
    assert one == ["all", "4", "3", "0", "1", "0.5", "0.5", "0", "2"]
    finished(tmp_path / "4", ["a=1", "seed=4"], 0.5, **{"rank/effective": 2.0, "error/reconstruction": 0.25})
    head, one = (line.split() for line in closing_table([results.gather(tmp_path)]).splitlines())
    assert head[-2:] == ["rank/effective", "error/reconstruction"] and one[-2:] == ["2", "0.25"]
