"""The experiment on critical periods: its figure, and the experiment in small."""

import pytest

from helpers.in_process import rankward
from rankward import results
from rankward.figures import critical_periods, draw


def test_a_figure_without_runs_is_refused(tmp_path):
    with pytest.raises(results.ResultsError, match="cannot (draw|read)"):
        draw("critical_periods", tmp_path)


@pytest.mark.slow
def test_a_late_change_leaves_a_matrix_of_too_high_rank(tmp_path):
    small = [
        "observations.dims=[12,12]",
        "observations.rank=1",
        "observations.schedule.rank=3",
        "observations.count=80",
    ]
    swept = ["depth=3", "observations.schedule.until=0,4000", "max_iterations=4000", "lr.eta=5e-3", "logger=none"]
    folder = tmp_path / "s"
    done = rankward("-m", "experiment=critical_periods", *small, *swept, f"hydra.sweep.dir={folder}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = critical_periods.curves(folder)
    early, late = table.rows(named=True)
    assert (early["until"], late["until"], early["trials"]) == (0, 4000, 3)
    assert early["error_median"] < 0.1 < late["error_median"] and early["rank_median"] < late["rank_median"]
    assert "depth 3: after a change at 0: relative error" in done.stdout
    assert (folder / "figures" / "critical_periods.png").is_file()
