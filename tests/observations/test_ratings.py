"""Lists of entries as people have them: every spelling gives the same numbers, what may be two things is refused."""

import gzip
import io

import numpy as np
import polars as pl
import pytest
import scipy.sparse
import torch
from safetensors.torch import save_file
from scipy.io import savemat

from rankward.config import DataError, choices
from rankward.observations import EntryMask, Ids, from_array, from_file, from_matrix, from_ratings, hold_out, text

random = np.random.default_rng(0)
PLACES = random.permutation(30)[:17]
TABLE = np.column_stack([PLACES // 5 + 1, PLACES % 5 + 1, random.integers(1, 11, 17) / 2 + 0.25, 881250949 + PLACES])
TABLE = np.vstack([TABLE, [6, 5, 4.5, 1]])[np.unique([*PLACES, 29], return_index=True)[1]]


def written(mark=",", header=False, decimal=".", end="\n", quote=""):
    """The table as a text."""
    lines = [f"{int(u)};{int(i)};{v:g};{int(t)}".replace(".", decimal).split(";") for u, i, v, t in TABLE]
    lines = [["user", "item", "stars", "when"]] * header + lines
    return "".join(mark.join(f"{quote}{cell}{quote}" for cell in cells) + end for cells in lines)


SPELLINGS = {
    "a.csv": written().encode(),
    "b.tsv": written("\t").encode(),
    "c.dat": written("::").encode(),
    "d.txt": written(" ").encode(),
    "e.txt": written("   ", end="  \n").encode(),
    "f.csv": written(";", header=True, decimal=",", end="\r\n").encode("utf-8-sig"),
    "g.csv": written("|", end="\r").encode(),
    "h.csv": b"# made by hand\n" + written(header=True, quote='"').encode().rstrip(b"\n"),
    "i.csv": b"sep=;\r\n" + written(";", end="\r\n\r\n").encode(),
    "j.csv.gz": gzip.compress(written("\t", header=True, decimal=",").encode("utf-8-sig")),
    "ratings.base": written("\t").encode(),
}


@pytest.fixture(scope="module")
def expected():
    """NumPy's reading."""
    read = np.loadtxt(io.StringIO(written()), delimiter=",")
    values = np.full((6, 5), np.nan)
    values[read[:, 0].astype(int) - 1, read[:, 1].astype(int) - 1] = read[:, 2]
    return values


def put(folder, name, content):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(folder / name)


def entries(made):
    return np.where(made.mask, made.values, np.nan)


def refused(read, words, **more):
    with pytest.raises(DataError, match=words) as caught:
        read(**more)
    assert str(caught.value).startswith("observations.") and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", SPELLINGS)
def test_the_same_numbers_for_every_spelling(tmp_path, name, expected):
    made = from_ratings(put(tmp_path, name, SPELLINGS[name]))
    np.testing.assert_array_equal(entries(made), expected)
    assert [ids.tolist() for ids in made.ids.ids] == [[*range(1, 7)], [*range(1, 6)]]
    assert f"{name}: {len(TABLE)} entries, 6 x 5, ids from 1, column 3" in made.note and "ignored: " in made.note


def test_parquet_and_pandas_floats_are_read_likewise(tmp_path, expected):
    frame = pl.DataFrame(TABLE[:, [2, 0, 1]], schema=["stars", "user", "item"])
    frame.write_parquet(tmp_path / "r.parquet")
    made = from_ratings(str(tmp_path / "r.parquet"), columns=["user", "item", "stars"])
    np.testing.assert_array_equal(entries(made), expected)
    assert made.ids.axes == ("user", "item")
    frame.with_columns(user=pl.lit([1])).write_parquet(tmp_path / "r.parquet")
    refused(from_ratings, "column 'user' holds List", path=str(tmp_path / "r.parquet"))
    put(tmp_path, "r.parquet", (tmp_path / "r.parquet").read_bytes()[:90])
    refused(from_ratings, "torn", path=str(tmp_path / "r.parquet"))


def test_the_line_says_what_was_understood(tmp_path):
    made = from_ratings(put(tmp_path, "u.data", "196\t242\t3\t881250949\n1\t1\t2.5\t891717742\n"))
    assert made.note == (
        "u.data: 2 entries, 196 x 242, ids from 1, column 3 is the value, from 2.5 to 3, separated by tab; "
        "columns ignored: 4; ids of 'row' without an entry: 194; ids of 'column' without an entry: 240"
    )


def test_names_are_numbered_in_order_and_the_map_is_kept(tmp_path):
    path = put(
        tmp_path, "n.csv", 'when,stars,user,film\n1,4,Bo,"Heat, the"\n2,,Ann,Heat\n3,2,Ann,"Heat, the"\n9,5,Ann,Up\n'
    )
    made = from_ratings(path, columns=["user", "film", "stars"])
    assert [each.tolist() for each in made.ids.ids] == [["Ann", "Bo"], ["Heat", "Heat, the", "Up"]]
    np.testing.assert_array_equal(entries(made), [[np.nan, 2, 5], [np.nan, 4, np.nan]])
    assert "ids are names, ids in column 3 'user' and column 4 'film', column 2 'stars' is the value" in made.note
    assert "lines without a value left out: 1" in made.note
    back = Ids.of_table(pl.DataFrame(made.ids.columns()))
    assert back.axes == made.ids.axes and [each.tolist() for each in back.ids] == [e.tolist() for e in made.ids.ids]
    split = hold_out(made, put(tmp_path, "h.tsv", "when\tstars\tuser\tfilm\n0\t5.0\tAnn\tUp\n"))
    assert (split.count, split.heldout.values[0, 2]) == (2, 5)
    refused(
        hold_out,
        "'Eve' is no id of 'user'",
        measurement=made,
        holdout=put(tmp_path, "h.csv", "user,film,stars\nEve,Up,5\n"),
    )
    by_number = from_ratings(path, columns=[3, 4, 2], count=3)
    np.testing.assert_array_equal(by_number.values, made.values * [1, 1, 0])


@pytest.mark.parametrize(
    ("text", "more", "values"),
    [
        ("0,1,5\n2,0,4\n", {}, [[0, 5], [0, 0], [4, 0]]),
        ("2,1,5\n3,1,4\n", {"ids": 0}, [[0, 0], [0, 0], [0, 5], [0, 4]]),
        ("2,1,5\n3,1,4\n", {"ids": 1, "dims": [3, 2]}, [[0, 0], [5, 0], [4, 0]]),
        ("20,1,5\n3,1,4\n", {"ids": "names"}, [[4], [5]]),
        ("x,1,5\na,2,4\n", {}, [[0, 4], [5, 0]]),
        ("1,5\n3,4\n", {"dims": [3]}, [5, 0, 4]),
        ("1,1,2,5,9\n2,2,1,4,9\n", {"dims": [2, 2, 2]}, [[[0, 5], [0, 0]], [[0, 0], [4, 0]]]),
        ("1,1,5\n1,1,2\n2,1,1\n", {"duplicates": "mean"}, [[3.5], [1]]),
        ("1,1,5\n1,1,2\n2,1,1\n", {"duplicates": "last"}, [[2], [1]]),
        ("1,1,NA\n1,1,2\n2,1,1\n", {}, [[2], [1]]),
        ("1,1,\"1,500\"\n", {"decimal": "comma"}, [[1.5]]),
        ("a b,1 c,3\n", {"header": False, "separator": "comma"}, [[3]]),
    ],
)  # fmt: skip
def test_ids_duplicates_and_holes(tmp_path, text, more, values):
    made = from_ratings(put(tmp_path, "r.csv", text), **more)
    np.testing.assert_array_equal(made.values, values)


@pytest.mark.parametrize(
    ("text", "more", "words"),
    [
        ("2,1,5\n3,1,4\n", {}, r"smallest ids are 2 in 'row' and 1 in 'column': observations\.ids=0, 1 or names"),
        ("0,1,5\n", {"ids": 1}, "has the id 0, and observations.ids is 1"),
        ("x,1,5\n", {"ids": 1}, r"'x' in 'row' is no integer from 1: observations\.ids=names"),
        ("-1,1,5\n", {}, r"below 0: observations\.ids=names"),
        ("1,1,5\n1,9,5\n", {"dims": [2, 2]}, r"observations\.dims: \[2, 2\] has no place for the id 9"),
        ("1,1,5\n1,1,5\n", {}, r"entry \(1, 1\) is listed 2 times: observations\.duplicates=mean or last"),
        ("1,1,5\n1,2\n", {}, "line 2 has 2 cells, the first line has 3: it may be torn"),
        ("1,1,5\n\n1,2,3,4\n", {}, "line 3 has 4 cells"),
        ("1,1,5\n1,2,x\n", {}, r"line 2: the value 'x' in column 3 is not a number: observations\.columns"),
        ("u,i,r\n1,1,5\n1,2,inf\n", {}, "line 3: the value 'inf' in column 3 is not finite"),
        ("1,1,5\n,2,3\n", {}, "line 2: column 1 has no id"),
        ("rating,user,item\n5,1,1\n", {}, r"column 1 is named 'rating', and column 3 .*observations\.columns says"),
        ("1,1,5\n", {"columns": ["u", 2, 3]}, "'u' is a name, and the file has no header|is no column"),
        ("u,i,r\n1,1,5\n", {"columns": ["u", "j", "r"]}, r"observations\.columns: 'j' is no column.*has u, i, r"),
        ("1,1,5\n", {"columns": [1, 2, 7]}, "7 is not one of the file's 3 columns"),
        ("1,1\n", {}, r"has 2 columns; expected 2 of ids and one of values .*observations\.dims"),
        ("u,i,r\n", {}, "no observation"),
        ("1,1,NA\n", {}, "no entry has a value"),
        ("1;1;1,500\n", {}, r"observations\.decimal=comma"),
        ("1;1;1,5\n1;2;1.5\n", {}, r"commas and points .*observations\.decimal"),
        ("1;1;1.5\n", {"decimal": "comma"}, "has a point in it"),
        ("a;b,c\nd;e,f\n", {}, r"separated by comma or semicolon: observations\.separator says which"),
        ("1,881250949123,5\n0,1,2\n", {}, r"does not fit into memory: .*observations\.ids=names"),
        ("", {}, "no observation"),
        (b"\x1f\x8b\x08torn", {}, "torn"),
        (gzip.compress(written().encode())[:-9], {}, "torn"),
        ("1,1,5\n".encode("utf-16"), {}, "not a text file of values"),
        (b"1,1,5\0\n", {}, "not a text file of values"),
        (b"caf\xe9,1,5\n", {}, "not a text file of values"),
    ],
)  # fmt: skip
def test_ambiguous_hostile_and_torn_lists_are_refused_in_a_line(tmp_path, text, more, words):
    refused(from_ratings, words, path=put(tmp_path, "r.csv", text), **more)


def test_a_small_gzip_file_of_a_large_text_is_not_unpacked(tmp_path, monkeypatch):
    path = put(tmp_path, "r.csv.gz", gzip.compress(b"1,1,5\n" * 2**20))
    monkeypatch.setattr("rankward.config.checks.machine_memory", lambda: 2.0**23)
    refused(from_ratings, "a text of [0-9,]+ bytes does not fit into memory", path=path)


WHOLE = np.array([[1.5, np.nan, 2], [np.nan, 0, -3]])


def test_a_whole_matrix_in_files_of_every_kind(tmp_path):
    for kind in (np.float16, np.float32, ">f8", np.longdouble):
        for order in "CF":
            np.save(tmp_path / "m.npy", np.asarray(WHOLE, dtype=kind, order=order))
            np.testing.assert_array_equal(entries(from_matrix(str(tmp_path / "m.npy"))), WHOLE)
    savemat(tmp_path / "m.mat", {"X": WHOLE})
    torch.save(torch.from_numpy(WHOLE).bfloat16(), tmp_path / "m.pt")
    save_file({"weights": torch.from_numpy(WHOLE).bfloat16()}, tmp_path / "m.safetensors")
    np.savez(tmp_path / "m.npz", WHOLE)
    np.savetxt(tmp_path / "m.txt", WHOLE)
    put(tmp_path, "m.tsv", "1,5\t\t2\nNA\t0,0\t-3,0\n")
    put(tmp_path, "m.csv.gz", gzip.compress(b"1.5,,2\r\n,0,-3\r\n"))
    for name in ("m.mat", "m.pt", "m.safetensors", "m.npz", "m.txt", "m.tsv", "m.csv.gz"):
        for read in (from_file, from_matrix):
            np.testing.assert_array_equal(entries(read(str(tmp_path / name))), WHOLE, err_msg=name)
        truth = from_matrix(str(tmp_path / "m.npy"), ground_truth=str(tmp_path / name)).ground_truth
        np.testing.assert_array_equal(truth, WHOLE)
    pl.DataFrame({"id": ["x", "y"], "a": [1.5, None], "b": [None, 0], "c": [2, -3]}).write_parquet(tmp_path / "m.pq")
    put(tmp_path, "named.csv", "user,a,b,c\nx,1.5,,2\ny,,0,-3\n")
    for name in ("m.pq", "named.csv"):
        made = from_matrix(str(tmp_path / name))
        np.testing.assert_array_equal(entries(made), WHOLE)
        assert [ids.tolist() for ids in made.ids.ids] == [["x", "y"], ["a", "b", "c"]]
        assert "4 of 6 entries, 2 x 3, values from -3 to 2; " in made.note and "name" in made.note


def test_one_of_several_arrays_is_named(tmp_path):
    arrays = {"first": np.ones((2, 2)), "second": WHOLE}
    savemat(tmp_path / "m.mat", arrays)
    np.savez(tmp_path / "m.npz", **arrays)
    save_file({name: torch.from_numpy(array) for name, array in arrays.items()}, tmp_path / "m.safetensors")
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, tmp_path / "m.pt")
    for name in ("m.mat", "m.npz", "m.safetensors", "m.pt"):
        path = str(tmp_path / name)
        for read in (from_file, from_matrix):
            np.testing.assert_array_equal(entries(read(path, array="second")), WHOLE)
            refused(read, r"holds first, second.*observations\.array", path=path)
            refused(read, r"'third' is not in the file, which holds first, second", path=path, array="third")


def test_containers_that_hold_no_whole_array_are_refused(tmp_path):
    savemat(tmp_path / "m.mat", {"X": scipy.sparse.eye(3, format="csc")})
    refused(from_matrix, "sparse matrix without a `mask`", path=str(tmp_path / "m.mat"))
    savemat(tmp_path / "m.mat", {"X": np.array([[1, "a"]], dtype=object)})
    refused(from_matrix, "no array of numbers", path=str(tmp_path / "m.mat"))
    put(tmp_path, "m.mat", b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM" + bytes(400))
    refused(from_matrix, "version 7.3", path=str(tmp_path / "m.mat"))
    for name in ("m.mat", "m.safetensors", "m.pq"):
        refused(from_matrix, "torn", path=put(tmp_path, name, b"\x93torn"))
    np.save(tmp_path / "m.npy", np.array([None, 1]))
    refused(from_matrix, "not executed|no array of numbers", path=str(tmp_path / "m.npy"))
    pl.DataFrame({"a": [1.0]}).write_parquet(tmp_path / "m.pq")
    refused(from_file, "observations=ratings.*observations=matrix", path=str(tmp_path / "m.pq"))


def test_a_masked_array_is_observed_where_it_is_not_masked():
    made = from_array(np.ma.masked_array(np.array([[1, 2], [3, 4]], dtype=np.int8), [[True, False], [False, False]]))
    assert isinstance(made, EntryMask)
    np.testing.assert_array_equal(entries(made), [[np.nan, 2], [3, 4]])
    with pytest.raises(DataError, match="no array of numbers"):
        from_array(np.array([1 + 1j]))


def test_options_without_effect_are_refused(tmp_path):
    np.save(tmp_path / "m.npy", WHOLE)
    pl.DataFrame({"u": [1], "i": [1], "r": [2.0]}).write_parquet(tmp_path / "r.parquet")
    text = put(tmp_path, "m.csv", "1.5,,2\n,0,-3\n")
    for read, path, key, value in (
        (from_file, tmp_path / "m.npy", "separator", "tab"),
        (from_matrix, tmp_path / "m.npy", "decimal", "comma"),
        (from_file, text, "array", "x"),
        (from_matrix, text, "array", "x"),
        (from_ratings, tmp_path / "r.parquet", "separator", "tab"),
        (from_ratings, tmp_path / "r.parquet", "header", True),
    ):
        refused(read, rf"observations\.{key}: .* has no effect; expected null", path=str(path), **{key: value})


def test_the_names_of_separators_are_those_of_the_config():
    assert tuple(text.SEPARATORS) == choices.SEPARATORS


@pytest.mark.parametrize("mark", [";", "\t", "|"])
@pytest.mark.parametrize("header", ["", "user;item;rating\n"])
def test_decimal_commas_do_not_separate_cells(tmp_path, mark, header):
    """With ids that are names, a comma splits these lines evenly, too."""
    lines = header + "Anna;Alien;2,34\nEve;Dune;4,5\nAnna;Dune;1,25\nEve;Alien;3,0\n"
    (tmp_path / "r.csv").write_text(lines.replace(";", mark))
    read = from_ratings(str(tmp_path / "r.csv"))
    assert read.values.tolist() == [[2.34, 1.25], [3.0, 4.5]]
