"""Escape times and incremental learning in small, by the real command line, and their figures."""

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from helpers.drawn import assert_legends_are_clear, drawn
from helpers.in_process import assert_refused, command_line, rankward
from helpers.runs import composed
from rankward import results
from rankward.figures import draw, escape_times, incremental
from rankward.figures._runs import Files, LeftOut
from rankward.theory.stages import Stages
from rankward.training.ensemble import Ensemble


@pytest.fixture(scope="module")
def escapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("escapes")
    grids = "[{observations.dims: ['[3,3]'], observations.count: [9], init.scale: [0.05, 0.01581, 0.005, 0.001581]}, "
    grids += (
        "{observations.dims: ['[3,3,3]'], observations.count: [27], init.scale: [0.1, 0.05, 0.02, 0.01], seed: [0,1]}]"
    )
    small = [f"hydra.sweeper.grids={grids}", "figures=[escape_times,incremental]", f"hydra.sweep.dir={folder}/s"]
    done = rankward("-m", "experiment=escape_times", *small, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "s", done.stdout


@pytest.mark.slow
def test_escape_times_follow_the_law(escapes, monkeypatch):
    sweep, printed = escapes
    table = escape_times.curves(sweep)
    found = escape_times.laws(table)
    assert [(order, seed) for order, seed, _ in found] == [(2, 0), (3, 0), (3, 1)]
    for order, _, law in found:
        assert law.exponent == pytest.approx(1 - 2 / order, abs=0.03)
    assert "order 3, seed 1: a = 0.3" in printed and "1 - 2/3 = 0.3333" in printed
    for folder in results.run_folders(sweep):
        verdicts = results.read_summary(folder)["certificates"]
        assert {verdict["verdict"] for verdict in verdicts.values()} == {"holds"}
        trace = results.read_trace(folder)
        half = trace["cp_weight/0"].max() / 2
        after = trace.filter(pl.col("cp_weight/0") >= half)["time"][0]
        assert after * 0.9 < table.filter(pl.col("run") == folder.name)["time"][0] <= after
    assert_legends_are_clear(drawn("escape_times", sweep, monkeypatch))


@pytest.mark.slow
def test_stages_reach_the_summary_the_tables_and_the_figure(escapes, monkeypatch):
    sweep, printed = escapes
    runs = pl.read_parquet(sweep / "runs.parquet")
    assert set(runs["rank/stages"]) == {1.0} and "rank/stages" in printed
    summary = json.loads((sweep / "0" / "summary.json").read_text(encoding="utf-8"))
    (rise,) = summary["stages"]["rises"]
    trace = results.read_trace(sweep / "0").filter(pl.col("iteration") <= rise)["cp_weight/0"]
    assert trace[-1] >= runs["cp_weight/0"][0] * 0.49 > trace[-2] and summary["stages"]["maybe_more"]
    shown, left_out = incremental.panels(sweep)
    assert len(shown) == 8 and len(left_out) == 4 and all(line.endswith("another seed") for line in left_out)
    assert_legends_are_clear(drawn("incremental", sweep, monkeypatch))
    svg = (sweep / "figures" / "incremental.svg").read_text(encoding="utf-8")
    assert "and 4 more settings" in svg and "init.scale=0.05" in svg


def made(name, dims, norms):
    iteration = np.arange(0, 1000, 100)
    columns = {f"{name}/{r}": norm for r, norm in enumerate(norms)}
    error = np.linspace(1, 0.1, 10)
    trace = pl.DataFrame({"iteration": iteration, "loss": error, **columns, "error/reconstruction": error})
    kind = {"singular_value": "matrix", "cp_weight": "tensor"}.get(name, "hierarchical")
    return Files({"product": np.zeros(dims)}, trace, {"factorization": {"name": kind}, "depth": {"layers": 3}})


def test_panels_name_what_they_show():
    rising = np.linspace(0, 1, 10)
    matrix = incremental.panel_of(made("singular_value", (2, 2), [rising, rising / 50]), ("depth=3", "init.scale=0.1"))
    other = incremental.panel_of(made("singular_value", (2, 2), [rising]), ("depth=3", "init.scale=0.2"))
    node = incremental.panel_of(made("local_component/0_1", (2, 2, 2), [rising]))
    assert incremental.titles([matrix, other, node]) == [
        "matrix, depth 3\ninit.scale=0.1",
        "matrix, depth 3\ninit.scale=0.2",
        "hierarchical, order 3: modes 0, 1",
    ]
    assert matrix.names == ("singular value", "error") and matrix.stages.rises == (500,)
    with pytest.raises(LeftOut, match="no norms of components"):
        incremental.panel_of(made("entry", (2, 2), [rising]))
    with pytest.raises(LeftOut, match="no finite row"):
        incremental.panel_of(made("cp_weight", (2, 2), [rising * np.nan]))


def test_a_last_plateau_takes_half_of_the_axis():
    panel = incremental.panel_of(made("cp_weight", (2, 2), [np.linspace(0, 1, 10)]))
    ends = {(): 900, ((0, 200),): 900, ((200, 900),): 900, ((0, 100), (100, 900)): 900}
    for plateaus, end in ends.items():
        assert incremental._end(replace(panel, stages=Stages((500,), plateaus, False))) == end
    assert incremental._end(replace(panel, stages=Stages((100,), ((200, 900),), False))) == 400


def test_no_figure_without_components(tmp_path):
    for name in ("incremental", "escape_times"):
        with pytest.raises(results.ResultsError, match=f"cannot draw {name}"):
            draw(name, tmp_path)


def test_motion_is_measured_of_the_factors_that_a_run_has(tmp_path):
    tensor = ["factorization=tensor", "observations=tensor_order3", "observations.dims=[2,2,2]", "observations.count=6"]
    for overrides, own in (
        (["depth='2'"], "singular_value_motion"),
        (tensor, "component_motion"),
        ([tensor[0].replace("tensor", "hierarchical"), *tensor[1:]], "local_component_motion"),
    ):
        run, _ = composed("metrics=motion", *overrides)
        metrics, left_out = Ensemble.of([run]).metrics()
        assert {name for name in metrics if name.endswith("_motion")} == {own}
        assert sum(name.endswith("_motion") for name in left_out) == 2
    assert_refused(
        command_line("metrics=motion", "metrics.columns.component_motion.largest=0", *tensor, cwd=tmp_path),
        "metrics.columns.component_motion",
        "largest: 0",
    )
