"""A sweep read back: runs, traces, curves over seeds."""

import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import polars as pl
import pytest

import rankward
from rankward import results
from rankward.config import InputError
from rankward.results import ResultsError
from rankward.results.curves import at_losses, bands, common_losses


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Two settings of three seeds, one with another column, in which metric = -setting * seed * log10(loss)."""
    folder = tmp_path_factory.mktemp("dims=[3,3]")
    job = 0
    for setting in (1, 2):
        for seed in (1, 2, 3):
            run = folder / str(job)
            loss = np.geomspace(1, 10.0**-seed, 20)
            trace = {"iteration": np.arange(20), "loss": loss, "norm/nuclear": -setting * seed * np.log10(loss)}
            trace |= {"entry/0_0": np.ones(20)} if setting == 2 else {}
            results.write_run(
                run, trace=trace, factors={"a": np.zeros(1)}, summary={"status": "converged", "metrics": {}}
            )
            (run / ".hydra").mkdir()
            (run / ".hydra" / "config.yaml").write_text(f"seed: {seed}\nlr: {{eta: {setting}}}\n")
            (run / ".hydra" / "overrides.yaml").write_text(f"- seed={seed}\n")
            job += 1
    return folder


def test_runs_with_and_without_their_table(sweep):
    loaded = rankward.load(sweep).runs
    assert loaded["lr.eta"].to_list() == [1, 1, 1, 2, 2, 2] and loaded["seed"].to_list() == [1, 2, 3] * 2
    results.write_runs(sweep)
    assert rankward.load(str(sweep)).runs.equals(loaded)


def test_traces_are_lazy_and_complete(sweep):
    traces = rankward.load(sweep).traces()
    assert isinstance(traces, pl.LazyFrame)
    rows = traces.collect()
    assert len(rows) == 120 and set(rows["run"]) == set("012345")
    one = results.read_trace(sweep / "4")
    mine = rows.filter(run="4").sort("iteration")
    assert mine["norm/nuclear"].equals(one["norm/nuclear"]) and mine["entry/0_0"].to_list() == [1.0] * 20
    assert rows.filter(run="0")["entry/0_0"].null_count() == 20


def test_metrics_at_a_loss(sweep):
    """At a loss of 0.05 the metric is setting * seed * log10(20); seed 1 never gets there."""
    made = rankward.load(sweep).at(0.05, "norm/nuclear", "entry/0_0")
    expected = [np.nan if seed == 1 else setting * seed * np.log10(20) for setting in (1, 2) for seed in (1, 2, 3)]
    np.testing.assert_allclose(made["norm/nuclear at 0.05"], expected, rtol=1e-12)
    np.testing.assert_array_equal(made["entry/0_0 at 0.05"], [np.nan] * 4 + [1, 1])  # the first setting has none
    assert made.drop("norm/nuclear at 0.05", "entry/0_0 at 0.05").equals(rankward.load(sweep).runs)
    with pytest.raises(ResultsError, match="'norm/nuclaer' in its traces .did you mean 'norm/nuclear'"):
        rankward.load(sweep).at(0.05, "norm/nuclaer")
    with pytest.raises(ValueError, match="positive"):
        rankward.load(sweep).at(0, "norm/nuclear")


def test_load_with_default_arguments(sweep):
    loaded = rankward.load(sweep)
    assert repr(loaded) == f"Sweep({str(sweep)!r}, 6 runs)"
    assert loaded.curves("norm/nuclear", by="lr.eta").equals(loaded.curves("norm/nuclear", by=["lr.eta"]))
    assert len(loaded.plot("norm/nuclear", by="seed").lines) == 3
    with pytest.raises(ResultsError, match="'lr.etta' in its runs .did you mean 'lr.eta'"):
        loaded.curves("norm/nuclear", by="lr.etta")


def test_plots_have_their_lines_panels_and_cells(sweep):
    """The runs have no last values here, so that some are added."""
    loaded = rankward.load(sweep)
    panels = loaded.plot("norm/nuclear", by="seed", x="iteration", facet="lr.eta")
    assert [len(panel.lines) for panel in panels] == [3, 3] and panels[1].get_title() == "lr.eta 2"
    x, y = panels[1].lines[2].get_data()
    rows = results.read_trace(sweep / "5")
    np.testing.assert_array_equal(x, np.arange(20))
    np.testing.assert_allclose(y, rows["norm/nuclear"])
    loaded.__dict__["runs"] = loaded.runs.with_columns(pl.Series("metric", [1, 4, 9, 2, 8, 18]))
    axis = loaded.plot("metric", x="lr.eta")
    np.testing.assert_allclose(axis.lines[0].get_data(), [[1, 2], [4, 8]])
    axis = loaded.heat("metric", rows="lr.eta", columns="seed")
    np.testing.assert_allclose(axis.images[0].get_array(), [[1, 4, 9], [2, 8, 18]])
    assert axis.get_xlabel() == "seed" and axis.images[0].cmap.name == "viridis"
    loaded.__dict__["runs"] = loaded.runs.with_columns(pl.Series("entry/0_0", [-3.0, 1, np.nan, 2, None, -1]))
    signed = loaded.heat("entry/0_0", rows="lr.eta", columns="seed", absolute=False)
    np.testing.assert_array_equal(signed.images[0].get_array().filled(np.nan), [[-3, 1, np.nan], [2, np.nan, -1]])
    assert signed.images[0].get_clim() == (-3, 3) and [text.get_text() for text in signed.texts] == [
        "-3",
        "1",
        "2",
        "-1",
    ]
    assert loaded.heat("entry/0_0", rows="lr.eta", columns="seed").images[0].get_array()[0, 0] == 3
    with pytest.raises(ResultsError, match="'lr.etta' in its runs"):
        loaded.heat("metric", rows="lr.etta", columns="seed")
    with pytest.raises(ValueError, match="'overrides' is not a column of numbers"):
        loaded.plot("metric", x="overrides")
    with pytest.raises(ValueError, match="one axis does not have the panels of facet"):
        loaded.plot("norm/nuclear", facet="seed", axis=axis)
    plt.close("all")


def test_one_run_of_a_sweep(sweep, monkeypatch):
    run = rankward.load(sweep).run(4)
    assert run.trace.equals(results.read_trace(sweep / "4")) and run.config["seed"] == 2
    x, y = run.plot("entry/0_0", x="loss").lines[0].get_data()
    np.testing.assert_array_equal((x, y), (run.trace["loss"], run.trace["entry/0_0"]))
    plt.close("all")
    with pytest.raises(ResultsError, match="no trajectory.safetensors: the run was made without record.product=true"):
        run.products  # noqa: B018
    with pytest.raises(ResultsError, match="no run '6'"):
        rankward.load(sweep).run("6")
    assert list(run.to_pandas().columns) == run.trace.columns and len(rankward.load(sweep).to_pandas()) == 6
    monkeypatch.setitem(sys.modules, "pyarrow", None)  # as where it is not installed
    for made in (run, rankward.load(sweep)):
        with pytest.raises(InputError, match=r"to_pandas\(\) needs pyarrow .*: pip install 'rankward\[pandas\]'"):
            made.to_pandas()


def test_curves_are_medians_at_common_losses(sweep):
    """All of a setting have passed 0.1, seed 1's last loss; there seeds' values are setting * seed."""
    table = rankward.load(sweep).curves("norm/nuclear", by=["lr.eta"], points=11)
    for (setting,), part in table.group_by("lr.eta"):
        last = part.sort("loss").row(0, named=True)
        assert last["loss"] == pytest.approx(0.1) and last["runs"] == 3
        assert [last[name] for name in ("low", "median", "high")] == pytest.approx(
            [1.5 * setting, 2 * setting, 2.5 * setting]
        )
    assert rankward.load(sweep).curves("entry/0_0").row(0, named=True)["runs"] == 3


def test_plots_have_a_line_a_group(sweep):
    axis = rankward.load(sweep).plot("norm/nuclear", by=["lr.eta"])
    assert [line.get_label() for line in axis.lines] == ["lr.eta 1", "lr.eta 2"] and axis.xaxis.get_inverted()


def test_missing_results_are_errors(sweep, tmp_path):
    for call in (
        lambda: rankward.load(tmp_path / "nowhere"),
        lambda: rankward.load(tmp_path).runs,
        lambda: rankward.load(tmp_path).traces(),
        lambda: rankward.load(sweep).curves("norm/none"),
        lambda: rankward.load(sweep).curves("norm/nuclear", by=["no.key"]),
        lambda: rankward.load(sweep).plot("norm/none"),
        lambda: rankward.load(sweep).plot("norm/nuclear", by=["no.key"]),
    ):
        figures = plt.get_fignums()
        with pytest.raises(results.ResultsError):
            call()
        assert plt.get_fignums() == figures  # no empty one is left
    with pytest.raises(AttributeError, match="nothing"):
        _ = rankward.nothing


def test_losses_that_rise_or_are_not_finite():
    loss, value = np.array([1.0, 2.0, 0.1, 0.5, np.nan, 0.01]), np.array([0.0, 9.0, 1.0, 9.0, 9.0, 2.0])
    grid = np.array([1.0, 0.1, 10**-1.5, 0.01, 0.001])
    np.testing.assert_allclose(at_losses(loss, value, grid), [0, 1, 1.5, 2, np.nan])
    with pytest.raises(ValueError, match="in common"):
        common_losses([(np.array([1.0, 0.5]), np.zeros(2)), (np.array([0.1, 0.01]), np.zeros(2))])
    with pytest.raises(ValueError, match="no curve"):
        bands([])


@pytest.mark.slow
def test_the_example_of_the_docs_runs(tmp_path):
    command = [
        sys.executable,
        "-m",
        "rankward",
        "-m",
        "depth=2,3",
        "init=balanced",
        "init.determinant=positive",
        "seed=0,1",
    ]
    more = ["logger=none", "stop_loss=1e-2", "lr.eta=0.05", "init.scale=1e-2", "hydra.sweep.dir=s"]
    subprocess.run([*command, *more], cwd=tmp_path, check=True, capture_output=True)
    script = Path(__file__).parents[2] / "docs" / "reading_a_sweep.py"
    done = subprocess.run([sys.executable, str(script), "s"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "s" / "effective_rank.png").is_file() and "median" in done.stdout
