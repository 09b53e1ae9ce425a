"""Observations from files, whole, torn and foreign."""

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from rankward.config import DataError
from rankward.observations import EntryMask, Sensing, from_file

AUTHORS = Path(__file__).parents[3] / "shared" / "data" / "completion_2x2_w_1_1_0.pt"


@pytest.mark.skipif(not AUTHORS.is_file(), reason="the authors' data is not here")
def test_the_authors_file_is_equation_6():
    made = from_file(str(AUTHORS))
    assert isinstance(made, EntryMask)
    assert made.mask.tolist() == [[False, True], [True, True]]
    assert made.values.tolist() == [[0, 1], [1, 0]]
    assert made.ground_truth is not None


def test_csv_with_and_without_a_header(tmp_path):
    lines = "0,1,2.5\n2,0,-1\n"
    for text in (lines, "row,column,value\n" + lines, "\ufeff" + lines, "\ufeffrow,column,value\n" + lines):
        (tmp_path / "seen.csv").write_text(text, encoding="utf-8")  # spreadsheets begin with a byte order mark
        made = from_file(str(tmp_path / "seen.csv"))
        assert made.values.tolist() == [[0, 2.5], [0, 0], [-1, 0]]
    assert from_file(str(tmp_path / "seen.csv"), count=1).count == 1


def test_a_first_line_that_is_meant_as_data_is_no_header(tmp_path):
    for text in ("0;1;1\n1,0,2\n", "-1 0 1\n1,0,2\n", ".5,\n1,0,2\n"):
        (tmp_path / "seen.csv").write_text(text)
        told(tmp_path / "seen.csv", "line 1 is not `row,column,value`")


WHOLE = np.array([[1.5, np.nan, 2], [np.nan, 0, -3e2]])


@pytest.mark.parametrize(
    "text", ["1.5,,2\n,0,-3e2\n", "1.5,nan,2\nNaN,0,-3e2\n", "a,b,c\n1.5, ,2\nNA,0,-3e2\n", "\ufeff1.5,,2\n,0,-3e2\n\n"]
)
def test_a_csv_with_holes_is_the_whole_matrix(tmp_path, text):
    (tmp_path / "seen.csv").write_text(text, encoding="utf-8")
    made = from_file(str(tmp_path / "seen.csv"))
    np.testing.assert_array_equal(np.where(made.mask, made.values, np.nan), WHOLE)
    assert from_file(str(tmp_path / "seen.csv"), count=2).values.tolist() == [[1.5, 0, 2], [0, 0, 0]]
    with pytest.raises(DataError, match=r"observations\.dims"):
        from_file(str(tmp_path / "seen.csv"), dims=[3, 3])


def test_numpys_own_csv_and_npy_with_nan(tmp_path):
    np.savetxt(tmp_path / "seen.csv", WHOLE, delimiter=",")
    for array in (WHOLE, np.stack([WHOLE, WHOLE + 1]), WHOLE.astype(np.float32)):
        np.save(tmp_path / "seen.npy", array)
        made = from_file(str(tmp_path / "seen.npy"))
        np.testing.assert_array_equal(np.where(made.mask, made.values, np.nan), array.astype(float))
    np.testing.assert_array_equal(from_file(str(tmp_path / "seen.csv")).mask, ~np.isnan(WHOLE))


def test_what_may_be_a_matrix_or_places_is_refused(tmp_path):
    for text, words in {
        "0,1,\n1,0,2\n": "may be a matrix, or places",
        "0,1,2\n3,,4\n5,6,7\n": "line 1 is 0, 1, 2",
        "1,,2\n3,4\n": "line 1 is not `row,column,value`",
        "1,,2\nx,3,4\n": "a cell is not a number",
        "1.5,2,3\n4,5,6\n": "not an integer; a whole matrix has empty or nan cells",
        ",\n,\n": "no entry is observed",
    }.items():
        (tmp_path / "seen.csv").write_text(text)
        told(tmp_path / "seen.csv", words)
    np.save(tmp_path / "seen.npy", np.array([1.0, np.nan]))
    told(tmp_path / "seen.npy", "two or more axes")
    np.save(tmp_path / "seen.npy", np.array([["a"]]))
    told(tmp_path / "seen.npy", "no array of numbers")
    np.save(tmp_path / "seen.npy", np.array([[np.inf, 1]]))
    told(tmp_path / "seen.npy", "not finite")


def test_npz_with_holes(tmp_path):
    np.savez(tmp_path / "seen.npz", values=WHOLE, ground_truth=np.ones((2, 3)))
    made = from_file(str(tmp_path / "seen.npz"))
    np.testing.assert_array_equal(made.mask, ~np.isnan(WHOLE))
    assert made.ground_truth.tolist() == [[1, 1, 1]] * 2


