"""Observations from files, whole, torn and foreign."""

import io
import pickle
import subprocess
import sys
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch

from rankward.config import DataError
from rankward.observations import EntryMask, Sensing, entry_mask, from_file

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
def test_csv_with_missing_cells_is_a_matrix(tmp_path, text):
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


def test_file_that_may_be_a_matrix_or_a_list_is_refused(tmp_path):
    for text, words in {
        "0,1,\n1,0,2\n": "may be a matrix, or places",
        "0,1,2\n3,,4\n5,6,7\n": r"dims=\[2,3\] says that line 1 holds names, .*dims=\[3,3\] says that all cells are",
        "1,,2\n3,4\n": "line 1 is not `row,column,value`",
        "1,,2\nx,3,4\n": "a cell is not a number",
        "1.5,2,3\n4,5,6\n": "not an integer; a whole matrix has empty or nan cells",
        ",\n,\n": "no entry is observed",
    }.items():
        (tmp_path / "seen.csv").write_text(text)
        told(tmp_path / "seen.csv", words)
    np.save(tmp_path / "seen.npy", np.array(1.0))
    told(tmp_path / "seen.npy", "is a single number")
    (tmp_path / "seen.csv").write_text("0,1.5\n2,4\n")
    told(tmp_path / "seen.csv", "lines have 2 columns: entries of a matrix have three")
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
def test_a_ground_truth_may_have_holes_but_no_infinity(tmp_path, truth):
    array = np.arange(12.0).reshape(3, 4)
    array[0, 1:4] = np.nan, np.inf, np.nan
    beside = {
        "ground_truth": {"mask": np.ones((3, 4)), "values": np.ones((3, 4))},
        "target_matrix": {"A": np.ones((1, 3, 4)), "y": np.ones(1)},
        "target_tensor": {"train_indices_order": np.array([4, 5])},
    }[truth]
    np.savez(tmp_path / "seen.npz", **beside, **{truth: array})
    words = r"observations\.path: '.*seen\.npz': .*the ground truth is infinite in 1 of its 12 entries$"
    with pytest.raises(DataError, match=words):
        from_file(str(tmp_path / "seen.npz"))
    array[0, 2] = 2
    np.savez(tmp_path / "seen.npz", **beside, **{truth: array})
    np.testing.assert_array_equal(from_file(str(tmp_path / "seen.npz")).ground_truth, array)


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
    np.save(tmp_path / "empty.npy", np.full_like(WHOLE, np.nan))
    made = from_file(str(tmp_path / "seen.npy"), ground_truth=str(tmp_path / "holes.npy"))
    np.testing.assert_array_equal(made.ground_truth, WHOLE)
    for name, words in {"none.npy": "not a file", "small.npy": "shape", "empty.npy": "no entry is known"}.items():
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
    cube = np.arange(8.0).reshape(2, 2, 2)
    np.savez(tmp_path / "seen.npz", A=np.ones((3, 2, 2, 2)), y=np.full(3, 28.0), target_tensor=cube)
    made = from_file(str(tmp_path / "seen.npz"))
    assert isinstance(made, Sensing) and made.ground_truth.tolist() == cube.tolist()


@pytest.mark.parametrize(("matrices", "values"), [(3, 2), (2, 3), (3, 1), (1, 3), (3, 0)])
@pytest.mark.parametrize("ending", ["pt", "npz"])
@pytest.mark.parametrize("one_hot", [False, True])
def test_as_many_sensing_matrices_as_values(tmp_path, matrices, values, ending, one_hot):
    stack = np.eye(6)[:matrices].reshape(matrices, 2, 3) if one_hot else np.ones((matrices, 2, 3))
    path = tmp_path / f"seen.{ending}"
    if ending == "pt":
        torch.save({"A": torch.from_numpy(stack), "y": torch.ones(values)}, path)
    else:
        np.savez(path, A=stack, y=np.ones(values))
    told(path, rf"`A` holds {matrices} sensing matrices, `y` {values} values; they must agree")
    told(path, "they must agree", count=1)


