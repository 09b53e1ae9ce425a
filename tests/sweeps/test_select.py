"""`select.KEY=VALUES` leaves the jobs of a sweep with these values, and changes nothing else about them."""

import polars as pl
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from helpers.in_process import assert_refused, command_line, rankward
from rankward import results
from rankward.config import ConfigError
from rankward.sweeps.select import Selection

CONFIGS = [
    {"depth": {"name": "3", "layers": 3}, "lr": {"name": "constant", "eta": 1e-3}, "dims": [3, 3], "seed": 0},
    {"depth": {"name": "3", "layers": 3}, "lr": {"name": "flow"}, "dims": [3, 4], "seed": 1},
    None,
    {"depth": {"name": "4", "layers": 4}, "lr": {"name": "flow"}, "dims": [3, 4], "seed": 2},
]


def indices(*texts):
    return Selection(texts, OverridesParser.create()).indices(CONFIGS)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["depth=3"], [0, 1, 2]),
        (["depth.layers=4.0"], [2, 3]),
        (["depth=3,4", "lr=flow"], [1, 2, 3]),
        (["lr.eta=0.001"], [0, 2]),
        (["dims=[3,4]", "seed=range(0,2)"], [1, 2]),
        (["seed=linspace(0,2,2)"], [0, 2, 3]),
    ],
)
def test_jobs_are_selected_by_the_values_of_their_configs(texts, expected):
    assert indices(*texts) == expected


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["depth=3,5"], "select.depth: '5' is not allowed; expected values that jobs have: 3, 4"),
        (["seeds=1"], r"select.seeds: '1' .* a key of the jobs' configs \(did you mean 'seed'\?\)"),
        (["seed=interval(0,1)"], "select.seed: 'seed=interval"),
    ],
)
def test_a_key_or_a_value_that_no_job_has_is_refused(texts, message):
    with pytest.raises(ConfigError, match=message):
        indices(*texts)


def test_conditions_that_no_job_meets_together_are_refused():
    jobs = [config for config in CONFIGS if config]
    with pytest.raises(ConfigError, match="select: 'depth=4 seed=0' is not allowed"):
        Selection(["depth=4", "seed=0"], OverridesParser.create()).indices(jobs)


def test_selection_is_checked_before_anything_is_written(tmp_path):
    assert_refused(command_line("-m", "experiment=figure1", "select.depth=5", cwd=tmp_path), "select.depth", "2, 3, 4")
    assert_refused(command_line("depth=3", "select.depth=3", cwd=tmp_path), "select.depth: '3'", "rankward -m")


@pytest.mark.slow
def test_selected_jobs_have_the_hashes_of_the_full_sweep_and_are_resumed(tmp_path):
    sweep = ["-m", "seed=${hydra:job.num}", "hydra.sweeper.grids=[{depth:[2,3]},{depth:4,init:[gaussian,balanced]}]"]
    sweep += ["max_iterations=50", "logger=none"]
    planned = command_line(*sweep, "select.depth=2,4", "select.seed=2,3", "--dry-run", cwd=tmp_path)
    assert planned.out.startswith("2 of 4 jobs selected\n") and planned.files == []
    assert rankward(*sweep, "hydra.sweep.dir=all", cwd=tmp_path).returncode == 0
    assert rankward(*sweep, "select.depth=2,4", "hydra.sweep.dir=some", cwd=tmp_path).returncode == 0
    full, some = (pl.read_parquet(tmp_path / name / "runs.parquet") for name in ("all", "some"))
    assert some["config_hash"].to_list() == [full["config_hash"][job] for job in (0, 2, 3)]
    (tmp_path / "some" / "1" / results.SUMMARY).unlink()
    resumed = rankward("resume", "some", cwd=tmp_path)
    assert resumed.returncode == 0 and resumed.stdout.count("complete, kept") == 2, resumed.stderr
    assert pl.read_parquet(tmp_path / "some" / "runs.parquet")["config_hash"].equals(some["config_hash"])
