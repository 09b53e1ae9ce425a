"""Claims of docs/reference/files.md: names of arrays, of a summary's keys and of files, compared with trained runs."""

import json
import re
from pathlib import Path

import pytest
from safetensors import safe_open

from helpers.runs import QUICK, trained

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "files.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"`([^`\n]+)`", PAGE))
MATRIX = [
    "observations=random_matrix",
    "observations.dims=[2,2]",
    "observations.rank=1",
    "observations.count=3",
    "engine=reference",
    "max_iterations=100",
]
SENSING = [
    "observations=sensing",
    "observations.dims=[2,2]",
    "observations.count=3",
    "engine=reference",
    "max_iterations=100",
]


@pytest.mark.parametrize(
    "overrides", [MATRIX, SENSING, [*MATRIX, "observations.holdout=1"]], ids=["entries", "sensing", "held out"]
)
def test_arrays_and_summary_keys_are_listed(tmp_path, overrides):
    trained(tmp_path, [*QUICK, *overrides])
    with safe_open(tmp_path / "0" / "factors.safetensors", "np") as arrays:
        names = list(arrays.keys())
    assert {"initial.0", "initial.1", "final.0", "final.1", "product", "ground_truth"} < set(names) <= NAMED
    assert set(json.loads((tmp_path / "0" / "summary.json").read_text(encoding="utf-8"))) <= NAMED
    assert {path.name for path in (tmp_path / "0").iterdir()} - {".hydra"} <= NAMED
