"""Observations of vectors: files of one axis, and sensing."""

import numpy as np
import pytest

from rankward.config import DataError
from rankward.observations import EntryMask, Sensing, from_file, sensing

SEEN = np.array([1.5, np.nan, -2.0, 0.0])


def test_files_of_a_vector_are_read(tmp_path):
    np.save(tmp_path / "a.npy", SEEN)
    np.savez(tmp_path / "b.npz", mask=~np.isnan(SEEN), values=np.nan_to_num(SEEN))
    np.savez(tmp_path / "c.npz", values=SEEN)
    (tmp_path / "d.csv").write_text("index,value\n2,-2\n0,1.5\n3,0\n")
    for name, dims in (("a.npy", None), ("a.npy", [4]), ("b.npz", None), ("c.npz", None), ("d.csv", [4])):
        made = from_file(str(tmp_path / name), dims=dims)
        assert isinstance(made, EntryMask) and made.dims == (4,) and made.count == 3
        np.testing.assert_array_equal(np.where(made.mask, made.values, np.nan), SEEN)
    assert from_file(str(tmp_path / "d.csv"), dims=[4], count=1).values.tolist() == [0, 0, -2, 0]
    assert from_file(str(tmp_path / "d.csv"), dims=[6]).note.endswith(
        "no entry in indices 1, 4, 5 of axis 0: indices count from 0"
    )


def test_a_ground_truth_of_a_vector(tmp_path):
    np.save(tmp_path / "seen.npy", SEEN)
    np.save(tmp_path / "truth.npy", np.arange(4.0))
    (tmp_path / "column.csv").write_text("0\n1\n2\n3\n")
    (tmp_path / "row.csv").write_text("0,1,2,3\n")
    for name in ("truth.npy", "column.csv", "row.csv"):
        made = from_file(str(tmp_path / "seen.npy"), ground_truth=str(tmp_path / name))
        assert made.ground_truth.tolist() == [0, 1, 2, 3]


def test_a_list_of_a_vector_needs_its_size(tmp_path):
    (tmp_path / "seen.csv").write_text("0,1.5\n2,4\n")
    for dims, words in (
        (None, r"lines have 2 columns: .* those of a vector need observations\.dims"),
        ([2], r"entry \(2\) lies outside of a 2 vector"),
        ([3, 3], r"\[3, 3\] has not the 1 axes of the file's lines"),
    ):
        with pytest.raises(DataError, match=words):
            from_file(str(tmp_path / "seen.csv"), dims=dims)
    (tmp_path / "seen.csv").write_text("0,1.5\n2,4,4\n")
    with pytest.raises(DataError, match="line 2 is not `index,value`: 2,4,4"):
        from_file(str(tmp_path / "seen.csv"), dims=[3])


def test_measurements_of_a_vector_from_a_file(tmp_path):
    rows = np.random.default_rng(0).standard_normal((3, 5))
    np.savez(tmp_path / "seen.npz", A=rows, y=rows @ np.arange(5.0))
    made = from_file(str(tmp_path / "seen.npz"))
    assert isinstance(made, Sensing) and made.dims == (5,) and made.values.tolist() == (rows @ np.arange(5.0)).tolist()
    np.savez(tmp_path / "picked.npz", A=np.eye(5)[[3, 1]], y=[7.0, 8.0])
    assert from_file(str(tmp_path / "picked.npz")).values.tolist() == [0, 8, 0, 7, 0]
    np.savez(tmp_path / "wrong.npz", A=np.ones(3), y=np.ones(3))
    with pytest.raises(DataError, match=r"expected \[n, d, d'\], or \[n, d\] of vectors"):
        from_file(str(tmp_path / "wrong.npz"))


@pytest.mark.parametrize(("dims", "rank"), [((9,), 1), ((9,), 4), ((1,), 1), ((4, 3), 2), ((3, 4, 2), 2)])
def test_sensing_measures_a_truth_of_any_number_of_axes(dims, rank):
    made, again = sensing(dims, rank, 6, seed=3), sensing(dims, rank, 9, seed=3)
    assert made.matrices.shape == (6, *dims) and made.ground_truth.shape == dims
    np.testing.assert_allclose(made.values, made.matrices.reshape(6, -1) @ made.ground_truth.ravel(), rtol=1e-12)
    np.testing.assert_array_equal(made.ground_truth, again.ground_truth)
    if len(dims) == 1:
        assert np.count_nonzero(made.ground_truth) == rank
        assert np.sum(made.ground_truth**2) == pytest.approx(dims[0])
