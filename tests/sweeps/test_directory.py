"""A sweep's folder is its own, and one process's at a time."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from helpers import in_process
from helpers.commands import rankward
from rankward import results
from rankward.config import ConfigError, config_hash
from rankward.report.collect import collect
from rankward.results import FolderLocked, ResultsError, claimed
from rankward.results.load import load
from rankward.sweeps.callback import refuse_run_of_busy_sweep
from rankward.sweeps.directory import SWEEP, create_unique, open_or_create, refuse_other_config

SHORT = ["-m", "logger=none", "seed=0,1", "max_iterations=50"]


def test_simultaneous_runs_get_different_folders(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: create_unique(tmp_path / "sweep"), range(40)))
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
            open_or_create(tmp_path / name)
    for name in ("sweep", "empty", "new/deep"):
        assert open_or_create(tmp_path / name).is_dir()


@pytest.mark.slow
def test_a_folder_is_held_by_one_process_and_freed_with_it(tmp_path):
    code = "import sys, time; from pathlib import Path; from rankward.results import claimed\n"
    code += "with claimed(Path(sys.argv[1])): print('held', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(FolderLocked, match="in use"), claimed(tmp_path):
            pass
        holder.kill()
    with claimed(tmp_path):
        single = rankward("logger=none", "max_iterations=50", f"hydra.run.dir={tmp_path}", cwd=tmp_path)
        assert single.returncode == 1 and "in use: another process" in single.stderr
        assert [path.name for path in tmp_path.iterdir()] == [results.LOCK]  # refused before Hydra writes
        with claimed(tmp_path):
            pass
        assert (tmp_path / results.LOCK).is_file()  # held until the outer claim ends
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("replaced", [False, True])
def test_a_folder_that_goes_while_it_is_held_is_an_error(tmp_path, replaced):
    folder = tmp_path / "s"
    folder.mkdir()
    with pytest.raises(ResultsError, match="s was deleted or moved while it was in use"), claimed(folder):
        folder.rename(tmp_path / "t")
        if replaced:  # as by another process, whose lock stays
            folder.mkdir()
            (folder / results.LOCK).touch()
    assert not replaced or (folder / results.LOCK).is_file()


def test_a_run_of_a_sweep_at_work_is_not_taken(tmp_path):
    """The sweep holds its own folder, not each run's: a single run in one of them looks there."""
    (tmp_path / SWEEP).touch()
    config = tmp_path / "0" / ".hydra" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("seed: 0\n")
    with claimed(tmp_path), pytest.raises(FolderLocked, match="in use: another process"):
        refuse_run_of_busy_sweep(tmp_path / "0")
    refuse_run_of_busy_sweep(tmp_path / "0")
    (tmp_path / SWEEP).unlink()
    with claimed(tmp_path):
        refuse_run_of_busy_sweep(tmp_path / "0")  # no sweep's folder


