"""A run of flow in singular coordinates from the command line: verdicts in all rows, and its files."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

from helpers.commands import rankward

FLOW = (
    "lr=flow", "lr.coordinates=singular", "init=balanced", "init.determinant=positive", "init.scale=1e-3",
    "logger=none",
)  # fmt: skip


@pytest.mark.slow
def test_theorem_1_holds_in_all_rows_at_depth_2_and_the_layers_are_balanced(tmp_path):
    rankward(*FLOW, "depth=2", "hydra.run.dir=run", cwd=tmp_path)
    summary = json.loads((tmp_path / "run/summary.json").read_text(encoding="utf-8"))
    assert summary["status"] == "converged"
    found = {name: each for name, each in summary["certificates"].items() if name.startswith(("theorem", "corollary"))}
    assert not [name for name, each in found.items() if "until" in each or each["verdict"] == "violated"]
    assert found["theorem_1/norm/nuclear"]["verdict"] == found["theorem_2/entry/0_0"]["verdict"] == "holds"
    assert summary["metrics"]["determinant/sign"] == 1
    assert summary["metrics"]["determinant/log_abs"] == pytest.approx(-2529.9172, abs=1e-3)  # SciPy's Radau, rtol 1e-11
    assert found["corollary_1/rank/effective"]["verdict"] == "holds"
    arrays = load_file(tmp_path / "run/factors.safetensors")
    first, second = arrays["final.0"], arrays["final.1"]
    np.testing.assert_allclose(second @ first, arrays["product"], rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(second.T @ second, first @ first.T, rtol=1e-12, atol=1e-12)
    assert arrays["final.log_singular_values"].sum() == summary["metrics"]["determinant/log_abs"]
