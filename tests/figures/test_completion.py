"""Figures 2 and 6, of a small sweep trained by the real command line, and what W&B gets of it."""

import json

import numpy as np
import pytest

from helpers.commands import wandb_summary
from helpers.drawn import assert_legends_are_clear, drawn
from helpers.in_process import rankward
from rankward import results
from rankward.figures import draw
from rankward.figures.figure2 import curves


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """Figure 2's own experiment with small tensors and few trials."""
    folder = tmp_path_factory.mktemp("figure2")
    small = ["observations.dims=[4,4,4]", "observations.count=20,50", "seed=range(0,3)"]
    done = rankward("-m", "experiment=figure2_order3", *small, f"hydra.sweep.dir={folder}", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_it_is_drawn_twice_the_same(sweep):
    first = [path.read_bytes() for path in draw("figure2", sweep)]
    assert first == [path.read_bytes() for path in draw("figure2", sweep)]
    svg = first[1].decode()
    for text in (
        "order 3",
        "tf (init 1e-2)",
        "tf (init 1e-3)",
        "linear",
        "reconstruction error",
        "number of observations",
    ):
        assert text in svg
    assert [path.name for path in draw("figure6", sweep)] == ["figure6.png", "figure6.svg", "figure6.pdf"]


@pytest.mark.slow
def test_its_legend_is_on_the_canvas_and_covers_no_data(sweep, monkeypatch):
    assert_legends_are_clear(drawn("figure2", sweep, monkeypatch))


@pytest.mark.slow
def test_its_curves_are_medians_of_the_summaries(sweep):
    table = curves(sweep)
    assert table["method"].unique(maintain_order=True).to_list() == ["tf (init 1e-2)", "tf (init 1e-3)", "linear"]
    summaries = [(results.read_config(f), results.read_summary(f)["metrics"]) for f in results.run_folders(sweep)]
    for row in table.rows(named=True):
        mine = [
            metrics for config, metrics in summaries
            if config["observations"]["count"] == row["observations"]
            and (config["factorization"]["name"] == "linear") == (row["method"] == "linear")
            and (row["method"] == "linear" or f"{config['init']['scale']:.0e}".replace("e-0", "e-") in row["method"])
        ]  # fmt: skip
        assert row["trials"] == len(mine) == 3 and row["order"] == 3
        assert 0 <= row["converged"] <= 3 and (row["converged"] == 3 or row["method"] != "linear")
        for column, name in (
            ("error", "error/reconstruction"),
            ("rank_lower", "rank/cp_lower"),
            ("rank_upper", "rank/cp_upper"),
        ):
            values = [metrics[name] for metrics in mine]
            assert row[f"{column}_median"] == pytest.approx(np.median(values))
            assert row[f"{column}_low"] == pytest.approx(np.quantile(values, 0.25))
            assert row[f"{column}_high"] == pytest.approx(np.quantile(values, 0.75))


@pytest.mark.slow
def test_many_observations_give_back_the_truth_with_its_rank(sweep):
    table = curves(sweep).filter(observations=50)
    found = dict(zip(table["method"], table.select("error_median", "rank_upper_median").rows(), strict=True))
    assert found["tf (init 1e-3)"][0] < 1e-2 and found["tf (init 1e-3)"][1] == 1
    assert found["linear"][0] > 0.2 and found["linear"][1] > 1


@pytest.mark.slow
def test_runs_that_differ_in_trial_share_truth_and_observations(sweep):
    arrays = [results.read_arrays(folder) for folder in results.run_folders(sweep)[:3]]
    for name in ("ground_truth", "observations.mask", "observations.values"):
        np.testing.assert_array_equal(arrays[0][name], arrays[1][name])
    assert not np.array_equal(arrays[0]["initial.0"], arrays[1]["initial.0"])


@pytest.mark.slow
def test_a_summary_run_of_the_group_has_the_curves_and_the_figure(sweep):
    folder, run, read = wandb_summary(sweep)
    assert run["run_group"] == sweep.name
    (logged,) = [record["history"]["item"] for record in read if record["type"] == "history"]
    assert {"table/figure2", "table/runs", "figure/figure2"} <= {key.split(".")[0] for key in logged}
    tables = {
        path.name.split("_")[0]: json.loads(path.read_text()) for path in folder.glob("files/media/table/table/*.json")
    }
    expected = curves(sweep)
    assert tables["figure2"]["columns"] == expected.columns
    assert tables["figure2"]["data"] == json.loads(json.dumps([list(row) for row in expected.rows()]))
    assert len(tables["runs"]["data"]) == len(results.run_folders(sweep))
    (picture,) = folder.glob("files/media/images/figure/*.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert [record["exit"].get("exit_code", 0) for record in read if record["type"] == "exit"] == [0]


def test_nothing_to_draw_is_an_error(tmp_path):
    with pytest.raises(results.ResultsError, match="no runs"):
        draw("figure2", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["figure2", "figure6"])
def test_full_experiment_in_small(tmp_path, name):
    """Both orders' grids, with tensors of order 3 and a few iterations; every count becomes 20."""
    small = ["observations.dims=[3,3,4]", "observations.count=20", "seed=0,1", "max_iterations=100", "logger=none"]
    done = rankward("-m", f"experiment={name}", *small, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = results.gather(tmp_path / "s")
    assert sorted(set(table["observations.name"])) == ["tensor_order3", "tensor_order4"]
    assert set(table["observations.rank"]) == {1 if name == "figure2" else 3}
    assert set(table["factorization.name"]) == {"tensor", "linear"} and set(table["init.scale"]) == {1e-2, 1e-3}
    assert (tmp_path / "s" / "figures" / f"{name}.png").is_file()
