"""The phase diagram's experiment in small."""

import numpy as np
import pytest

from helpers.in_process import rankward
from rankward import results
from rankward.figures import draw
from rankward.figures.phase_diagram import curves, grid


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    folder = tmp_path_factory.mktemp("phases")
    coarse = ["depth=2,3", "lr.eta=geomspace(1e-2,10,3)", "init.scale=geomspace(1e-3,0.1,2)", "max_iterations=2000"]
    done = rankward("-m", "experiment=phase_diagram", *coarse, "hydra.sweep.dir=s", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "s"


@pytest.mark.slow
def test_cells_are_the_runs(sweep):
    table, runs = curves(sweep), results.gather(sweep)
    assert len(table) == len(runs) == 12
    for row in table.rows(named=True):
        (run,) = runs.filter(
            (runs["depth.layers"] == row["depth.layers"])
            & (runs["lr.eta"] == row["lr.eta"])
            & (runs["init.scale"] == row["init.scale"])
        ).rows(named=True)
        if run["status"] == "diverged":
            assert row["entry"] is None and row["diverged"] == 1
        else:
            assert row["entry"] == abs(run["entry/0_0"]) and row["iterations"] == run["iterations"]
    assert "diverged" in set(runs["status"])
    part = table.filter(table["depth.layers"] == 2)
    rates, inits, values = grid(part, "entry")
    assert (
        np.array_equal(rates, sorted(set(runs["lr.eta"]))) and values.shape == (2, 3) and np.isnan(values[:, 2]).all()
    )
    first = part.row(0, named=True)
    assert values[list(inits).index(first["init.scale"]), list(rates).index(first["lr.eta"])] == first["entry"]


@pytest.mark.slow
def test_it_is_drawn(sweep, tmp_path):
    assert [path.name for path in draw("phase_diagram", sweep)] == [
        f"phase_diagram.{kind}" for kind in ("png", "svg", "pdf")
    ]
    with pytest.raises(results.ResultsError):
        draw("phase_diagram", tmp_path)
