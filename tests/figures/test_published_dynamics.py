"""Experiments on how components move, in small: counts of rises, and the order in which runs end, are the published ones."""

import numpy as np
import polars as pl
import pytest

from helpers.commands import rankward
from helpers.drawn import assert_legends_are_clear, drawn
from rankward import results
from rankward.figures import deep_completion, draw, dynamics_matrix

NORMS = {"matrix": "singular_value/", "tensor": "cp_weight/", "hierarchical": "local_component/root/"}


def swept(folder, *arguments):
    done = rankward("-m", *arguments, "logger=none", f"hydra.sweep.dir={folder}/s", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "s", done.stdout


def rises(folder, share=0.02):
    """The iterations at which the largest components of a run first have half of their last norm, in order.

    Counted are norms that end at `share` of the largest, or more.
    """
    trace = results.read_trace(folder)
    prefix = NORMS[results.read_config(folder)["factorization"]["name"]]
    norms = [trace[name].to_numpy() for name in trace.columns if name.startswith(prefix)]
    last = max(norm[-1] for norm in norms)
    return [int(trace["iteration"][int((norm >= norm[-1] / 2).argmax())]) for norm in norms if norm[-1] >= share * last]


@pytest.mark.slow
def test_components_rise_one_after_another_in_three_factorizations(tmp_path):
    sweep, _ = swept(tmp_path, "experiment=incremental_small")
    for folder, count in zip(results.run_folders(sweep), (3, 5, 5), strict=True):
        found = rises(folder)
        assert len(found) == count and (np.diff(found) > 100).all(), found
        assert results.read_trace(folder)["error/reconstruction_relative"][-1] < 0.05


@pytest.mark.slow
def test_the_smaller_the_start_the_lower_the_end_and_only_small_ones_have_a_staircase(tmp_path):
    small = [
        "observations.dims=[6,6,6,6]", "observations.count=600", "observations.seed=2", "factorization.components=60",
        "lr.eta=5e-3", "stop_loss=1e-7", "init.scale=1e-2,2e-2,1e-1",
    ]  # fmt: skip
    sweep, _ = swept(tmp_path, "experiment=incremental_starts", *small)
    first, second, third = results.run_folders(sweep)
    errors = [results.read_trace(each)["error/reconstruction"][-1] for each in (first, second, third)]
    assert max(errors[:2]) < 0.02 < errors[2]
    assert len(rises(first)) == len(rises(second)) == 5 < len(rises(third))
    assert (np.diff(rises(first)) > 200).all() and np.diff(rises(third)[:5]).min() < 200


@pytest.fixture(scope="module")
def dynamics(tmp_path_factory):
    small = [
        "observations.dims=[12,12]",
        "observations.rank=2",
        "observations.count=90",
        "lr.eta=5e-3",
        "engine=reference",
    ]
    return swept(tmp_path_factory.mktemp("dynamics"), "experiment=dynamics_matrix", *small, "init.scale=1e-2")


@pytest.mark.slow
def test_depth_separates_singular_values_and_the_gradient_stays_nearly_diagonal(dynamics, monkeypatch):
    sweep, printed = dynamics
    table = dynamics_matrix.curves(sweep)
    assert table["depth"].unique().to_list() == [1, 2, 3] and printed.count("where the loss has halved") == 3
    ends = {depth: rows.row(-1, named=True) for (depth,), rows in table.group_by("depth", maintain_order=True)}
    gaps = [ends[depth]["singular_value/1"] / ends[depth]["singular_value/2"] for depth in (1, 2, 3)]
    assert gaps[0] < 2 < gaps[1] < gaps[2]
    late = table.filter(pl.col("iteration") > 0, pl.col("loss") > 1e-2)
    means = late.group_by("depth").agg(pl.col("alignment/off_diagonal_mean", "alignment/diagonal_mean").mean())
    assert (means["alignment/off_diagonal_mean"] < 0.35 * means["alignment/diagonal_mean"]).all()
    assert_legends_are_clear(drawn("dynamics_matrix", sweep, monkeypatch))


@pytest.mark.slow
def test_errors_of_deep_completions_are_mean_squares_beside_the_least_nuclear_norm(tmp_path, monkeypatch):
    small = [
        "observations.dims=[10,10]", "observations.rank=1", "init.scale=1e-3", "lr.eta=1e-2", "lr.eps=1e-3",
        "stop_loss=1e-3", "engine=reference", "hydra.sweeper.grids=[{observations.count: [45, 70], depth: [2, 3]}]",
    ]  # fmt: skip
    sweep, printed = swept(tmp_path, "experiment=deep_completion", *small)
    table, runs = deep_completion.curves(sweep), results.gather(sweep)
    assert table["method"].to_list() == ["depth 2", "depth 3", deep_completion.LEAST] * 2
    for row in table.filter(pl.col("start").is_not_null()).rows(named=True):
        (own,) = runs.filter(
            pl.col("depth.layers") == int(row["method"][-1]), pl.col("observations.count") == row["observations"]
        ).rows(named=True)
        arrays = results.read_arrays(sweep / own["run"])
        assert row["error_median"] == pytest.approx(
            np.mean((arrays["product"] - arrays["ground_truth"]) ** 2), rel=1e-3
        )
        assert row["start"] == pytest.approx(1e-2)
    least = table.filter(pl.col("start").is_null())
    assert (least["norm_median"] <= table["norm_median"].max()).all()
    assert "45 entries, depth 2: mean squared error" in printed and "Arora" not in printed
    assert_legends_are_clear(drawn("deep_completion", sweep, monkeypatch))


def test_figures_of_dynamics_without_data_are_refused(tmp_path):
    (tmp_path / "s").mkdir()
    for name in ("dynamics_matrix", "deep_completion"):
        with pytest.raises(results.ResultsError, match=f"cannot draw {name}|no run|not a sweep"):
            draw(name, tmp_path / "s")
