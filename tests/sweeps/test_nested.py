"""Runs whose folders are named by `hydra.sweep.subdir`: found at any depth, and never two in one."""

import json

import numpy as np
import polars as pl
import pytest

from helpers.commands import leavings
from helpers.in_process import assert_refused, command_line
from helpers.runs import interrupted_after
from rankward import load, results
from rankward.figures._runs import curves
from rankward.report.collect import collect
from rankward.sweeps.status import DONE, STOPPED, SweepMonitor

SHORT = ["logger=none", "max_iterations=300", "lr.eta=0.05"]
SWEEP = ["-m", "depth=2,3", "seed=0,1", *SHORT]
NESTED = "hydra.sweep.subdir=depth${depth.layers}/seed${seed}"
NAMES = ["depth2/seed0", "depth2/seed1", "depth3/seed0", "depth3/seed1"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same sweep with numbered folders (`s`) and with nested ones (`n`)."""
    folder = tmp_path_factory.mktemp("both")
    for words in (["hydra.sweep.dir=s"], [NESTED, "hydra.sweep.dir=n"]):
        done = command_line(*SWEEP, *words, cwd=folder)
        assert done.code == 0 and done.err == "", done
    return folder


def test_tables_traces_and_figures_have_every_run(both):
    ours, numbered = load(both / "n"), load(both / "s")
    assert ours.runs["run"].to_list() == NAMES and ours.runs["job"].to_list() == 4 * [None]
    for name in ("depth.layers", "seed", "loss", "config_hash", "status"):
        assert ours.runs[name].to_list() == numbered.runs[name].to_list()
    traces = [sweep.traces().collect() for sweep in (ours, numbered)]
    renamed = traces[1].with_columns(pl.col("run").replace_strict(dict(zip("0123", NAMES, strict=True))))
    assert traces[0].sort("run", "iteration").equals(renamed.sort("run", "iteration"))
    assert ours.at(0.5, "rank/effective").height == 4 and ours.curves("norm/nuclear", by="depth.layers").height
    assert collect(both / "n", 10**6).notes == ()
    shown, left_out = curves(both / "n", only=NAMES[:3])
    assert [curve.run for curve in shown] == NAMES[:3] and left_out == []
    assert {file for _, file in leavings(both / "s")} == {file for _, file in leavings(both / "n")}
    (both / "n" / "runs.parquet").unlink()
    assert load(both / "n").runs.equals(ours.runs)  # gathered from the folders
    assert load(both / "n" / "depth2").runs["run"].to_list() == ["seed0", "seed1"]
    assert load(both / "n" / "depth2" / "seed0").runs["run"].to_list() == ["seed0"]


@pytest.mark.slow
def test_status_and_watch_see_them_and_resuming_goes_on(both, tmp_path, monkeypatch):
    status = SweepMonitor(both / "n").look()
    assert status.counts == {DONE: 4} and [run.loss != () for run in status.runs] == 4 * [True]
    words = ["-m", "depth=2", "seed=0,1", *SHORT, "stop_loss=0", "max_iterations=20000"]
    with monkeypatch.context() as patched:
        interrupted_after(patched, 1)
        stopped = command_line(*words, NESTED, "hydra.sweep.dir=p", cwd=tmp_path)
    assert stopped.code == 130 and results.run_checkpoints(tmp_path / "p")
    status = SweepMonitor(tmp_path / "p").look()
    assert status.counts == {STOPPED: 2} and {run.name for run in status.runs} == set(NAMES[:2])
    assert any(run.loss for run in status.runs)  # of the checkpoint
    assert command_line("status", "p", cwd=tmp_path).code == 1
    again = command_line("resume", "p", cwd=tmp_path)
    assert again.code == 0 and not results.run_checkpoints(tmp_path / "p"), again
    whole = command_line(*words, "hydra.sweep.dir=w", cwd=tmp_path)
    assert whole.code == 0
    for number, name in enumerate(NAMES[:2]):
        for file in ("trace.parquet", "factors.safetensors"):
            there = [tmp_path / "p" / name / file, tmp_path / "w" / str(number) / file]
            assert there[0].read_bytes() == there[1].read_bytes()
    other = command_line("resume", "p", "init.scale=0.5", cwd=tmp_path)
    assert other.code == 2 and "there init.scale is" in other.err and "/p' is not allowed" in other.err


@pytest.mark.parametrize(
    ("subdir", "words"),
    [
        ("seed${seed}", "job 0 (depth=2 seed=0"),
        ("run", "'run'"),
        ("${now:%H}", "share it"),
        ("all/${seed}/..", "'all'"),
        ("${hydra:job.name}", "'rankward'"),
        ("${oc.env:HOME}/${hydra.job.num}", "a folder below the sweep's"),
        ("../${hydra.job.num}", "a folder below the sweep's"),
        (".${hydra.job.num}", "a folder below the sweep's"),
        ("wandb/${hydra.job.num}", "a folder below the sweep's"),
        ("'.'", "share it"),
    ],
)
def test_jobs_that_share_a_folder_or_leave_the_sweep_are_refused_before_the_first(tmp_path, subdir, words):
    launcher = "basic" if subdir == "run" else "batched"
    refused = command_line(*SWEEP, f"hydra.sweep.subdir={subdir}", f"hydra/launcher={launcher}", cwd=tmp_path)
    assert_refused(refused, "hydra.sweep.subdir: ", words)


def test_one_jobs_folder_inside_anothers_is_refused(tmp_path):
    subdir = "hydra.sweep.subdir=x${ckpt_path}"
    refused = command_line("-m", "ckpt_path='','/1','/1/2'", *SHORT, subdir, cwd=tmp_path)
    assert_refused(refused, "hydra.sweep.subdir: 'x' is not allowed", "job 0 (", "job 1 (")


def test_hydras_own_sweeper_is_held_to_it_as_well(tmp_path):
    words = ["-m", "init=gaussian,balanced", *SHORT, "hydra/sweeper=basic", "hydra.sweep.subdir=seed${seed}"]
    assert "share it" in command_line(*words, cwd=tmp_path).err
    assert not list(tmp_path.rglob("summary.json"))


@pytest.mark.parametrize("where", ["null", "elsewhere"])
@pytest.mark.parametrize("start", [[], ["-m"], ["-m", "hydra/sweeper=basic", "hydra/launcher=basic"]])
def test_output_subdir_other_than_hydras_is_refused(tmp_path, where, start):
    refused = command_line(*start, *SHORT, "seed=0", f"hydra.output_subdir={where}", cwd=tmp_path)
    assert_refused(refused, "hydra.output_subdir: ", "expected .hydra")


def test_folders_that_are_named_by_overrides(tmp_path):
    """`override_dirname` has a slash where a path is among the overrides."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "d.csv").write_text("0,1,1\n1,0,1\n1,1,0.25\n")
    subdir = "hydra.sweep.subdir=${hydra.job.override_dirname}"
    words = ["-m", "seed=0,1", "observations=file", "observations.path=data/d.csv", *SHORT, subdir]
    assert command_line(*words, "hydra.sweep.dir=s", cwd=tmp_path).code == 0
    assert load(tmp_path / "s").runs["status"].to_list() == 2 * ["max_iterations"]


@pytest.mark.slow
def test_rounds_of_a_refinement_are_compared_wherever_they_lie(tmp_path):
    words = [
        "-m",
        "hydra/sweeper=refine",
        "hydra.sweeper.refine.max_rounds=2",
        "depth=2",
        "init.scale=0.1",
        "stop_loss=0.5",
    ]
    subdir = "hydra.sweep.subdir=eta${lr.eta}/${hydra.job.num}"
    done = command_line(*words, "logger=none", "lr.eta=0.1", subdir, "hydra.sweep.dir=r", cwd=tmp_path)
    assert done.code == 0, done
    rounds = pl.read_parquet(tmp_path / "r" / "refinement.parquet")
    assert rounds["status"].to_list() == 2 * ["converged"] and np.isfinite(rounds["change"][1])
    assert load(tmp_path / "r").runs["run"].to_list() == ["eta0.1/0", "eta0.05/1"]


def test_only_runs_of_this_sweep_are_listed(tmp_path):
    for name in ("10", "9", "a/2", "a/10", "wandb/x", ".submitit/x", "inner/0", "a/10/csv/y"):
        (tmp_path / name / ".hydra").mkdir(parents=True)
        (tmp_path / name / ".hydra" / "config.yaml").write_text("seed: 0\n")
    (tmp_path / "inner" / "multirun.yaml").touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "linked").symlink_to(tmp_path / "9")
    names = [results.run_name(tmp_path, folder) for folder in results.run_folders(tmp_path)]
    assert names == ["9", "10", "a/2", "a/10", "linked"]
    assert results.run_folders(tmp_path / "nowhere") == []


def test_unreadable_files_are_reported(tmp_path, capsys):
    for run, text in (("0", b"seed: 0\n"), ("1", b"who: Gr\xf6\xdfe\n")):  # Latin-1, as another program may write
        (tmp_path / run / ".hydra").mkdir(parents=True)
        (tmp_path / run / ".hydra" / "config.yaml").write_bytes(text)
        (tmp_path / run / ".hydra" / "overrides.yaml").write_bytes(b"[]\n" if run == "0" else b"- \xff\n")
        summary = {"status": "converged", "iterations": 1, "metrics": {"loss": 0.5}}
        results.write_run(tmp_path / run, trace={"iteration": [0], "loss": [0.5]}, factors={}, summary=summary)
        (tmp_path / run / "summary.json").write_text(json.dumps(summary))
    runs = load(tmp_path).runs
    assert runs["seed"].to_list() == [0, None] and runs["loss"].to_list() == [0.5, 0.5]
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "1/.hydra/overrides.yaml" in said[0] and "its overrides are left out" in said[0]
    assert "1/.hydra/config.yaml" in said[1] and "its settings are left out" in said[1]
