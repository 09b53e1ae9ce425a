"""Chunks that end early because their rows are full: a row at every iteration of a long run."""

import numpy as np

from helpers.runs import trained
from rankward import results


def test_a_row_at_every_iteration_of_a_long_run(tmp_path):
    """A chunk holds some thousand rows, so 26,000 iterations take 26: a length that grew by 8 each time would overflow."""
    every = ["depth='2'", "lr.eta=1e-3", "check_every=1", "record.every=1", "stop_loss=0", "max_iterations=26000"]
    (outcome,) = trained(tmp_path, [*every, "metrics=few"])
    assert outcome.status == "max_iterations"
    assert results.read_trace(tmp_path / "0")["iteration"].to_numpy().tolist() == np.arange(26_001).tolist()