@pytest.mark.parametrize("values", [1, 2, 4])
def test_as_many_places_as_values(values):
    with pytest.raises(DataError, match=f"observations: 3 places but {values} values; they must agree"):
        entry_mask((2, 3), np.arange(3), np.ones(values))


def told(path, words, **more):
    with pytest.raises(DataError, match=words) as caught:
        from_file(str(path), **more)
    assert "observations.path" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_unknown_and_empty(tmp_path):
    told(tmp_path / "none.pt", "not a file")
    (tmp_path / "seen.xls").write_text("")
    told(tmp_path / "seen.xls", "unknown ending")
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


def test_four_columns_need_the_size_of_a_tensor(tmp_path):
    path = tmp_path / "ratings.csv"
    # A user, an item, a rating and a time; whole and half stars, with and without a header.
    for text in ("196,242,3,881250949\n186,302,4,891717742\n", "u,i,r,t\n196,242,3,88125\n186,302,3.5,89171\n"):
        path.write_text(text)
        told(
            path,
            r"lines have 4 columns: entries of a matrix have three, .*observations=ratings.*need observations\.dims",
        )
        told(path, "has not the 3 axes of the file's lines: entries of a matrix have three", dims=[200, 400])
    path.write_text("196,242,3,881250949\n186,302,,891717742\n")  # a rating is missing
    told(path, "may be a matrix, or places")
    path.write_text("0,1,0,2.5\n1,0,1,3\n")
    assert from_file(str(path), dims=[2, 2, 2]).values[0, 1, 0] == 2.5
    path.write_text("0,1,0,1,2.5\n")
    told(path, "lines have 5 columns")


@pytest.mark.parametrize(
    ("text", "dims", "line"),
    [
        ("0,0,5\n0,1,3\n1,0,4\n", None, "3 entries of 2 x 2, values from 3 to 5"),
        ("0,1,2.5\n", None, "1 entry of 1 x 2, values from 2.5 to 2.5; no entry in column 0: indices count from 0"),
        (
            "0,0,1\n3,0,1\n4,1,-1\n9,1,1\n",
            [12, 2],
            "4 entries of 12 x 2, values from -1 to 1; "
            "no entry in rows 1, 2, 5 to 8, 10, 11: indices count from 0",
        ),
        (
            "1,1,5\n1,2,3\n2,1,4\n",
            [3, 3],
            "3 entries of 3 x 3, values from 3 to 5; no entry in row 0 and column 0: "
            "indices count from 0, and these seem to start from 1 (observations=ratings reads such)",
        ),
        (
            "1,1,5\n1,2,3\n2,1,4\n",
            [4, 4],
            "3 entries of 4 x 4, values from 3 to 5; no entry in rows 0, 3 and columns 0, 3: indices count from 0",
        ),
        (
            "1,1,2,5\n2,2,1,3\n",
            [3, 3, 3],
            "2 entries of 3 x 3 x 3, values from 3 to 5; no entry in index 0 of axis 0 and index 0 of axis 1 and "
            "index 0 of axis 2: indices count from 0, and these seem to start from 1 (observations=ratings reads such)",
        ),
    ],
)  # fmt: skip
def test_list_of_entries_has_a_note_on_its_reading(tmp_path, text, dims, line):
    (tmp_path / "seen.csv").write_text(text)
    path = str(tmp_path / "seen.csv")
    assert from_file(path, dims=dims).note == f"observations.path: {path!r}: {line}"


def test_many_indices_without_an_entry_are_counted(tmp_path):
    (tmp_path / "seen.csv").write_text("".join(f"{row},0,1\n" for row in range(0, 41, 2)))
    assert "no entry in rows 1, 3, 5, 7 (and 16 more): " in from_file(str(tmp_path / "seen.csv")).note


