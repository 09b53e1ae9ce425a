"""Very many runs in one table: the same numbers as in folders, whatever befalls it on the way."""

import signal
import subprocess
import sys
import time

import numpy as np
import polars as pl
import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from polars.testing import assert_frame_equal
from safetensors.numpy import load_file

import rankward as rw
from helpers.in_process import rankward
from rankward import results
from rankward.config import CONFIG_FOLDER, ConfigError, register, run_config
from rankward.config.registry import config_hash
from rankward.sweeps.compose import Composer
from rankward.sweeps.compose_fast import QuickComposer
from rankward.sweeps.partitioned import AUTO_TABLE_RUNS, uses_table

SWEEP = [
    "-m",
    "depth=2,3",
    "lr.eta=0.05,0.1,1000.0",
    "seed=0,1",
    "init.scale=0.1",
    "max_iterations=2000",
    "logger=none",
]
TIMES = ("seconds",)


@pytest.mark.slow
def test_a_table_holds_what_folders_hold(tmp_path):
    """Runs that converge, that reach their limit and that diverge, of two ensembles."""
    there = rankward(*SWEEP, "results=table", "hydra.sweep.dir=there", cwd=tmp_path)
    here = rankward(*SWEEP, "hydra.sweep.dir=here", cwd=tmp_path)
    assert there.returncode == here.returncode == 0, there.stderr + here.stderr
    assert not list((tmp_path / "there").glob("[0-9]*")) and "table:" in there.stdout
    table, folders = rw.load(tmp_path / "there"), rw.load(tmp_path / "here")
    asked = pl.col("overrides").str.replace(" results=table", "", literal=True)
    runs = table.runs.with_columns(asked)
    left = folders.runs.drop(TIMES, "notes.diverged")  # hints about runs that diverged are of folders alone
    assert_frame_equal(runs.drop(TIMES), left, check_column_order=False)
    assert set(table.runs["status"]) >= {"converged", "diverged"}
    order = ["run", "iteration"]
    assert_frame_equal(
        table.traces().sort(order).collect(), folders.traces().sort(order).collect(), check_column_order=False
    )
    for number in results.table_parts(tmp_path / "there"):
        jobs = pl.read_parquet(tmp_path / "there" / "runs.parquet" / f"{number}.parquet")["job"].to_list()
        arrays = load_file(tmp_path / "there" / "factors" / f"{number}.safetensors")
        for place, job in enumerate(jobs):
            for name, one in results.read_arrays(tmp_path / "here" / str(job)).items():
                many = arrays[name]
                np.testing.assert_array_equal(many[place if len(many) > 1 else 0], one)
    again = rankward("resume", "there", cwd=tmp_path)
    assert again.returncode == 0 and "12 of 12 runs complete, kept" in again.stdout
    other = rankward(*SWEEP, "results=table", "dtype=float32", "hydra.sweep.dir=there", cwd=tmp_path)
    assert (
        other.returncode == 2 and "a folder without runs of another config: there job 0 has config_hash" in other.stderr
    )
    mixed = rankward(*SWEEP, "hydra.sweep.dir=there", "results=folders", cwd=tmp_path)
    assert mixed.returncode == 2 and "results: 'folders' is not allowed" in mixed.stderr


