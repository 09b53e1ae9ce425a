"""The output contract's files: whole, repeatable, readable, and torn ones told."""

import errno
import json
import subprocess

import numpy as np
import pytest

from rankward import results

TRACE = {"iteration": np.array([0, 50]), "loss": np.array([1.0, np.nan]), "norm/nuclear": np.array([0.1, 0.2])}
FACTORS = {"initial.0": np.eye(2), "final.0": np.ones((2, 2)), "observations.mask": np.eye(2, dtype=bool)}
SUMMARY = {"status": "converged", "iterations": 50, "metrics": {"loss": float("nan")}}


def write(folder):
    results.write_run(folder, trace=TRACE, factors=FACTORS, summary=SUMMARY)


def test_round_trip(tmp_path):
    write(tmp_path)
    trace, factors = results.read_trace(tmp_path), results.read_factors(tmp_path)
    assert trace.columns == list(TRACE)
    for name, column in TRACE.items():
        np.testing.assert_array_equal(trace[name].to_numpy(), column)
    for name, array in FACTORS.items():
        np.testing.assert_array_equal(factors[name].numpy(), array)
    assert json.loads((tmp_path / "summary.json").read_text())["status"] == "converged"
    assert results.is_complete(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["factors.safetensors", "summary.json", "trace.parquet"]


def test_the_same_run_is_the_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name)
    for file in ("trace.parquet", "factors.safetensors", "summary.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("file", ["trace.parquet", "factors.safetensors", "summary.json"])
def test_torn_files_are_told(tmp_path, file):
    write(tmp_path)
    whole = (tmp_path / file).read_bytes()
    (tmp_path / file).write_bytes(whole[: len(whole) // 2])
    read = {"trace.parquet": results.read_trace, "factors.safetensors": results.read_factors}.get(
        file, results.read_summary
    )
    with pytest.raises(results.ResultsError, match=file):
        read(tmp_path)
    if file == "summary.json":
        assert not results.is_complete(tmp_path)


def test_a_missing_piece_is_not_a_complete_run(tmp_path):
    write(tmp_path)
    (tmp_path / "trace.parquet").unlink()
    assert not results.is_complete(tmp_path)


def test_a_failing_write_leaves_the_old_file_and_no_other(tmp_path):
    write(tmp_path)
    before = (tmp_path / "summary.json").read_bytes()

    def full(path):
        path.write_text("half of")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(results.ResultsError, match=r"cannot write .*summary\.json: No space left on device"):
        results.write_whole(tmp_path / "summary.json", full)
    assert (tmp_path / "summary.json").read_bytes() == before
    assert len(list(tmp_path.iterdir())) == 3


def test_a_file_where_a_folder_should_be(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(results.ResultsError, match="run"):
        write(tmp_path / "run")


@pytest.mark.slow
def test_a_full_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        with pytest.raises(results.ResultsError, match=r"cannot write .*factors\.safetensors: .*[Nn]o space left"):
            results.write_run(
                disk / "run",
                trace=TRACE,
                factors={"final.0": np.random.default_rng(0).random((200, 200))},
                summary=SUMMARY,
            )
        assert not results.is_complete(disk / "run")
        assert [path.name for path in (disk / "run").iterdir()] == ["trace.parquet"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_jobs_come_in_their_order(tmp_path):
    for job in (0, 1, 2, 10, 11):
        (tmp_path / str(job) / ".hydra").mkdir(parents=True)
        (tmp_path / str(job) / ".hydra" / "config.yaml").write_text("seed: 0\nlr: {name: constant, eta: 0.1}\n")
        (tmp_path / str(job) / ".hydra" / "overrides.yaml").write_text("- lr.eta=0.1\n")
    write(tmp_path / "10")
    assert [folder.name for folder in results.run_folders(tmp_path)] == ["0", "1", "2", "10", "11"]
    table = results.gather(tmp_path)
    assert table["status"].to_list() == ["missing"] * 3 + ["converged", "missing"]
    assert table["lr.eta"].to_list() == [0.1] * 5
    with pytest.raises(results.ResultsError, match="no runs"):
        results.gather(tmp_path / "nowhere")
