"""Which jobs a sweep has, and that none starts before all are checked."""

import itertools

import polars as pl
import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from polars.testing import assert_frame_equal

from helpers.in_process import rankward
from rankward import results
from rankward.config import ConfigError
from rankward.sweeps.grid import GridSearch, Jobs


def jobs(grids, *arguments, params=None):
    search = GridSearch(params or {}, grids, None)
    search.parser = OverridesParser.create()
    return list(search.jobs(list(arguments)))


def test_a_plain_sweep_is_hydras():
    assert jobs([], "a=1,2", "b=x,y", "c=3") == [[f"a={a}", f"b={b}", "c=3"] for a, b in itertools.product("12", "xy")]


def test_pairs_and_unions():
    grids = [
        {"n": [2, 3], "lr.eta, init.scale": [[1e-3, 1], [2e-3, 2]]},
        {"n": 4, "init": "gaussian,balanced"},
    ]
    assert jobs(grids) == [
        ["n=2", "lr.eta=0.001", "init.scale=1"],
        ["n=2", "lr.eta=0.002", "init.scale=2"],
        ["n=3", "lr.eta=0.001", "init.scale=1"],
        ["n=3", "lr.eta=0.002", "init.scale=2"],
        ["n=4", "init=gaussian"],
        ["n=4", "init=balanced"],
    ]


def test_the_command_line_crosses_and_replaces():
    grids = [{"n": [2, 3], "lr.eta, init.scale": [[1, 10], [2, 20], [3, 10]]}]
    assert jobs(grids, "seed=range(0,2)", "n=5") == [
        [f"seed={s}", "n=5", f"lr.eta={e}", f"init.scale={i}"]
        for s, (e, i) in itertools.product((0, 1), ((1, 10), (2, 20), (3, 10)))
    ]
    assert jobs(grids, "lr.eta=7") == [
        ["lr.eta=7", f"n={n}", f"init.scale={i}"] for n, i in itertools.product((2, 3), (10, 20))
    ]


def test_pairs_on_the_command_line():
    search = GridSearch({}, [{"n": [2, 3], "lr.eta": 5}], None, ["lr.eta,init.scale=[1e-3,1],[2e-3,x]"])
    search.parser = OverridesParser.create()
    assert list(search.jobs(["seed=0,1"])) == [
        [f"seed={s}", f"lr.eta={e}", f"init.scale={i}", f"n={n}"]
        for s, (e, i), n in itertools.product((0, 1), (("1e-3", 1), ("2e-3", "x")), (2, 3))
    ]
    search.zips = ["a,b=[1]"]
    with pytest.raises(ConfigError, match=r"hydra\.sweeper\.zip"):
        search.jobs([])