def test_an_array_is_worth_a_line_where_a_row_has_no_entry(tmp_path):
    np.save(tmp_path / "seen.npy", WHOLE)
    assert from_file(str(tmp_path / "seen.npy")).note == ""
    from_one = np.full((4, 3), np.nan)
    from_one[1:, 1:] = 2.0
    np.save(tmp_path / "seen.npy", from_one)
    np.savez(tmp_path / "seen.npz", mask=~np.isnan(from_one), values=np.nan_to_num(from_one))
    np.savetxt(tmp_path / "seen.csv", from_one, delimiter=",")
    one_hot = np.zeros((2, 2, 2))
    one_hot[0, 1, 1] = one_hot[1, 1, 0] = 1
    torch.save({"A": torch.from_numpy(one_hot), "y": torch.ones(2)}, tmp_path / "seen.pt")
    for name in ("seen.npy", "seen.npz", "seen.csv"):
        note = from_file(str(tmp_path / name)).note
        assert "6 entries of 4 x 3, values from 2 to 2; no entry in row 0 and column 0" in note
        assert note.endswith("these seem to start from 1 (observations=ratings reads such)")
    assert from_file(str(tmp_path / "seen.pt")).note.endswith("no entry in row 0: indices count from 0")


def test_ids_from_one_ids_beyond_the_size_and_gaps_are_reported(tmp_path):
    (tmp_path / "seen.csv").write_text("1,1,5\n1,2,3\n2,1,4\n")
    told(
        tmp_path / "seen.csv", r"seem to start from 1 .*observations\.dims=\[3,3\] says that row 0 and column 0 are not"
    )
    (tmp_path / "seen.csv").write_text("1,1,5\n2,3,3\n")
    told(tmp_path / "seen.csv", r"entry \(2, 3\) lies outside of a 2x3 matrix: .* start from 1", dims=[2, 3])
    (tmp_path / "seen.csv").write_text("0,1,5\n2,3,3\n")
    told(tmp_path / "seen.csv", r"entry \(2, 3\) lies outside of a 2x3 matrix$", dims=[2, 3])
    (tmp_path / "seen.csv").write_text("88125094999,242000,3\n1,2,3\n")
    told(
        tmp_path / "seen.csv",
        "a 88125095000x242001 matrix does not fit into memory: it needs 5,252.7 GiB, this machine has .* GiB",
    )


def test_an_array_of_lines_is_not_taken_for_a_matrix(tmp_path):
    lines = np.array([[0, 0, 2.5], [0, 1, 1], [1, 0, 3], [2, 0, 4]])
    np.save(tmp_path / "seen.npy", lines)
    told(tmp_path / "seen.npy", r"may be a matrix \(observations.dims=\[4,3\] says so\), or a list of entries")
    assert from_file(str(tmp_path / "seen.npy"), dims=[4, 3]).count == 12
    timed = np.column_stack([np.vstack([lines, [2, 1, 5]]), np.arange(88125, 88130)])
    np.savez(tmp_path / "seen.npz", values=timed)
    torch.save({"values": torch.from_numpy(timed), "ground_truth": torch.from_numpy(timed)}, tmp_path / "seen.pt")
    for name in ("seen.npz", "seen.pt"):
        told(tmp_path / name, "or a list of entries")
    timed[4] = timed[0]  # a list would not have the same place twice
    np.savez(tmp_path / "seen.npz", values=timed)
    assert from_file(str(tmp_path / "seen.npz")).count == 20


def test_arrays_that_change_places_or_hold_no_places(tmp_path):
    stars, seen = np.array([[5.0, 3], [0, 4]]), np.array([[1.0, 1], [0, 1]])
    np.savez(tmp_path / "seen.npz", mask=stars, values=seen)
    told(tmp_path / "seen.npz", "`mask` holds 5; expected 0 or 1")
    np.savez(tmp_path / "seen.npz", mask=np.array([[np.nan, 1]]), values=np.ones((1, 2)))
    told(tmp_path / "seen.npz", "`mask` holds nan")
    torch.save({"target_tensor": torch.ones(2, 2, 2), "train_indices_order": [0.5, 1]}, tmp_path / "seen.pt")
    told(tmp_path / "seen.pt", "`train_indices_order` holds a number that is not an integer")


