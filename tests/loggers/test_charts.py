"""What W&B shows of a sweep: charts of the summary run, read back from an offline run, and the workspace."""

import json
import os
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from helpers import commands
from helpers.commands import TENSOR, wandb_summary
from helpers.in_process import rankward
from rankward import load
from rankward.loggers.charts import charts
from rankward.loggers.workspace import sections, workspace
from rankward.results import ResultsError

SWEEP = [
    "-m",
    "depth=3",
    "init=balanced",
    "init.scale=1e-3",
    "init.determinant=positive",
    "lr.eta=1e-2,2e-2",
    "seed=0,1",
]
SWEEP += ["max_iterations=1000000", "hydra.sweep.dir=sweep"]


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("charts")
    done = rankward(*SWEEP, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "sweep"


def test_a_metric_and_its_bound_are_medians_over_seeds(sweep):
    made = charts(load(sweep))
    assert {"norm/nuclear", "rank/effective", "entry/0_0"} <= set(made) and "singular_value/0" not in made
    lines = made["norm/nuclear"].lines
    assert list(lines) == [f"lr.eta {eta}{bound}" for bound in ("", " (bound)") for eta in (0.01, 0.02)]
    curves = load(sweep).curves("norm/nuclear", ["lr.eta"], points=60).filter(pl.col("lr.eta") == 0.01)
    x, y = lines["lr.eta 0.01"]
    np.testing.assert_allclose(x, -np.log10(curves["loss"]))
    np.testing.assert_allclose(10.0 ** np.array(y), curves["median"])
    bound = lines["lr.eta 0.01 (bound)"]
    assert np.all(np.interp(bound[0], x, y) >= bound[1]) and len(bound[1]) > 5  # Theorem 1
    raw = load(sweep).curves("bound/norm/nuclear", ["lr.eta"], points=60)["median"]
    assert raw.min() < 0 and len(bound[1]) < 60  # where it says nothing it is not drawn
    assert made["norm/nuclear"].title == "log10 norm/nuclear by loss"
    assert made["entry/0_0"].title == "log10 |entry/0_0| by loss"
    assert made["rank/effective"].title == "rank/effective by loss"  # between 1 and 2: no logarithm


def test_the_summary_run_holds_the_charts_and_the_command(sweep):
    folder, run, read = wandb_summary(sweep)
    assert run["config"]["update"]["command"] == f"rankward {' '.join(SWEEP[:-1])}"
    (logged,) = [record["history"]["item"] for record in read if record["type"] == "history"]
    made = charts(load(sweep))
    tables = {f"chart/{metric}_table" for metric in made} | {"table/runs", "table/settings"}
    assert tables <= {key.partition("._type")[0] for key in logged}
    (stored,) = folder.glob("files/media/table/chart/norm/nuclear_table*.json")
    table = json.loads(stored.read_text())
    rows = {name: [row for row in table["data"] if name in row] for name in made["norm/nuclear"].lines}
    for name, (x, y) in made["norm/nuclear"].lines.items():
        numbers = [sorted(value for value in row if isinstance(value, float)) for row in rows[name]]
        np.testing.assert_allclose(
            np.sort(numbers, axis=0), np.sort([sorted(pair) for pair in zip(x, y, strict=True)], axis=0)
        )


SHARED = """
import os, subprocess, sys
import wandb
wandb.init(mode="offline", dir=".").finish()
assert os.environ["WANDB_SERVICE"]
raise SystemExit(subprocess.run([sys.executable, "-m", "rankward", *sys.argv[2:]], cwd=sys.argv[1]).returncode)
"""


@pytest.mark.slow
def test_wandb_service_in_another_working_directory_writes_to_the_run(tmp_path):
    (tmp_path / "there").mkdir()
    command = [sys.executable, "-c", SHARED, "there", "-m", "depth=2", "max_iterations=100", "hydra.sweep.dir=sweep"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    wandb_summary(tmp_path / "there" / "sweep")
    assert len(list((tmp_path / "there" / "sweep" / "wandb").glob("offline-run-*/run-*.wandb"))) == 2


def test_without_common_losses_or_with_too_many_settings_there_is_no_chart(sweep, monkeypatch):
    monkeypatch.setattr("rankward.loggers.charts.MOST_LINES", 2)
    assert charts(load(sweep)) == {}
    monkeypatch.setattr("rankward.loggers.charts.MOST_RUNS", 3)
    assert charts(load(sweep)) == {}


def test_diverged_run_does_not_remove_the_lines_of_others(tmp_path):
    done = rankward(
        "-m", "depth=2", "lr.eta=1e-2,50", "max_iterations=2000", "logger=none", "hydra.sweep.dir=s", cwd=tmp_path
    )
    assert done.returncode == 0
    lines = charts(load(tmp_path / "s"))["norm/nuclear"].lines
    assert next(iter(lines)) == "lr.eta 0.01" and np.isfinite(lines["lr.eta 0.01"]).all()


@pytest.mark.slow
def test_read_only_home_is_not_needed(tmp_path):
    """The table is an artifact, which W&B stages: `wandb sync` needs it later, so it stays beside the runs."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "WANDB_"))}
    home = kept | {"HOME": "/dev/null/home"}
    done = commands.rankward(
        "-m", "seed=0,1", "depth=2", "max_iterations=50", "hydra.sweep.dir=s", cwd=tmp_path, env=home
    )
    assert done.returncode == 0 and done.stderr == "", done.stderr
    _, run, records = wandb_summary(tmp_path / "s")
    assert run["job_type"] == "summary" and any(record["type"] == "history" for record in records)
    assert (tmp_path / "s" / "wandb" / "artifacts" / "staging").is_dir()


@pytest.mark.slow
def test_tensors_are_drawn_by_their_reconstruction(tmp_path):
    task = [name for name in TENSOR if name != "logger=none"]
    done = rankward(
        "-m", *task, "observations.count=30", "seed=0,1", "max_iterations=500", "hydra.sweep.dir=s", cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    made = charts(load(tmp_path / "s"))
    assert list(made) == ["error/reconstruction"] and list(made["error/reconstruction"].lines) == ["median"]


def test_the_workspace_has_a_chart_for_each_metric_with_its_bound(sweep):
    spaces = pytest.importorskip("wandb_workspaces.workspaces")
    made = workspace(sweep, "somebody")
    assert isinstance(made, spaces.Workspace)
    assert (made.entity, made.project, made.name) == ("somebody", "rankward", "Rankward: sweep")
    columns = load(sweep).traces().collect_schema().names()
    assert [section.name for section in made.sections][:3] == ["loss", "entry", "norm"]
    model = made._to_model().model_dump_json(by_alias=True)  # what would be sent
    panels = [panel for section in made.sections for panel in section.panels]
    assert {name for panel in panels for name in panel.y} == {*columns} - {"iteration", "run"}
    assert all(name in model for panel in panels for name in panel.y)
    nuclear = [panel for panel in panels if "norm/nuclear" in panel.y]
    assert [(panel.x, panel.y, panel.log_y) for panel in nuclear] == [
        (axis, ["norm/nuclear", "bound/norm/nuclear"], True) for axis in ("loss", "iteration")
    ]
    assert not next(panel for panel in panels if "rank/effective" in panel.y).log_y


def test_workspace_command_lists_sections_and_refuses_in_a_line(sweep, tmp_path):
    told = rankward("workspace", "sweep", "--entity", "somebody", "--dry-run", cwd=sweep.parent)
    assert told.returncode == 0 and "rank (by loss and iteration): rank/effective with its bound" in told.stdout
    key = {"WANDB_API_KEY": "", "HOME": str(tmp_path), "PATH": "", "WANDB_MODE": "offline"}
    refused = commands.rankward("workspace", "sweep", "--entity", "somebody", cwd=sweep.parent, env=key)
    assert refused.returncode == 1 and refused.stdout == ""
    assert refused.stderr.startswith("rankward: workspace: W&B has not taken it: ") and refused.stderr.count("\n") == 1
    silent = rankward("-m", "depth=2", "max_iterations=50", "logger=none", "hydra.sweep.dir=s", cwd=tmp_path)
    assert silent.returncode == 0
    refused = rankward("workspace", "s", "--entity", "somebody", cwd=tmp_path)
    assert refused.returncode == 2 and "expected a sweep that logged to W&B (logger=wandb)" in refused.stderr
    with pytest.raises(ResultsError):
        workspace(tmp_path / "nowhere", "somebody")


def test_sections_follow_the_names_of_metrics():
    shown = sections(["iteration", "loss", "time", "mine/trace", "rank/effective", "entry/0_0", "run"])
    assert list(shown) == ["loss", "entry", "rank", "mine"]
    assert shown["mine"] == [(f"mine/trace by {axis}", axis, ["mine/trace"]) for axis in ("loss", "iteration")]
