"""Settings without effect: refused if no job uses them; jobs that differ only in them are trained once."""

import json
import shutil

import polars as pl
import pytest
import torch

from helpers.commands import computed
from helpers.in_process import assert_refused, command_line, rankward
from helpers.runs import composed
from rankward import results
from rankward.factorizations import LinearFactorization
from rankward.factorizations.initialisation import Gaussian
from rankward.sweeps.effects import effective, unused, unused_overrides

SWEEP = ["-m", "factorization=matrix,linear", "depth=2", "init.scale=0.1,0.2", "seed=0,1", "lr.eta=0.1"]
SWEEP += ["logger=none", "hydra.sweep.dir=s"]
LINEAR = ("4", "5", "6", "7")  # jobs with the same results


class StartsSomewhere(LinearFactorization):
    """A linear parameterization that uses its init after all."""

    def start(self, init, seed):
        return init.each(self.shapes, seed)


def test_unused_settings_by_factorization():
    assert unused(composed()[0]) == {} and unused(composed("factorization=residual")[0]) == {}
    assert set(unused(composed("factorization=symmetric")[0])) == {"depth"}
    assert set(unused(composed("factorization=linear")[0])) == {"depth", "init", "seed"}
    ours = f"factorization._target_={StartsSomewhere.__module__}.StartsSomewhere"
    assert set(unused(composed("factorization=linear", ours)[0])) == {"depth"}


def test_settings_that_are_unused_change_no_start():
    for kind, same in ((LinearFactorization, True), (StartsSomewhere, False)):
        one, two = (kind((2, 3)).start(Gaussian(scale), seed)[0] for scale, seed in ((0.1, 0), (0.2, 1)))
        assert torch.equal(one, two) == same


def test_effective_hash_ignores_only_unused_settings():
    def key(*overrides):
        return effective(*composed("factorization=linear", *overrides))

    assert key() == key("depth='2'") == key("init.scale=1", "seed=9") == key("init=balanced")
    others = ["lr.eta=1", "observations=perturbed", "trainer.threads=1", "dtype=float32"]
    assert len({key(), *map(key, others)}) == 5
    assert effective(*composed("factorization=matrix")) == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("factorization=linear depth=3", ["depth: '3' is not allowed", "factorization=linear has no layers"]),
        ("factorization=linear init=balanced", ["init: 'balanced' is not allowed", "starts without it"]),
        ("factorization=linear init.scale=0.1", ["init.scale: 0.1 is not allowed; expected no init"]),
        ("-m factorization=linear,symmetric depth=3", ["jobs 0, 1: depth: '3' is not allowed"]),
        ("-m factorization=linear,symmetric depth=3 results=table", ["depth: '3' is not allowed"]),
    ],
)
def test_overrides_without_effect_are_refused(tmp_path, arguments, words):
    assert_refused(command_line(*arguments.split(), "logger=none", cwd=tmp_path), *words)


def test_seeds_and_settings_of_an_experiment_are_accepted(tmp_path):
    assert command_line("factorization=linear", "seed=3", "hydra.run.dir=o", "logger=none", cwd=tmp_path).code == 0
    overrides = ["experiment=figure2_order3", "factorization=linear", "seed=3"]  # it sets init.scale
    assert unused_overrides([(composed(*overrides)[0], overrides)]) == {}


@pytest.mark.slow
def test_plan_counts_equal_jobs(tmp_path):
    planned = rankward(*SWEEP, "--dry-run", cwd=tmp_path).stdout.splitlines()
    assert planned[-1].startswith("8 jobs, 3 of them equal to another in all that has effect: 5 runs, at most about")


def test_equal_jobs_are_trained_once_and_have_the_bytes_of_separate_training(tmp_path):
    done = rankward(*SWEEP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 of 8 jobs are equal to another" in done.stdout and done.stdout.count(": linear: converged") == 1
    table = done.stdout[done.stdout.index("setting") :].splitlines()
    assert sum(line.startswith("factorization=linear") for line in table) == 1
    assert "3 more jobs have the results of an equal one (equal_to in runs.parquet)" in table
    sweep = tmp_path / "s"
    assert rankward(*SWEEP[:-1], "hydra.sweep.dir=b", "hydra/launcher=basic", cwd=tmp_path).returncode == 0
    before = computed(tmp_path / "b")
    assert computed(sweep) == before
    runs = pl.read_parquet(sweep / "runs.parquet")
    assert runs["equal_to"].to_list() == [None] * 5 + ["4"] * 3 and runs["status"].to_list() == ["converged"] * 8
    assert runs["config_hash"].n_unique() == 8
    for job in LINEAR:
        assert (
            results.summary_hash(sweep / job) == json.loads((sweep / job / "summary.json").read_text())["config_hash"]
        )
        results.read_config(sweep / job)  # it compares the hash with the config
    for job in LINEAR[:2]:
        shutil.rmtree(sweep / job)
    done = rankward(*SWEEP, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert ": linear: converged" not in done.stdout and computed(sweep) == before
    assert results.read_summary(sweep / "5")["equal_to"] == "4"  # the job that was trained, though not its source now


def test_equal_jobs_have_no_loggers(tmp_path):
    linear = ["-m", "factorization=linear", "seed=0,1", "logger=csv", "hydra.sweep.dir=s"]
    assert rankward(*linear, cwd=tmp_path).returncode == 0
    logged = [list((tmp_path / "s" / job).rglob("metrics.csv")) for job in ("0", "1")]
    assert len(logged[0]) == 1 and logged[1] == [] and not (tmp_path / "s" / "1" / ".unlogged").exists()
    again = rankward(*linear, cwd=tmp_path)
    assert again.returncode == 0 and "1: complete, kept" in again.stdout


def test_a_failed_job_fails_its_equal_jobs(tmp_path):
    (tmp_path / "s" / "4" / "trace.parquet").mkdir(parents=True)
    (tmp_path / "s" / "4" / "trace.parquet" / "x").touch()
    (tmp_path / "s" / "multirun.yaml").touch()
    done = rankward(*SWEEP, cwd=tmp_path)
    assert done.returncode == 1 and "jobs 4, 5, 6, 7: cannot write" in done.stderr
    assert not results.is_complete(tmp_path / "s" / "5") and (tmp_path / "s" / "5" / "failure.txt").is_file()


@pytest.mark.slow
def test_old_folders_with_settings_without_effect_are_resumed(tmp_path):
    """A folder with a config is one that the command has made before."""
    run = ["factorization=linear", "logger=none", "hydra.run.dir=o"]
    assert rankward(*run, cwd=tmp_path).returncode == 0
    again = rankward(*run, "init.scale=1e-5", cwd=tmp_path)
    assert again.returncode == 0 and "complete, kept" in again.stdout
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "multirun.yaml").touch()
    old = ["-m", "factorization=linear", "init.scale=0.1,0.2", "hydra.sweep.dir=s", "logger=none", "--dry-run"]
    assert command_line(*old, cwd=tmp_path).code == 0