@pytest.mark.slow
def test_a_killed_sweep_goes_on_to_the_same_numbers(tmp_path):
    sweep = ["-m", "depth=2,3", "seed=range(0,16)", "lr.eta=1e-8", "max_iterations=60_000_000", "logger=none"]
    sweep += ["results=table", "checkpoint.seconds=0.3"]
    whole = rankward(*sweep, "hydra.sweep.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    for ended in (signal.SIGKILL, signal.SIGINT):
        name = ended.name
        command = [sys.executable, "-m", "rankward", *sweep, f"hydra.sweep.dir={name}"]
        process = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while not list((tmp_path / name / "checkpoints").glob("*.ckpt")) and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(ended)
        _, error = process.communicate()
        assert process.returncode == (130 if ended == signal.SIGINT else -9), error
        assert len(results.table_parts(tmp_path / name)) < 2
        done = rankward("resume", name, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        one, other = rw.load(tmp_path / "whole"), rw.load(tmp_path / name)
        assert_frame_equal(one.runs.drop(TIMES), other.runs.drop(TIMES))
        order = ["run", "iteration"]
        assert_frame_equal(one.traces().sort(order).collect(), other.traces().sort(order).collect())
        assert not list((tmp_path / name / "checkpoints").glob("*.ckpt"))


@pytest.mark.slow
def test_the_atlas(tmp_path):
    small = [
        "lr.eta=0.1,0.3",
        "init.scale=0.1,0.5",
        "observations.b_22=0,1",
        "depth=2",
        "seed=0,1",
        "max_iterations=500",
    ]
    done = rankward("-m", "experiment=atlas", *small, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert len(rw.load(tmp_path / "s").runs) == 16
    assert (tmp_path / "s" / "figures" / "atlas_entry.png").is_file()
    from rankward.figures.atlas import curves

    cells = curves(tmp_path / "s")
    assert cells.height == 8 and set(cells["runs"]) == {2}
    runs = rw.load(tmp_path / "s").runs
    cell = runs.filter((pl.col("lr.eta") == 0.3) & (pl.col("init.scale") == 0.5) & (pl.col("observations.b_22") == 1))
    mine = cells.filter((pl.col("lr.eta") == 0.3) & (pl.col("init.scale") == 0.5) & (pl.col("observations.b_22") == 1))
    assert mine["entry"][0] == pytest.approx(np.median(np.abs(cell["entry/0_0"].to_numpy())))


@pytest.mark.parametrize(
    "more", [["hydra/launcher=basic"], ["hydra/sweeper=refine"], ["hydra/launcher=submitit_local"]]
)
def test_sweeps_that_cannot_make_a_table_are_refused(tmp_path, more):
    refused = rankward("-m", "results=table", "logger=none", *more, cwd=tmp_path)
    assert refused.returncode == 2 and refused.stderr.splitlines()[-1].startswith("rankward: results: 'table'")
    assert list(tmp_path.iterdir()) == []


def test_a_table_comes_without_asking_from_some_thousand_runs_on():
    assert (
        not uses_table({}, AUTO_TABLE_RUNS - 1, True)
        and uses_table({}, AUTO_TABLE_RUNS, True)
        and not uses_table({}, AUTO_TABLE_RUNS, False)
    )
    assert not uses_table({"figures": ["figure1"]}, AUTO_TABLE_RUNS, True) and uses_table(
        {"figures": ["atlas"]}, AUTO_TABLE_RUNS, True
    )
    assert not uses_table({"results": "folders"}, AUTO_TABLE_RUNS, True) and uses_table({"results": "table"}, 2, True)
    with pytest.raises(ConfigError, match="results"):
        uses_table({"results": "table"}, 2, False)


def test_wrong_jobs_of_a_table_are_refused_before_anything_is_written(tmp_path):
    refused = rankward("-m", "results=table", "logger=none", "seed=range(0,3)", "lr.eta=0.1,-1.0", cwd=tmp_path)
    lines = refused.stderr.splitlines()
    assert refused.returncode == 2 and lines == [
        "rankward: jobs 1, 3, 5: lr.eta: -1.0 is not allowed; expected a positive finite number"
    ]
    assert list(tmp_path.iterdir()) == []


JOBS = [
    ["depth='2'", "lr.eta=0.1", "seed=3", "init=balanced", "init.scale=1e-3"],
    ["depth='2'", "lr.eta=1", "seed=4", "init=balanced", "init.scale=2"],  # whole numbers where the model has others
    ["depth='2'", "lr.eta=0.5", "seed=5", "init=balanced", "init.scale=1e-5"],
    ["max_iterations=100", "record.every=50"],
    ["max_iterations=null", "record.every=100"],  # another type: Hydra's to compose
    ["max_iterations=300", "record.every=150"],
    ["dtype=float32", "observations=random_matrix", "observations.dims=[3,3]", "observations.count=5"],
    ["dtype=float64", "observations=random_matrix", "observations.dims=[4,4]", "observations.count=5"],
]


COMMON = [
    ["figures=[]"],
    ["observations.unobserved=[0,1]"],
    ["metrics.columns.singular_values.largest=1"],
    ["init.determinant=positive"],
    ["+metrics.columns.mine={_target_: rankward.metrics.TensorNorm}"],
    ["~metrics.columns.schatten"],
    ["record.every=null", "trainer.tf32=true"],
]


@pytest.mark.parametrize("common", COMMON)
def test_shared_overrides_do_not_slow_composing(common, monkeypatch):
    register()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("config", ["logger=none"], run_mode=RunMode.MULTIRUN))
        jobs = [[*common, f"lr.eta={eta}", f"seed={seed}"] for eta in (0.1, 1) for seed in range(2)]
        expected = [composer.compose(job) for job in jobs]
        quick = QuickComposer(composer)
        quick.compose(jobs[0])
        monkeypatch.setattr(composer, "compose", None)  # Hydra's work is done
        for job, whole in zip(jobs, expected, strict=True):
            made = quick.compose(job)
            assert made.run == run_config(whole.config) and made.resolved == whole.job().resolved


def test_quick_composing_is_hydras():
    register()
    with initialize_config_dir(str(CONFIG_FOLDER), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        composer = Composer(loader, loader.load_configuration("config", ["logger=none"], run_mode=RunMode.MULTIRUN))
        quick = QuickComposer(composer)
        for job in [*JOBS, *JOBS]:
            whole, made = composer.compose(job), quick.compose(job)
            assert made.run == run_config(whole.config) and made.resolved == whole.job().resolved
            assert made.digest == config_hash(whole.job().resolved)
        with pytest.raises(ConfigError, match="lr.eta"):
            quick.compose(["depth='2'", "lr.eta=-1.0", "seed=3", "init=balanced", "init.scale=1e-3"])