TOO_LARGE = r"does not fit into memory: it needs [\d,.]+ GiB, this machine has [\d.]+ GiB"


def header(shape) -> bytes:
    """A .npy file's beginning, and nothing of its array."""
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return stream.getvalue()


def test_the_size_of_an_array_is_read_from_its_header(tmp_path):
    (tmp_path / "seen.npy").write_bytes(header((10**6, 10**6)))
    told(tmp_path / "seen.npy", r"the array of shape \[1000000, 1000000\] " + TOO_LARGE)
    (tmp_path / "seen.npy").write_bytes(header((30, 30)) + bytes(100))
    told(tmp_path / "seen.npy", r"the array of shape \[30, 30\] is longer than the file")
    (tmp_path / "seen.npy").write_bytes(header((10**6, 10**6))[:20])
    told(tmp_path / "seen.npy", "it may be torn")
    np.save(tmp_path / "seen.npy", np.ones((2, 2)))
    (tmp_path / "truth.npy").write_bytes(header((10**6, 10**6)))
    with pytest.raises(DataError, match=r"observations\.ground_truth: .*" + TOO_LARGE):
        from_file(str(tmp_path / "seen.npy"), ground_truth=str(tmp_path / "truth.npy"))


@pytest.fixture
def small_machine(monkeypatch):
    """A machine of 8 MiB; no test may take more than it would have."""
    monkeypatch.setattr("rankward.config.checks.machine_memory", lambda: 2.0**23)
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**23