def test_pairs_and_unions_through_the_real_command_line(tmp_path):
    pairs = ["lr.eta,init.scale=[1e-3,0.1],[2e-3,0.2]", "hydra.sweep.dir=s"]
    union = "hydra.sweeper.grids=[{depth:[2,3]},{depth:4,seed:[7,8]}]"
    done = rankward("-m", "logger=none", "max_iterations=50", *pairs, union, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = pl.read_parquet(tmp_path / "s" / "runs.parquet")
    assert list(zip(table["lr.eta"], table["init.scale"], table["depth.layers"], table["seed"], strict=True)) == [
        *((e, i, d, 0) for (e, i), d in itertools.product(((1e-3, 0.1), (2e-3, 0.2)), (2, 3))),
        *((e, i, 4, s) for (e, i), s in itertools.product(((1e-3, 0.1), (2e-3, 0.2)), (7, 8))),
    ]


def test_a_thousand_million_jobs_are_made_one_by_one():
    axes = [[[f"{key}={value}"] for value in range(1000)] for key in "abc"]
    many = Jobs([axes, [[["d=1"], ["e=2", "f=3"]]]])
    assert len(many) == 1000**3 + 2
    assert many[123_456_789] == ["a=123", "b=456", "c=789"]
    assert many[-1] == ["e=2", "f=3"] and many[1000**3] == ["d=1"]
    assert many[999:1001] == [["a=0", "b=0", "c=999"], ["a=0", "b=1", "c=0"]]
    assert many[:] is many
    with pytest.raises(IndexError):
        many[len(many)]
    few = Jobs([[axis[:3] for axis in axes], [], [axes[0][:2]]])
    assert [few[place] for place in range(len(few))] == list(few)
    assert list(few)[:27] == [[f"a={a}", f"b={b}", f"c={c}"] for a, b, c in itertools.product(range(3), repeat=3)]
    assert list(few)[27:] == [[], ["a=0"], ["a=1"]]


def test_params_are_crossed_too():
    assert jobs([{"n": [1, 2]}], params={"m": "5,6"}) == [[f"m={m}", f"n={n}"] for m in (5, 6) for n in (1, 2)]


def test_group_choices_that_are_numbers_are_quoted():
    assert jobs([{"depth": [2, 3]}]) == [["depth='2'"], ["depth='3'"]]
    assert jobs([], "depth=range(2,4)") == [["depth='2'"], ["depth='3'"]]


@pytest.mark.parametrize(
    ("grids", "key"),
    [
        ([{"a, b": [[1, 2], [3]]}], r"grids\[0\]\.a, b"),
        ([{}, {"a, b": "1,2"}], r"grids\[1\]\.a, b"),
        (["depth"], r"grids\[0\]"),
    ],
)
def test_grids_that_make_no_sense_are_named(grids, key):
    with pytest.raises(ConfigError, match=key):
        jobs(grids)


def test_an_interval_has_no_end():
    with pytest.raises(ConfigError, match=r"lr\.eta"):
        jobs([], "lr.eta=interval(0,1)")


def test_every_job_is_checked_before_the_first_starts(tmp_path):
    done = rankward("-m", "logger=none", "lr.eta=0.1,-1,nan", "observations.b_12=1,0", cwd=tmp_path)
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    told = [
        "job 1 (logger=none lr.eta=0.1 observations.b_12=0): observations.b_12: 0.0",
        "jobs 2, 3: lr.eta: -1.0",
        "jobs 4, 5: lr.eta: nan",
    ]
    assert len(lines) == 3 and all(
        line.startswith(f"rankward: {words}") for line, words in zip(lines, told, strict=True)
    )
    assert list(tmp_path.rglob("*")) == []


def test_sweep_writes_a_table_and_resumes(tmp_path):
    sweep = ["-m", "logger=none", "depth=1,2", "lr.eta=0.05,1e3", "init.scale=0.1", "hydra.sweep.dir=sweep"]
    done = rankward(*sweep, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "table:" in done.stdout
    folders = results.run_folders(tmp_path / "sweep")
    assert [folder.name for folder in folders] == ["0", "1", "2", "3"]
    table = pl.read_parquet(tmp_path / "sweep" / "runs.parquet")
    assert table["depth.layers"].to_list() == [1, 1, 2, 2] and table["lr.eta"].to_list() == [0.05, 1e3] * 2
    assert table["status"].to_list() == ["converged", "diverged"] * 2
    assert_frame_equal(table, results.gather(tmp_path / "sweep"))  # as read from the runs' own files
    before = {path: path.stat().st_mtime_ns for name in "013" for path in (tmp_path / "sweep" / name).rglob("*")}
    (tmp_path / "sweep" / "2" / "summary.json").write_text("torn")
    again = rankward(*sweep, cwd=tmp_path)
    assert again.returncode == 0 and again.stdout.count("kept") == 3
    assert before == {path: path.stat().st_mtime_ns for path in before}  # kept runs are left alone
    assert_frame_equal(pl.read_parquet(tmp_path / "sweep" / "runs.parquet").drop("seconds"), table.drop("seconds"))
    assert results.is_complete(tmp_path / "sweep" / "2")


@pytest.mark.slow
def test_a_job_whose_folder_has_another_config_is_refused_before_the_first_starts(tmp_path):
    sweep = ["-m", "logger=none", "max_iterations=50", "hydra.sweep.dir=sweep"]
    assert rankward(*sweep, "lr.eta=0.1,0.2,0.3", cwd=tmp_path).returncode == 0
    (tmp_path / "sweep" / "2" / "summary.json").unlink()
    before = (tmp_path / "sweep" / "multirun.yaml").read_bytes()
    done = rankward(*sweep, "lr.eta=0.1,0.25,0.3", cwd=tmp_path)
    assert done.returncode == 2 and done.stdout == "", done.stdout
    (line,) = done.stderr.splitlines()
    assert "job 1 (" in line and "lr.eta=0.25): hydra.sweep.dir" in line and "there lr.eta is 0.2, not 0.25" in line
    assert not results.is_complete(tmp_path / "sweep" / "2")
    assert (tmp_path / "sweep" / "multirun.yaml").read_bytes() == before
    assert rankward("resume", "sweep", cwd=tmp_path).returncode == 0 and results.is_complete(tmp_path / "sweep" / "2")


def test_unknown_figure_is_refused_before_the_sweep(tmp_path):
    done = rankward("-m", "logger=none", "lr.eta=0.1,0.2", "figures=[figure7]", cwd=tmp_path)
    assert done.returncode == 2 and "did you mean 'figure" in done.stderr
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.slow
def test_a_figure_that_cannot_be_drawn_is_a_failure_in_one_line(tmp_path):
    one = ["observations=random_matrix", "max_iterations=50", "init.scale=0.1", "figures=[figure1]"]
    done = rankward("-m", "logger=none", "lr.eta=0.1,0.2", *one, cwd=tmp_path)
    assert done.returncode == 1 and len(done.stderr.splitlines()) == 1
    assert "no finished run with one entry unobserved" in done.stderr


def test_job_number_replaces_hydras(tmp_path):
    """As `${hydra:job.num}` in any of its overrides: job by job, in a union of grids, and asked for one by one."""
    made = jobs([{"n": [1, 2]}, {"n": 3}], "seed=${hydra:job.num}", "name=x_${hydra:job.id}")
    assert made == [[f"seed={i}", f"name=x_{i}", f"n={i + 1}"] for i in range(3)]
    search = GridSearch({}, [], None)
    search.parser = OverridesParser.create()
    lazy = search.jobs(["seed=${hydra:job.num}", "depth=1,2,3"])
    assert lazy[2] == ["seed=2", "depth='3'"] == lazy[1:][1]
