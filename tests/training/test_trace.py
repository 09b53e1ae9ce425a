"""Long runs: chunks of bounded length, and rows that go to a file once there are many, to the same bytes."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from helpers.runs import LONG, QUICK, contents, interrupted_after, trained
from rankward import results
from rankward.dynamics.fused import FusedEngine
from rankward.loggers import run as run_loggers
from rankward.training import module, trace
from rankward.training.resume import newest

EVERY = ["check_every=1", "record.every=1", "stop_loss=0"]
FEW = 20_000  # bytes of rows in memory: about a hundred rows


def test_next_chunk_is_never_longer_than_the_iterations_left(tmp_path, monkeypatch):
    """Twenty chunks end early, since each has 1,024 rows: 8 to the power of 20 is nearly 2 to the power of 63."""
    advance, lengths = FusedEngine.advance, []

    def watched(self, factors, problem, progress, length):
        lengths.append((length, int((problem.max_iterations - progress.iteration).max())))
        return advance(self, factors, problem, progress, length)

    monkeypatch.setattr(FusedEngine, "advance", watched)
    trained(tmp_path, [*QUICK, *EVERY, "max_iterations=24000"])
    assert len(lengths) > 20 and all(length <= left for length, left in lengths)
    rows, factors = results.read_trace(tmp_path / "0"), results.read_arrays(tmp_path / "0")
    assert rows["iteration"].to_list() == list(range(24_001))
    w_1, w_2 = factors["initial.0"], factors["initial.1"]
    mask, values, losses = factors["observations.mask"], factors["observations.values"], []
    for _ in range(2000):  # gradient descent, written out
        error = mask * (w_2 @ w_1 - values)
        losses.append(0.5 * (error**2).sum())
        w_1, w_2 = w_1 - 0.05 * w_2.T @ error, w_2 - 0.05 * error @ w_1.T
    np.testing.assert_allclose(rows["loss"].to_numpy()[:2000], losses, rtol=1e-7, atol=1e-25)


SEVERAL = [[*QUICK, *EVERY, f"seed={seed}", f"max_iterations={n}"] for seed, n in enumerate([300, 1200, 40, 700])]


def test_rows_that_went_to_a_file_leave_the_same_bytes(tmp_path, monkeypatch):
    trained(tmp_path / "memory", *SEVERAL)
    monkeypatch.setattr(trace, "MAX_BYTES", FEW)
    trained(tmp_path / "file", *SEVERAL)
    trained(tmp_path / "alone", SEVERAL[1])
    for run in range(4):
        assert contents(tmp_path / "file" / str(run)) == contents(tmp_path / "memory" / str(run))
        names = {path.name for path in (tmp_path / "file" / str(run)).iterdir()}
        assert names == {"trace.parquet", "factors.safetensors", "summary.json", "rankward.log"}
    assert contents(tmp_path / "alone" / "0") == contents(tmp_path / "memory" / "1")
    for folder, run in (("memory", "1"), ("file", "1"), ("alone", "0")):
        summary, rows = results.read_summary(tmp_path / folder / run), results.read_trace(tmp_path / folder / run)
        assert summary["metrics"]["loss"] == rows["loss"][-1] and len(rows) == 1201


def test_rows_in_a_file_belong_to_their_runs_after_a_partial_resume(tmp_path, monkeypatch):
    """Four runs that trained together go on two by two: the first two never write over what the others need."""
    trained(tmp_path / "whole", *SEVERAL)
    monkeypatch.setattr(trace, "MAX_BYTES", FEW)
    monkeypatch.setattr(module, "CHUNK_SECONDS", 1e9)  # chunks of 1, 8, 64, 512 iterations, also on a busy machine
    with monkeypatch.context() as patched:
        interrupted_after(patched, 4)
        trained(tmp_path / "parts", *SEVERAL)
    shared = tmp_path / "parts" / "0" / results.CHECKPOINT
    assert results.rows_file(shared).stat().st_size > 10 * FEW
    assert shared.stat().st_size < 4 * FEW  # rows in the file are not in the checkpoint again
    for path in (shared, results.rows_file(shared)):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for jobs in ([0, 1], [2, 3]):
        pair = [[*SEVERAL[job], "checkpoint.seconds=1e-9"] for job in jobs]
        outcomes = trained(tmp_path / "parts", *pair, ckpt_path=shared)  # in the folders 0 and 1, both times
        assert [outcome.error for outcome in outcomes] == [None, None]
        for place, job in enumerate(jobs):
            assert contents(tmp_path / "parts" / str(place)) == contents(tmp_path / "whole" / str(job))
    assert [path.read_bytes() for path in (shared, results.rows_file(shared))] == [
        (tmp_path / path.name).read_bytes() for path in (shared, results.rows_file(shared))
    ]
    assert results.checkpoints(tmp_path / "parts" / "0") == [shared]


def test_long_run_resumes_from_its_file_of_rows(tmp_path, monkeypatch):
    job = [*LONG[:-1], "max_iterations=2000", *EVERY]
    trained(tmp_path / "whole", job)
    monkeypatch.setattr(trace, "MAX_BYTES", FEW)
    checkpoint = tmp_path / "parts" / "0" / results.CHECKPOINT
    for chunks in (2, 3):  # interrupted twice
        with monkeypatch.context() as patched:
            interrupted_after(patched, chunks)
            trained(tmp_path / "parts", job, ckpt_path=newest(checkpoint))
    with results.rows_file(checkpoint).open("ab") as file:
        file.write(b"half of a block")  # of a process that was killed
    trained(tmp_path / "other", job, ckpt_path=checkpoint)
    trained(tmp_path / "parts", job, ckpt_path=checkpoint)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "whole" / "0")
    assert contents(tmp_path / "other" / "0") == contents(tmp_path / "whole" / "0")
    assert not results.rows_file(checkpoint).exists()


def test_checkpoint_without_its_rows_is_ignored(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(trace, "MAX_BYTES", FEW)
    monkeypatch.setattr(module, "CHUNK_SECONDS", 1e9)
    interrupted_after(monkeypatch, 4)
    trained(tmp_path, SEVERAL[1])
    checkpoint = tmp_path / "0" / results.CHECKPOINT
    rows = results.rows_file(checkpoint)
    assert newest(checkpoint) == checkpoint
    os.truncate(rows, rows.stat().st_size // 2)
    assert newest(checkpoint) is None
    line = f"rankward: {checkpoint} is torn and counts as none: training starts from the beginning\n"
    assert capsys.readouterr().err == line


def test_table_of_a_resumed_long_run_has_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(trace, "MAX_BYTES", FEW)
    monkeypatch.setattr(run_loggers, "ROWS_PER_SAVE", 100)
    with monkeypatch.context() as patched:
        interrupted_after(patched, 4)
        trained(tmp_path, SEVERAL[1], logger="csv")
    trained(tmp_path, SEVERAL[1], logger="csv", ckpt_path=tmp_path / "0" / results.CHECKPOINT)
    logged = pl.read_csv(tmp_path / "0" / "csv" / "metrics.csv", infer_schema_length=None)
    assert logged["step"].to_list() == list(range(1201))
    np.testing.assert_allclose(logged["loss"].to_numpy(), results.read_trace(tmp_path / "0")["loss"].to_numpy())


def peak(*arguments: str, cwd: Path) -> int:
    """MiB of its own that the command line has had at most: no pages of files, which the system takes back at need."""
    most = 0
    with subprocess.Popen(
        [sys.executable, "-m", "rankward", *arguments], cwd=cwd, stdout=subprocess.DEVNULL
    ) as process:
        status = Path(f"/proc/{process.pid}/status")
        while process.poll() is None:
            lines = status.read_text().splitlines() if status.exists() else []
            most = max(most, *(int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
            time.sleep(0.01)
    assert process.returncode == 0
    return most // 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_a_million_rows_take_a_bounded_memory(tmp_path):
    """Twenty-seven columns, 216 MB of numbers: 310 to 345 MiB, and 710 if the rows stayed in memory."""
    job = [*EVERY, "logger=none", "checkpoint.seconds=5"]
    few = peak(*job, "max_iterations=1000", "hydra.run.dir=few", cwd=tmp_path)
    many = peak(*job, "max_iterations=1000000", "hydra.run.dir=many", cwd=tmp_path)
    assert many < few + 500, (few, many)
    rows = results.read_trace(tmp_path / "many")
    np.testing.assert_array_equal(rows["iteration"].to_numpy(), np.arange(1_000_001))
    assert {path.name for path in (tmp_path / "many").glob("*.*")} - {"rankward.log", ".hydra"} == {
        "trace.parquet", "factors.safetensors", "summary.json",
    }  # fmt: skip
