"""A sweep's folder is its own, and one process's at a time."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from commands import rankward
from rankward import results
from rankward.config import ConfigError, config_hash
from rankward.results import Busy, claimed
from rankward.sweeps.folders import SWEEP, fresh, own, refuse_other

SHORT = ["-m", "logger=none", "seed=0,1", "max_iterations=50"]


def test_many_at_once_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: fresh(tmp_path / "sweep"), range(40)))
    assert len(set(made)) == 40 and tmp_path / "sweep" in made and tmp_path / "sweep_40" in made


def test_a_folder_of_something_else_is_not_taken(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.png").touch()
    (tmp_path / "file").touch()
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / SWEEP).touch()
    (tmp_path / "empty").mkdir()
    for name in ("photos", "file"):
        with pytest.raises(ConfigError, match=r"hydra\.sweep\.dir"):
            own(tmp_path / name)
    for name in ("sweep", "empty", "new/deep"):
        assert own(tmp_path / name).is_dir()


def test_a_folder_is_held_by_one_process_and_freed_with_it(tmp_path):
    code = "import sys, time; from pathlib import Path; from rankward.results import claimed\n"
    code += "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="in use"), claimed(tmp_path):
            pass
        holder.kill()
    with claimed(tmp_path):
        single = rankward("logger=none", "max_iterations=50", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
        assert single.returncode == 1 and "in use: another process" in single.stderr
    for path in (".hydra", "rankward.log"):
        subprocess.run(["rm", "-r", str(tmp_path / path)], check=True)
    assert not list(tmp_path.iterdir())


def test_a_run_of_another_config_is_not_written_over(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 1\nlr: {eta: 0.1}\n")
    refuse_other(tmp_path, {"seed": 1, "lr": {"eta": 0.1}, "logger": {}})  # loggers make no other run
    refuse_other(tmp_path / "new", {"seed": 2})
    with pytest.raises(ConfigError, match=r"another config: there seed is 1, not 2, lr.eta is 0.1, not 0.2; take"):
        refuse_other(tmp_path, {"seed": 2, "lr": {"eta": 0.2}, "logger": {"a": 1}})
    with pytest.raises(ConfigError, match=r"there seed is 1, not unset, lr.beta is unset, not 0.9; take"):
        refuse_other(tmp_path, {"lr": {"eta": 0.1, "beta": 0.9}})
    assert config_hash(results.read_config(tmp_path)) == config_hash({"seed": 1, "lr": {"eta": 0.1}})


def test_what_is_refused_leaves_the_folders_own_config(tmp_path):
    """A finished run and a finished sweep, asked for with other settings: their configs stand, and resuming works."""
    assert rankward("logger=none", "depth=2", "max_iterations=50", "hydra.run.dir=one", cwd=tmp_path).returncode == 0
    assert rankward(*SHORT, "hydra.sweep.dir=many", cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words in (["logger=none", "depth=3", "hydra.run.dir=one"], ["resume", "many", "lr.eta=0.2"]):
        refused = rankward(*words, cwd=tmp_path)
        assert refused.returncode == 2 and refused.stdout == "", refused.stdout
        assert "expected a folder without runs of another config: there " in refused.stderr
    assert "jobs 0, 1: " in refused.stderr and "there lr.eta is 0.003, not 0.2" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for folder in ("one", "many"):
        assert "complete, kept" in rankward("resume", folder, cwd=tmp_path).stdout


def test_single_runs_of_one_second_get_folders_of_their_own(tmp_path):
    """The default folder is the second's: here one that does not change, as an experiment may name it."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    same = "# @package _global_\nhydra: {run: {dir: outputs/same}}\n"
    (tmp_path / "mine" / "experiment" / "same.yaml").write_text(same)
    words = ["--config-dir=mine", "experiment=same", "logger=none", "depth=2", "max_iterations=50"]
    commands = [[sys.executable, "-m", "rankward", *words, f"seed={seed}"] for seed in range(3)]
    started = [subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL) for command in commands]
    assert [process.wait(timeout=240) for process in started] == [0, 0, 0]
    made = sorted((tmp_path / "outputs").iterdir())
    assert [folder.name for folder in made] == ["same", "same_2", "same_3"]
    seeds = [results.read_config(folder)["seed"] for folder in made if results.is_complete(folder)]
    assert sorted(seeds) == [0, 1, 2]


@pytest.mark.slow
def test_two_sweeps_in_one_second_and_one_folder_twice(tmp_path):
    commands = [[sys.executable, "-m", "rankward", *SHORT] for _ in range(2)]
    started = [subprocess.Popen(c, cwd=tmp_path, stdout=subprocess.DEVNULL, env=os.environ) for c in commands]
    assert [process.wait() for process in started] == [0, 0]
    sweeps = sorted((tmp_path / "multirun_outputs").iterdir())
    assert len(sweeps) == 2 and all(len(results.run_folders(sweep)) == 2 for sweep in sweeps)
    long = ["-m", "logger=none", "seed=0,1", "stop_loss=0", "max_iterations=2_000_000_000", "hydra.sweep.dir=one"]
    with subprocess.Popen([sys.executable, "-m", "rankward", *long], cwd=tmp_path, stdout=subprocess.DEVNULL) as first:
        while not (tmp_path / "one" / "1" / ".hydra" / "config.yaml").is_file():
            assert first.poll() is None
            time.sleep(0.02)
        second = rankward(*long, cwd=tmp_path)
        first.kill()
    assert (
        second.returncode == 1
        and second.stderr.startswith("rankward: one is in use")
        and len(second.stderr.splitlines()) == 1
    )