@pytest.mark.parametrize("name", ["mask", "A", "target_tensor"])
def test_a_small_file_of_a_large_array_is_not_unpacked(tmp_path, small_machine, name):
    beside = {"mask": "values", "A": "y", "target_tensor": "train_indices_order"}[name]
    with zipfile.ZipFile(tmp_path / "seen.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for member, rows in ((name, 2000), (beside, 2)):
            with archive.open(f"{member}.npy", "w") as stream:
                stream.write(header((rows, 100, 20)))
                for _ in range(rows):
                    stream.write(bytes(16_000))
    assert (tmp_path / "seen.npz").stat().st_size < 2**18
    told(tmp_path / "seen.npz", rf"`{name}` of shape \[2000, 100, 20\] " + TOO_LARGE)


def test_an_archive_s_other_arrays_are_left_alone(tmp_path, small_machine):
    np.savez(tmp_path / "seen.npz", values=WHOLE)
    with zipfile.ZipFile(tmp_path / "seen.npz", "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("more.npy", header((10**6, 10**6)))
    assert from_file(str(tmp_path / "seen.npz")).count == 4


def test_a_tensor_that_repeats_one_number_is_not_written_out(tmp_path):
    torch.save({"values": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "seen.pt")
    told(tmp_path / "seen.pt", r"`values` of shape \[1000000, 1000000\] " + TOO_LARGE)


def test_records_of_a_pt_are_not_unpacked(tmp_path, small_machine):
    with (
        zipfile.ZipFile(tmp_path / "seen.pt", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("seen/data/0", "w") as stream,
    ):
        for _ in range(2**5):
            stream.write(bytes(2**20))
    told(tmp_path / "seen.pt", "what it holds " + TOO_LARGE)


@pytest.mark.filterwarnings("ignore")  # of torch about its own sparse, nested and quantized tensors
def test_tensors_that_are_not_plain_numbers(tmp_path):
    seen = torch.ones(2, 2, dtype=torch.bool)
    twice = torch.sparse_coo_tensor([[0, 0], [1, 1]], [1.0, 2.0], (2, 2))
    for words, values in {
        "`values` is a torch.complex64 tensor": torch.eye(2, dtype=torch.complex64).conj(),
        "`values` is a meta tensor": torch.empty(2, 2, device="meta"),
        "`values` is a nested tensor": torch.nested.nested_tensor([torch.ones(2), torch.ones(1)]),
        "`values` is a sparse tensor that has an entry twice": twice,
        "`values` holds no array of numbers but of type object": [torch.ones(2).requires_grad_(), torch.ones(1)],
    }.items():
        torch.save({"mask": seen, "values": values}, tmp_path / "seen.pt")
        told(tmp_path / "seen.pt", words)
    torch.save({"values": torch.eye(2).to_sparse()}, tmp_path / "seen.pt")
    told(tmp_path / "seen.pt", "a sparse tensor without a `mask`; .* zeros or not observed: save `mask` and `values`")
    torch.save(torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 9).state_dict(), tmp_path / "seen.pt")
    told(tmp_path / "seen.pt", r"holds 0.bias, .*\(and 12 more\); expected arrays named A and y, mask and values")
    torch.save([seen, seen], tmp_path / "seen.pt")
    told(tmp_path / "seen.pt", "holds a list; expected arrays named")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "change",
    [
        lambda values: values.requires_grad_(),
        torch.nn.Parameter,
        torch.Tensor.bfloat16,
        torch.Tensor.half,
        torch.Tensor.to_sparse,
        torch.Tensor.to_sparse_csr,
        lambda values: values.to(torch.float8_e4m3fn),
        lambda values: torch.quantize_per_tensor(values, 0.5, 0, torch.qint8),
        lambda values: torch.complex(values, -values).conj().imag,  # a view with the negative bit
        lambda values: values.T.contiguous().T,
        lambda values: values.tolist(),
    ],
)
def test_tensors_of_any_real_type_and_layout(tmp_path, change):
    values = torch.tensor([[1.5, 0.0, 2.0], [0.0, 0.5, -3.0]])  # exact in all of these types
    mask = torch.tensor([[1, 0, 1], [0, 1, 1]])
    for seen in (mask, mask.bool(), mask.half(), mask.T.contiguous().T, mask.to_sparse()):
        torch.save({"mask": seen, "values": change(values.clone())}, tmp_path / "seen.pt")
        made = from_file(str(tmp_path / "seen.pt"))
        np.testing.assert_array_equal(made.mask, [[True, False, True], [False, True, True]])
        np.testing.assert_array_equal(made.values, [[1.5, 0, 2], [0, 0.5, -3]])


def test_single_unnamed_array_is_the_full_array(tmp_path):
    np.savez(tmp_path / "seen.npz", WHOLE)
    torch.save(torch.nn.Parameter(torch.from_numpy(WHOLE)), tmp_path / "seen.pt")
    for name in ("seen.npz", "seen.pt"):
        made = from_file(str(tmp_path / name))
        np.testing.assert_array_equal(np.where(made.mask, made.values, np.nan), WHOLE)
    np.savez(tmp_path / "seen.npz", WHOLE, WHOLE)
    told(tmp_path / "seen.npz", "holds arr_0, arr_1; expected arrays named")


@pytest.mark.parametrize("kind", [bool, np.int8, np.float32, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_count_keeps_the_first_of_a_mask_of_any_order_and_type(tmp_path, kind, order):
    mask = np.array([[0, 1, 0], [1, 1, 1], [1, 1, 1], [1, 1, 1]]).astype(kind)
    values = np.arange(12.0).reshape(4, 3)
    np.savez(tmp_path / "seen.npz", mask=np.asarray(mask, order=order), values=np.asarray(values, order=order))
    made = from_file(str(tmp_path / "seen.npz"), count=3)
    np.testing.assert_array_equal(made.values, [[0, 1, 0], [3, 4, 0], [0, 0, 0], [0, 0, 0]])
    assert made.mask.sum() == 3 and made.mask.flags.c_contiguous and made.values.flags.c_contiguous
    np.save(tmp_path / "seen.npy", np.asarray(np.where(mask == 1, values, np.nan), order=order))
    np.testing.assert_array_equal(from_file(str(tmp_path / "seen.npy"), count=3).values, made.values)


@pytest.mark.parametrize("kind", ["c16", "O", "U3", "M8[s]", "V2", [("row", "i4"), ("value", "f8")]])
def test_arrays_of_anything_but_real_numbers_are_refused(tmp_path, kind):
    np.save(tmp_path / "seen.npy", np.zeros((2, 2), dtype=kind))
    told(tmp_path / "seen.npy", "no array of numbers but of type")


def test_a_masked_array_loses_its_mask_in_no_way(tmp_path):
    masked = np.ma.masked_array(np.ones((2, 2)), [[True, False], [False, False]])
    masked.dump(tmp_path / "seen.npy")
    told(tmp_path / "seen.npy", "a pickle, which is not executed")
    with pytest.raises(DataError, match="values is a masked array; give mask=~array.mask and values=array.data"):
        EntryMask(np.ones((2, 2), dtype=bool), masked)


@pytest.mark.parametrize(
    ("mask", "values", "words"),
    [
        ("int", "float", "mask is of type int64; expected booleans"),
        ("bool", "complex", "values is of type complex128; expected real numbers"),
    ],
)
def test_a_mask_of_a_function_is_of_booleans_and_its_values_are_real(mask, values, words):
    code = f"import numpy as np; from rankward.observations import EntryMask; EntryMask(np.ones((2, 2), {mask}), np.ones((2, 2), {values}))"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )  # without the tests' own checks of types
    assert ended.stderr.splitlines()[
        -1
    ] == f"rankward.config.errors.DataError: observations: {words}" + ", true where an entry is observed" * (
        mask == "int"
    )


@pytest.mark.parametrize("ending", ["csv", "npy", "npz", "pt"])
def test_an_ending_may_be_in_capitals(tmp_path, ending):
    write = {
        "csv": lambda stream: np.savetxt(stream, WHOLE, delimiter=","),
        "npy": lambda stream: np.save(stream, WHOLE),
        "npz": lambda stream: np.savez(stream, values=WHOLE),
        "pt": lambda stream: torch.save({"values": torch.from_numpy(WHOLE)}, stream),
    }[ending]
    with (tmp_path / f"SEEN.{ending.upper()}").open("wb") as stream:
        write(stream)
    np.testing.assert_array_equal(from_file(str(tmp_path / f"SEEN.{ending.upper()}")).mask, ~np.isnan(WHOLE))
    if ending in ("csv", "npy"):
        (tmp_path / f"TRUTH.{ending.upper()}").write_bytes(b"")
        with pytest.raises(DataError, match=r"observations\.ground_truth: .*(no observation|torn)"):
            from_file(str(tmp_path / f"SEEN.{ending.upper()}"), ground_truth=str(tmp_path / f"TRUTH.{ending.upper()}"))


def test_memory_for_csv_lines_and_indices_is_checked_first(tmp_path, small_machine):
    (tmp_path / "seen.csv").write_text("0,0,1\n9000000000,1,2\n")
    told(tmp_path / "seen.csv", "a 9000000001x2 matrix " + TOO_LARGE)
    (tmp_path / "seen.csv").write_text(f"0,0,1\n{10**25},1,2\n")
    told(tmp_path / "seen.csv", rf"a {10**25 + 1}x2 matrix " + TOO_LARGE.replace("[\\d,.]", "[\\de+.]"))
    with (tmp_path / "seen.csv").open("w") as lines:
        for _ in range(100_000):
            lines.write("0,0,1\n")
    told(tmp_path / "seen.csv", "a text of 600,000 bytes " + TOO_LARGE)
    (tmp_path / "seen.csv").write_text("0,0," + "1" * 140_000)
    told(tmp_path / "seen.csv", "not a text file of values")
