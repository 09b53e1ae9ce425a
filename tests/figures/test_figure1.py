"""Figure 1 from result files: real runs, gaps, and the same bytes twice."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from rankward import results
from rankward.config import ConfigError
from rankward.figures import draw, figure1, names
from rankward.theory import robustness_bound


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The experiment itself, coarse: its learning rate and start are larger."""
    folder = tmp_path_factory.mktemp("sweep")
    coarse = ["lr.eta=0.05", "init.scale=1e-3", "stop_loss=1e-3", "logger=none", "hydra.sweep.dir=sweep"]
    command = [sys.executable, "-m", "rankward", "-m", "experiment=figure1", *coarse]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert "figures/figure1.png" in done.stdout
    return folder / "sweep"


def test_it_draws_both_pictures_the_same_way_twice(sweep):
    first = [path.read_bytes() for path in draw("figure1", sweep)]
    assert first == [path.read_bytes() for path in draw("figure1", sweep)]
    assert first[0].startswith(b"\x89PNG") and b"<svg" in first[1]
    svg = first[1].decode()
    for text in ("depth 2", "depth 3", "depth 4", "lr: 5e-2, init: 1e-3 (b)", "what the determinant"):
        assert text in svg


def test_its_curves_are_the_traces(sweep):
    folder = results.run_folders(sweep)[1]
    curve, trace = figure1._curve(folder), results.read_trace(folder)
    np.testing.assert_array_equal(curve.entry[-1], abs(trace["entry/0_0"][-1]))
    assert curve.depth == 2 and curve.values == (1.0, 1.0, 0.0)


def test_no_run_that_keeps_its_sign_is_below_the_bound(sweep):
    seen = 0
    for folder in results.run_folders(sweep):
        curve = figure1._curve(folder)
        bound = robustness_bound(curve.loss[curve.kept])
        applies = np.isfinite(bound)
        seen += applies.sum()
        assert (curve.entry[curve.kept][applies] >= bound[applies] * (1 - 1e-9)).all()
    assert seen > 50


def test_runs_that_are_missing_are_left_out(sweep, tmp_path):
    copy = shutil.copytree(sweep, tmp_path / "copy")
    for folder in results.run_folders(copy)[1:]:
        (folder / "summary.json").unlink()
    assert len(draw("figure1", copy)) == 2
    (copy / "0" / "summary.json").unlink()
    with pytest.raises(results.ResultsError, match="no finished"):
        draw("figure1", copy)


def test_a_figure_that_is_not_there(tmp_path):
    assert "figure1" in names()
    with pytest.raises(ConfigError, match="did you mean 'figure1'"):
        draw("figure", tmp_path)