@pytest.mark.parametrize("truth", ["ground_truth", "target_matrix", "target_tensor"])
def test_a_ground_truth_with_holes_is_refused_in_a_line(tmp_path, truth):
    array = np.arange(12.0).reshape(3, 4)
    array[0, 1:4] = np.nan, np.inf, np.nan
    beside = {
        "ground_truth": {"mask": np.ones((3, 4)), "values": np.ones((3, 4))},
        "target_matrix": {"A": np.ones((1, 3, 4)), "y": np.ones(1)},
        "target_tensor": {"train_indices_order": np.array([4, 5])},
    }[truth]
    np.savez(tmp_path / "seen.npz", **beside, **{truth: array})
    words = r"observations\.path: '.*seen\.npz': .*the ground truth is NaN or infinite in 3 of its 12 entries$"
    with pytest.raises(DataError, match=words):
        from_file(str(tmp_path / "seen.npz"))


def test_a_ground_truth_beside_the_observations(tmp_path):
    truth = np.arange(6.0).reshape(2, 3) + 0.5
    np.save(tmp_path / "seen.npy", np.where(np.isnan(WHOLE), np.nan, truth))
    np.save(tmp_path / "truth.npy", truth)
    np.savetxt(tmp_path / "truth.csv", truth, delimiter=",")
    for name in ("truth.npy", "truth.csv"):
        made = from_file(str(tmp_path / "seen.npy"), ground_truth=str(tmp_path / name))
        np.testing.assert_array_equal(made.ground_truth, truth)
    np.save(tmp_path / "small.npy", truth[:, :2])
    np.save(tmp_path / "holes.npy", WHOLE)
    for name, words in {"none.npy": "not a file", "small.npy": "shape", "holes.npy": "finite"}.items():
        with pytest.raises(DataError, match=rf"observations\.ground_truth: .*{words}"):
            from_file(str(tmp_path / "seen.npy"), ground_truth=str(tmp_path / name))


def test_csv_of_a_given_size(tmp_path):
    (tmp_path / "seen.csv").write_text("0,1,2.5\n2,0,-1\n")
    assert from_file(str(tmp_path / "seen.csv"), dims=[4, 5]).dims == (4, 5)
    told(tmp_path / "seen.csv", r"entry \(2, 0\) lies outside of a 2x2", dims=[2, 2])


def test_npz_mask_and_values(tmp_path):
    path = tmp_path / "seen.npz"
    np.savez(path, mask=np.array([[1, 0], [1, 1]]), values=np.arange(4.0).reshape(2, 2))
    assert from_file(str(path)).values.tolist() == [[0, 0], [2, 3]]
    assert from_file(str(path), count=2).mask.tolist() == [[True, False], [True, False]]


def test_pt_sensing_matrices(tmp_path):
    path = tmp_path / "seen.pt"
    torch.save({"A": torch.ones(2, 2, 3), "y": torch.tensor([1.0, 2.0])}, path)
    made = from_file(str(path))
    assert isinstance(made, Sensing) and made.count == 2


def told(path, words, **more):
    with pytest.raises(DataError, match=words) as caught:
        from_file(str(path), **more)
    assert "observations.path" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_unknown_and_empty(tmp_path):
    told(tmp_path / "none.pt", "not a file")
    (tmp_path / "seen.txt").write_text("")
    told(tmp_path / "seen.txt", "unknown ending")
    (tmp_path / "seen.csv").write_text("row,column,value\n")
    told(tmp_path / "seen.csv", "no observation")


@pytest.mark.parametrize("ending", ["pt", "npz"])
def test_torn(tmp_path, ending):
    path = tmp_path / f"seen.{ending}"
    if ending == "pt":
        torch.save({"A": torch.ones(50, 2, 3), "y": torch.ones(50)}, path)
    else:
        np.savez(path, mask=np.ones((9, 9)), values=np.ones((9, 9)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    told(path, "torn|not a file of plain")


class Bomb:
    def __reduce__(self):
        return (Path.touch, (Path(self.target),))


def test_a_foreign_pickle_is_never_executed(tmp_path):
    bomb = Bomb()
    bomb.target = str(tmp_path / "executed")
    torch.save({"A": bomb, "y": torch.ones(1)}, tmp_path / "bomb.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(bomb))
    np.savez(tmp_path / "bomb.npz", mask=np.array([bomb], dtype=object), values=np.ones(1))
    for name in ("bomb.pt", "plain.pt", "bomb.npz"):
        told(tmp_path / name, "pickle|torn|plain")
    assert not (tmp_path / "executed").exists()


def test_shapes_counts_and_keys(tmp_path):
    path = tmp_path / "seen.npz"
    np.savez(path, mask=np.ones((2, 2)), values=np.ones((2, 3)))
    told(path, "agree")
    np.savez(path, mask=np.zeros((2, 2)), values=np.ones((2, 2)))
    told(path, "no entry")
    np.savez(path, something=np.ones(2))
    told(path, "something")
    np.savez(path, mask=np.ones((2, 2)), values=np.ones((2, 2)))
    told(path, "observations.count: 5", count=5)


@pytest.mark.parametrize("line", ["0,1", "0,x,1", "0.5,1,1", "-1,0,1", "0,0,1\n0,0,2"])
def test_csv_lines_that_cannot_be_used(tmp_path, line):
    (tmp_path / "seen.csv").write_text("0,2,1\n" + line + "\n")
    told(tmp_path / "seen.csv", "line 2|integer|below 0|twice")
