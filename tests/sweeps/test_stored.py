"""Sweeps that an earlier version left can be read, reported, asked for their status and resumed.

`tests/data/sweeps_0.1.0.tar.xz` was made at commit 777c5f7 by the command line `SWEEP`. It holds two sweeps:

- `folders`: interrupted in the third chunk. Run 1 had converged; runs 0 and 2 share a checkpoint at 500 iterations.
- `table`: the same runs, complete, made with `results=table`.
"""

import tarfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from helpers.in_process import command_line
from rankward import results
from rankward.results.contract import FACTORS
from rankward.results.load import load

STORED = Path(__file__).parent.parent / "data" / "sweeps_0.1.0.tar.xz"
SWEEP = ["-m", "depth=2", "init=balanced", "init.determinant=positive", "init.scale=1e-2", "lr.eta=0.05,0.1,2e-6"]
SWEEP += ["max_iterations=1000000", "stop_loss=2e-3", "logger=none", "metrics=few"]
SWEEP += ["record.iteration_ratio=1.3", "record.loss_ratio=0.5"]
ENDS = [("converged", 1050), ("converged", 500), ("max_iterations", 1_000_000)]


@pytest.fixture
def stored(tmp_path):
    with tarfile.open(STORED) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path


def test_stored_sweeps_are_read(stored):
    folders, table = load(stored / "folders"), load(stored / "table")
    assert folders.runs["status"].to_list() == ["interrupted", "converged", "interrupted"]
    assert folders.runs["iterations"].to_list() == [500, 500, 500]
    assert list(zip(table.runs["status"], table.runs["iterations"], strict=True)) == ENDS
    assert folders.runs["lr.eta"].to_list() == table.runs["lr.eta"].to_list() == [0.05, 0.1, 2e-6]
    converged = pl.col("run") == "1"
    columns = ["iteration", "loss", "norm/frobenius", "rank/effective", "entry/0_0", "determinant/sign"]
    first, second = (each.traces().filter(converged).select(columns).collect() for each in (folders, table))
    assert len(first) == 8 and first.equals(second)


@pytest.mark.parametrize("sweep", ["folders", "table"])
def test_stored_sweeps_are_reported(stored, sweep):
    done = command_line("report", sweep, cwd=stored)
    assert (done.code, done.err) == (0, ""), done
    assert (stored / sweep / "report.html").stat().st_size > 10_000


def test_the_status_of_stored_sweeps(stored):
    done = command_line("status", "folders", cwd=stored)
    assert done.code == 1 and "folders: 3 runs: 1 done, 0 running, 0 pending, 2 stopped" in done.out, done
    done = command_line("status", "table", cwd=stored)
    assert done.code == 0 and done.out.startswith("table: 3 done, in a table of 1 parts"), done


def test_a_stored_sweep_is_resumed_to_the_bits_of_one_made_now(stored):
    """A value that is changed in the checkpoint proves that training continues from it.

    Columns that are computed by the C library may differ in the last digit between machines.
    """
    checkpoint = stored / "folders" / "0" / results.CHECKPOINT
    content = torch.load(checkpoint)
    content["trace"]["norm/frobenius"][0] = 7.0
    torch.save(content, checkpoint)
    assert command_line(*SWEEP, "hydra.sweep.dir=now", cwd=stored).code == 0
    converged = (stored / "folders" / "1" / results.SUMMARY).read_bytes()
    done = command_line("resume", "folders", cwd=stored)
    assert done.code == 0 and all("was written by rankward 0.1.0" in line for line in done.err.splitlines()), done
    assert (stored / "folders" / "1" / results.SUMMARY).read_bytes() == converged
    assert not list((stored / "folders").rglob("*.ckpt"))
    assert results.read_trace(stored / "folders" / "0")["norm/frobenius"][0] == 7.0
    for run, end in enumerate(ENDS):
        old, now = stored / "folders" / str(run), stored / "now" / str(run)
        summaries = [results.read_summary(folder) for folder in (old, now)]
        assert summaries[0]["config_hash"] == summaries[1]["config_hash"]
        assert [(each["status"], each["iterations"]) for each in summaries] == [end, end]
        assert (old / FACTORS).read_bytes() == (now / FACTORS).read_bytes()
        trace, expected = results.read_trace(old), results.read_trace(now)
        assert trace.columns == expected.columns
        assert trace.select("iteration", "loss").equals(expected.select("iteration", "loss"))
        for column in expected.columns:
            np.testing.assert_allclose(trace[column].to_numpy()[1:], expected[column].to_numpy()[1:], rtol=1e-12)


def test_a_stored_table_is_complete_for_the_same_command_line(stored):
    before = (stored / "table" / "runs.parquet" / "0.parquet").read_bytes()
    done = command_line(*SWEEP, "results=table", "hydra.sweep.dir=table", cwd=stored)
    assert done.code == 0 and "3 of 3 runs complete, kept" in done.out, done
    assert (stored / "table" / "runs.parquet" / "0.parquet").read_bytes() == before
