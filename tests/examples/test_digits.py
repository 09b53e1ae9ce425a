"""The scripts in examples/, started as a user starts them, with few steps."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "convnet", "transformer"])
def test_an_example_leaves_logs_a_table_and_a_figure(name, tmp_path):
    """Both labelings are trained; the last logged ranks are those of the table, and lie within their bounds."""
    command = [sys.executable, EXAMPLES / f"digits_{name}.py", "--seeds", "1", "--steps", "20", "--folder", "."]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    table = pl.read_csv(tmp_path / f"{name}.csv")
    assert table["labels"].to_list() == ["real", "random"] and table["step"].to_list() == [20, 20]
    ranks = table.select(pl.selectors.ends_with("effective", "effective_0", "effective_2"))
    assert len(ranks.columns) == 4 and (ranks.to_numpy() >= 1).all() and (ranks["map/rank/effective_2"] <= 10).all()
    log = pl.read_csv(tmp_path / f"{name}_real" / "version_0" / "metrics.csv")
    column = "map/rank/effective_0"
    assert log.drop_nulls(column)["step"].to_list() == [0, 20]
    assert log[column].drop_nulls()[-1] == table[column][0]
    assert not np.allclose(table[column][0], table[column][1], rtol=1e-9)  # the labels differ, and so do the maps
