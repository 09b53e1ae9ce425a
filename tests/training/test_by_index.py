"""Runs whose observations are listed by index: results, metrics, files, held-out entries, resuming and refusals."""

import numpy as np
import polars as pl
import pytest
import scipy.sparse
import torch

from helpers.in_process import assert_refused, command_line
from helpers.runs import composed, contents, interrupted_after, trained
from rankward import results
from rankward.config import DataError
from rankward.metrics.functional.singular_values import thin_singular_values
from rankward.observations import EntryMask, IndexedEntries, from_file, from_ratings, hold_out, in_units
from rankward.observations import indexed as by_index
from rankward.training.ensemble import bytes_per_run, measurement_of
from rankward.training.predictions import predict

DIMS = (12, 9)
RUN = ["observations=file", "depth='3'", "factorization.hidden=4", "init.scale=0.3", "lr.eta=0.01"]


def made(random, dims=DIMS, count=70):
    """Entries of a matrix in a random order, and their values."""
    places = random.permutation(np.prod(dims))[:count]
    return np.stack(np.unravel_index(places, dims), axis=1), random.standard_normal(count)


def saved(folder, dims=DIMS, count=70):
    index, values = made(np.random.default_rng(0), dims, count)
    np.savez(folder / "listed.npz", index=index, values=values, dims=dims)
    return [f"observations.path={folder / 'listed.npz'}"]


def test_small_lists_and_masks_are_the_same_observations(tmp_path):
    index, values = made(np.random.default_rng(0))
    saved(tmp_path)
    scipy.sparse.save_npz(tmp_path / "sparse.npz", scipy.sparse.coo_matrix((values, index.T), shape=DIMS).tocsc())
    mask, full = np.zeros(DIMS, bool), np.zeros(DIMS)
    mask[tuple(index.T)], full[tuple(index.T)] = True, values
    np.savez(tmp_path / "mask.npz", mask=mask, values=full)
    lines = "".join(f"{i + 1}\t{j + 1}\t{v!r}\n" for (i, j), v in zip(index.tolist(), values.tolist(), strict=True))
    (tmp_path / "listed.tsv").write_text(lines, encoding="utf-8")
    read = [from_file(str(tmp_path / name)) for name in ("mask.npz", "listed.npz", "sparse.npz")]
    read.append(from_ratings(str(tmp_path / "listed.tsv"), dims=list(DIMS), ids=1))
    for each in read:
        assert isinstance(each, EntryMask)
        for name, array in each.arrays().items():
            assert np.array_equal(array, read[0].arrays()[name])


def test_large_lists_hold_out_the_same_entries_as_masks(tmp_path, monkeypatch):
    """The same file, read as a mask and by index."""
    saved(tmp_path)
    path = str(tmp_path / "listed.npz")
    dense = from_file(path)
    monkeypatch.setattr(by_index, "SMALL", 10)
    listed = from_file(path)
    assert isinstance(listed, IndexedEntries) and "70 entries of 12 x 9" in listed.note
    for holdout in (0.3, 11):
        split, other = hold_out(listed, holdout, 5).masked(), hold_out(dense, holdout, 5)
        assert np.array_equal(split.heldout.mask, other.heldout.mask) and np.array_equal(split.values, other.values)
    held = listed.index[[3, 40]], listed.values[[3, 40]]
    np.savez(tmp_path / "heldout.npz", index=held[0], values=held[1], dims=DIMS)
    split = hold_out(listed, str(tmp_path / "heldout.npz"))
    assert split.heldout.index.tolist() == held[0].tolist() and split.count == 68
    for center in ("mean", "rows", "columns"):
        ours, theirs = in_units(hold_out(listed, 9), center, "std"), in_units(hold_out(dense, 9), center, "std")
        assert np.allclose(ours.values, theirs.values[theirs.mask], rtol=1e-12)
        assert np.allclose(ours.heldout.values, theirs.heldout.values[theirs.heldout.mask], rtol=1e-12)


def test_what_cannot_be_read_by_index_is_refused_in_a_line(tmp_path):
    for words, arrays in {
        "`index` never is 0": {"index": [[1, 1], [2, 3]], "values": [1.0, 2.0]},
        "entry (2, 0) lies outside of a 2x2 array": {"index": [[2, 0]], "values": [1.0], "dims": [2, 2]},
        "the array 3 axes; they must agree": {"index": [[2, 0]], "values": [1.0], "dims": [2, 2, 2]},
        "`index` holds float64": {"index": [[0.0, 1.0]], "values": [1.0]},
        "`index` holds a number below 0": {"index": [[0, -1]], "values": [1.0]},
        "is observed twice": {"index": [[0, 1], [0, 1]], "values": [1.0, 2.0]},
    }.items():
        np.savez(tmp_path / "seen.npz", **arrays)
        with pytest.raises(DataError) as caught:
            from_file(str(tmp_path / "seen.npz"))
        assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.slow