def test_a_run_named_in_a_folder_where_another_has_begun_is_refused(tmp_path):
    """A run that was killed has left its config alone; `++` names a folder as well."""
    config = tmp_path / "X" / ".hydra" / "config.yaml"
    config.parent.mkdir(parents=True)
    config.write_text("seed: 0\n")
    done = in_process.rankward("logger=none", "seed=1", "++hydra.run.dir=X", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "seed is 0, not 1" in done.stderr
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [config] and config.read_text() == "seed: 0\n"


def mixed(folder):
    """One run's config (seed 1) beside another's results (seed 0), as earlier versions could leave them."""
    (folder / ".hydra").mkdir(parents=True)
    (folder / ".hydra" / "config.yaml").write_text("seed: 1\n")
    (folder / ".hydra" / "overrides.yaml").write_text("- seed=1\n")
    (folder / ".hydra" / "hydra.yaml").write_text("hydra: {}\n")
    digest = hashlib.sha256(b'{"seed": 0}').hexdigest()[:16]
    summary = {"status": "converged", "config_hash": digest, "metrics": {"loss": 0.5}}
    results.write_run(folder, trace={"iteration": [0], "loss": [0.5]}, factors={}, summary=summary)
    own = hashlib.sha256(b'{"seed": 1}').hexdigest()[:16]
    return f"config.yaml has config_hash {own}, but summary.json beside it {digest}"


def test_results_with_another_config_are_reported_and_left_out(tmp_path, capsys):
    why = mixed(tmp_path / "s" / "0")
    for seed in (1, 2):
        mixed(tmp_path / "s" / str(seed))
        summary = results.read_summary(tmp_path / "s" / str(seed)) | {"config_hash": config_hash({"seed": 1})}
        (tmp_path / "s" / str(seed) / "summary.json").write_text(json.dumps(summary))
    for _ in range(2):  # gathered, and from the table
        loaded = load(tmp_path / "s")
        assert loaded.runs["status"].to_list() == ["missing", "converged", "converged"]
        assert loaded.runs["seed"].to_list() == [None, 1, 1] and loaded.runs["loss"].to_list() == [None, 0.5, 0.5]
        assert set(loaded.traces().collect()["run"]) == {"1", "2"}
        assert f"{why}: this run is left out" in capsys.readouterr().err
        results.write_runs(tmp_path / "s")
    assert len(collect(tmp_path / "s", 10**6).notes) == 1 and why in collect(tmp_path / "s", 10**6).notes[0]
    assert load(tmp_path / "s" / "0").runs["status"].to_list() == ["missing"]
    with pytest.raises(ResultsError, match="has config_hash"):
        results.read_config(tmp_path / "s" / "0")
    with pytest.raises(ConfigError, match=r"another config: .*has config_hash .*; take another"):
        refuse_other_config(tmp_path / "s" / "0", {"seed": 1})
    (tmp_path / "s" / "0" / ".hydra" / "config.yaml").write_text("seed")  # torn: the summary still says whose it is
    with pytest.raises(ConfigError, match=r"there summary\.json has config_hash"):
        refuse_other_config(tmp_path / "s" / "0", {"seed": 1})
    refuse_other_config(tmp_path / "s" / "0", {"seed": 0})


def test_a_config_that_takes_values_from_elsewhere_is_not_called_another(tmp_path, monkeypatch):
    monkeypatch.setenv("RANKWARD_TEST", "here")
    mixed(tmp_path)
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 0\npath: ${oc.env:RANKWARD_TEST}\n")
    assert results.read_config(tmp_path)["seed"] == 0


@pytest.mark.slow
@pytest.mark.parametrize("gone", ["s", pytest.param("s/1", marks=pytest.mark.slow)])
def test_folders_deleted_while_a_sweep_trains_end_it_with_an_error(tmp_path, gone):
    command = [sys.executable, "-m", "rankward", *SHORT, "stop_loss=0", "max_iterations=20000000", "hydra.sweep.dir=s"]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        while not (tmp_path / "s" / "1" / "rankward.log").is_file():
            assert process.poll() is None
            time.sleep(0.005)
        time.sleep(0.1)
        shutil.rmtree(tmp_path / gone)
        assert process.wait(timeout=120) == 1
        said = process.stderr.read()
    assert said.startswith("rankward: jobs 0, 1: " if gone == "s" else "rankward: job 1 (")
    assert len(said.splitlines()) == 1 and "the folder was deleted or moved before the sweep ended" in said, said


def test_a_run_of_another_config_is_not_written_over(tmp_path):
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra" / "config.yaml").write_text("seed: 1\nlr: {eta: 0.1}\n")
    refuse_other_config(tmp_path, {"seed": 1, "lr": {"eta": 0.1}, "logger": {}})  # loggers make no other run
    refuse_other_config(tmp_path / "new", {"seed": 2})
    with pytest.raises(ConfigError, match=r"another config: there seed is 1, not 2, lr.eta is 0.1, not 0.2; take"):
        refuse_other_config(tmp_path, {"seed": 2, "lr": {"eta": 0.2}, "logger": {"a": 1}})
    with pytest.raises(ConfigError, match=r"there seed is 1, not unset, lr.beta is unset, not 0.9; take"):
        refuse_other_config(tmp_path, {"lr": {"eta": 0.1, "beta": 0.9}})
    assert config_hash(results.read_config(tmp_path)) == config_hash({"seed": 1, "lr": {"eta": 0.1}})


def test_refused_run_does_not_change_the_folders_config(tmp_path):
    """A finished run and a finished sweep, asked for with other settings: their configs stand, and resuming works."""
    assert (
        in_process.rankward("logger=none", "depth=2", "max_iterations=50", "hydra.run.dir=one", cwd=tmp_path).returncode
        == 0
    )
    assert in_process.rankward(*SHORT, "hydra.sweep.dir=many", cwd=tmp_path).returncode == 0
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words in (["logger=none", "depth=3", "hydra.run.dir=one"], ["resume", "many", "lr.eta=0.2"]):
        refused = in_process.rankward(*words, cwd=tmp_path)
        assert refused.returncode == 2 and refused.stdout == "", refused.stdout
        assert "expected a folder without runs of another config: there " in refused.stderr
    assert "jobs 0, 1: " in refused.stderr and "there lr.eta is 0.003, not 0.2" in refused.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    for folder in ("one", "many"):
        assert "complete, kept" in in_process.rankward("resume", folder, cwd=tmp_path).stdout
    summary = tmp_path / "one" / results.SUMMARY  # now another run's results beside this config
    summary.write_text(json.dumps(results.read_summary(tmp_path / "one") | {"config_hash": "0" * 16}))
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    done = in_process.rankward("resume", "one", cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "0" * 16 in done.stderr
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.slow
def test_single_runs_of_the_same_second_get_different_folders(tmp_path):
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