def test_only_what_can_train_by_index_does(tmp_path, monkeypatch):
    path = saved(tmp_path)
    for engine, kind in (("auto", EntryMask), ("fused", EntryMask), ("indexed", IndexedEntries)):
        assert isinstance(measurement_of(composed(*RUN, *path, f"engine={engine}")[0]), kind)
    for key, words in {
        "lr=flow": "that engine does not train lr=flow",
        "factorization=linear": "that engine does not train factorization=linear",
        "depth=1": "that engine does not train depth=1",
        "observations=sensing": "another one: it trains observed entries",
    }.items():
        arguments = ["engine=indexed", key, *([] if "sensing" in key else ["observations=file", *path])]
        assert_refused(command_line(*arguments, cwd=tmp_path), words)
    index = np.random.default_rng(0).integers(0, 2, (20, 64))
    np.savez(tmp_path / "bits.npz", index=index, values=np.ones(20), dims=[2] * 64)
    bits = ["observations=file", f"observations.path={tmp_path / 'bits.npz'}"]
    ended = command_line(*bits, "factorization=tensor", cwd=tmp_path)
    assert_refused(ended, "factorization.components", "an integer: a tensor of order 64 may need 10^19 components")
    ended = command_line(*bits, "factorization=tensor", "factorization.components=2", "lr=flow", cwd=tmp_path)
    assert_refused(ended, "64 axes are too many for a mask, and lr=flow needs one")
    run = composed(*bits, "factorization=tensor", "factorization.components=2", "metrics=tensor")[0]
    assert bytes_per_run(run) < 2**20


def test_singular_values_of_thin_halves():
    random = torch.Generator().manual_seed(0)
    for rows, cols, rank in ((9, 7, 3), (4, 6, 8), (5, 5, 5)):
        left, right = (torch.randn(size, rank, generator=random, dtype=torch.float64) for size in (rows, cols))
        wanted = np.linalg.svd((left @ right.T).numpy(), compute_uv=False)
        assert np.allclose(thin_singular_values(left, right).numpy(), wanted, atol=1e-12)
    assert thin_singular_values(left * torch.nan, right).isnan().all()


@pytest.mark.slow
@pytest.mark.parametrize(
    "job",
    [
        [*RUN, "max_iterations=300"],
        ["observations=file", "factorization=tensor", "metrics=tensor", "factorization.components=4", "init.scale=0.5",
         "optimizer=adam", "lr=constant", "lr.eta=0.01", "max_iterations=300"],
    ],
)  # fmt: skip
def test_the_columns_are_those_of_the_whole_product(tmp_path, job):
    job = [*job, *saved(tmp_path), "observations.holdout=0.2", "observations.center=rows", "observations.scale=std"]
    for name, engine in (("dense", "reference"), ("listed", "indexed")):
        trained(tmp_path / name, [*job, f"engine={engine}"])
    dense, listed = (pl.read_parquet(tmp_path / name / "0" / "trace.parquet") for name in ("dense", "listed"))
    assert {"error/heldout_rmse", "error/observed_rmse", "loss"} <= set(listed.columns) <= set(dense.columns)
    for column in listed.columns:
        assert np.allclose(listed[column], dense[column], rtol=1e-7, atol=1e-9, equal_nan=True), column
    summary = results.read_summary(tmp_path / "listed" / "0")
    left_out = set(dense.columns) - set(listed.columns)
    assert left_out and summary["notes"]["product"].startswith("left out, since they need the whole product")
    for name, error in summary["heldout"]["baselines"].items():
        if name != "least_nuclear":
            assert error == pytest.approx(results.read_summary(tmp_path / "dense" / "0")["heldout"]["baselines"][name])
    arrays = results.read_arrays(tmp_path / "listed" / "0")
    assert "product" not in arrays and arrays["observations.index"].shape == (56, 2)


@pytest.mark.slow
def test_a_resumed_run_has_the_same_bits(tmp_path, monkeypatch):
    job = [*RUN, *saved(tmp_path), "engine=indexed", "optimizer=adam", "optimizer.batch=7", "check_every=10"]
    job += ["max_iterations=2000", "stop_plateau.window=500", "stop_plateau.tolerance=1e-9"]
    trained(tmp_path / "at_once", job)
    with monkeypatch.context() as patch:
        interrupted_after(patch, 2)
        trained(tmp_path / "parts", job)
    assert results.read_summary(tmp_path / "parts" / "0")["status"] == "interrupted"
    trained(tmp_path / "parts", job, ckpt_path=tmp_path / "parts" / "0" / results.CHECKPOINT)
    assert contents(tmp_path / "parts" / "0") == contents(tmp_path / "at_once" / "0")


@pytest.mark.slow
def test_predictions_of_listed_entries(tmp_path):
    job = [*RUN, *saved(tmp_path), "max_iterations=100", "observations.center=rows"]
    for name, engine in (("dense", "reference"), ("listed", "indexed")):
        done = command_line(*(each.replace("'", "") for each in job), f"engine={engine}", "logger=none",
                            f"hydra.run.dir={tmp_path / name}", cwd=tmp_path, trains=True)  # fmt: skip
        assert done.code == 0, done
        predict(tmp_path / name)
    dense, listed = (pl.read_csv(tmp_path / name / "predictions.csv") for name in ("dense", "listed"))
    assert dense.select("row", "column").equals(listed.select("row", "column"))
    assert np.allclose(dense["value"], listed["value"], rtol=1e-8)
    (tmp_path / "wanted.csv").write_text("row,column\n11,8\n0,3\n", encoding="utf-8")
    values = []
    for name in ("dense", "listed"):
        predict(tmp_path / name, tmp_path / "wanted.csv", tmp_path / f"{name}.csv")
        values.append(pl.read_csv(tmp_path / f"{name}.csv")["value"])
    assert np.allclose(*values, rtol=1e-8)
