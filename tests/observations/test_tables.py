"""CSVs as pandas, R, Excel and people write them: read right, or refused in a line."""

import numpy as np
import pytest

from rankward.config import DataError
from rankward.observations import from_file

N = np.nan
MATRIX = [[1.5, N, 0.5], [N, 2.0, 1.0], [0.25, 0.75, N]]
ROWS = ("1.5,,0.5", ",2.0,1.0", "0.25,0.75,")


def read(tmp_path, text, **more):
    (tmp_path / "seen.csv").write_text(text, encoding="utf-8", newline="")
    return from_file(str(tmp_path / "seen.csv"), **more)


def entries(tmp_path, text, **more):
    made = read(tmp_path, text, **more)
    return np.where(made.mask, made.values, N)


def refused(tmp_path, text, words, **more):
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path, text, **more)
    assert str(caught.value).startswith("observations.path: ") and "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        ",0,1,2\n0,{}\n1,{}\n2,{}\n",  # pandas: to_csv()
        ",a,b,c\n0,{}\n1,{}\n2,{}\n",  # pandas: columns with names
        ",a,b,c\nx,{}\ny,{}\nz,{}\n",  # and rows
        ",a,b,c\n2020-01-01,{}\n2020-01-02,{}\n2020-01-03,{}\n",
        "user,0,1,2\n0,{}\n1,{}\n2,{}\n",  # pandas: an index with a name
        "userId,10,20,30\n3,{}\n7,{}\n9,{}\n",  # pandas: a pivot table
        "userId,1.0,2.0,3.0\n1.0,{}\n2.0,{}\n3.0,{}\n",
        "user,a,b,c\nx,{}\ny,{}\nz,{}\n",
        "Unnamed: 0,a,b,c\n0,{}\n1,{}\n2,{}\n",  # pandas: saved, read and saved
        ",0,1,2\nx,{}\ny,{}\nz,{}\n",
        '"","V1","V2","V3"\n"1",{}\n"2",{}\n"3",{}\n',  # R: write.csv
        '"","V1","V2","V3"\n"x",{}\n"y",{}\n"z",{}\n',
        '"V1","V2","V3"\n"1",{}\n"2",{}\n"3",{}\n',  # R: write.table(sep=",")
        "x,{}\ny,{}\nz,{}\n",  # pandas: header=False
        "code,NA,DE,FR\nx,{}\ny,{}\nz,{}\n",  # Namibia is no hole
    ],
)
def test_names_of_rows_and_columns_are_no_entries(tmp_path, text):
    made = read(tmp_path, text.format(*ROWS))
    np.testing.assert_array_equal(np.where(made.mask, made.values, N), MATRIX)
    assert "6 entries of 3 x 3" in made.note and "column 1 hold" in made.note
    made = read(tmp_path, text.format(*ROWS), dims=[3, 3], count=2)
    np.testing.assert_array_equal(made.values, [[1.5, 0, 0.5], [0, 0, 0], [0, 0, 0]])
    truth = text.format("1,2,3", "4,5,6", "7,8,9.5")
    (tmp_path / "truth.csv").write_text(truth)
    made = from_file(str(tmp_path / "seen.csv"), ground_truth=str(tmp_path / "truth.csv"))
    np.testing.assert_array_equal(made.ground_truth, [[1, 2, 3], [4, 5, 6], [7, 8, 9.5]])


def test_matrix_with_names_may_be_fully_observed(tmp_path):
    np.testing.assert_array_equal(entries(tmp_path, ",a,b\n0,1.5,1\n1,2.5,0\n"), [[1.5, 1], [2.5, 0]])
    np.testing.assert_array_equal(entries(tmp_path, ",a,b,c\nx,1,5,3\ny,2,4,1\n"), [[1, 5, 3], [2, 4, 1]])
    text = ",a,b,c\n0,1,5,3\n1,2,4,1\n"  # pandas has numbered the rows: of a matrix, or of a list of entries
    refused(tmp_path, text, r"hold names, and the rest may be lines .* observations\.dims=\[2,3\] says so")
    np.testing.assert_array_equal(entries(tmp_path, text, dims=[2, 3]), [[1, 5, 3], [2, 4, 1]])


@pytest.mark.parametrize(
    ("text", "names", "all_cells"),
    [
        (",0,1\n0,,1.0\n1,1.0,0.0\n", [[N, 1], [1, 0]], [[N, 0, 1], [0, N, 1], [1, 1, 0]]),
        (",10,20\n5,4,\n6,,3\n", [[4, N], [N, 3]], [[N, 10, 20], [5, 4, N], [6, N, 3]]),
        (",0,1,2\n0.5,4,,\n1.5,,3,1\n", [[4, N, N], [N, 3, 1]], [[N, 0, 1, 2], [0.5, 4, N, N], [1.5, N, 3, 1]]),
        ("0,1,2\n1.5,,0.5\n", [[1.5, N, 0.5]], [[0, 1, 2], [1.5, N, 0.5]]),
        ("1,2,3\n1.5,,0.5\n", [[1.5, N, 0.5]], [[1, 2, 3], [1.5, N, 0.5]]),
        ("0,1.5,\n1,,2.0\n", [[1.5, N], [N, 2]], [[0, 1.5, N], [1, N, 2]]),
        ("id,a,b\n0,1.5,\n1,,2\n", [[1.5, N], [N, 2]], [[0, 1.5, N], [1, N, 2]]),
        ("user,4,3\nx,,3\ny,2,\n", [[N, 3], [2, N]], [[4, 3], [N, 3], [2, N]]),
    ],
)
def test_names_that_may_be_entries_are_decided_by_dims(tmp_path, text, names, all_cells):
    for expected in (names, all_cells):
        m, n = np.shape(expected)
        refused(tmp_path, text, rf"may be read in 2 ways: .*observations\.dims=\[{m},{n}\] says that")
        made = read(tmp_path, text, dims=[m, n])
        np.testing.assert_array_equal(np.where(made.mask, made.values, N), expected)
        assert "name" in made.note or "all cells are entries" in made.note
    refused(tmp_path, text, r"observations\.dims: \[9, 9\] is not the file's", dims=[9, 9])


@pytest.mark.parametrize(
    ("text", "matrix"),
    [
        (",1\n1,0\n", [[N, 1], [1, 0]]),  # Equation 6
        ("0,1\n1,\n", [[0, 1], [1, N]]),
        (",1,0\n1,0,0\n0,0,1\n", [[N, 1, 0], [1, 0, 0], [0, 0, 1]]),  # Appendix E
        ("a,b,c\n1.5,,2\n1.5,0,-3e2\n", [[1.5, N, 2], [1.5, 0, -300]]),
        ('"a","b"\r\n"1.5",""\r\n"0","2"\r\n', [[1.5, N], [0, 2]]),
        ("1.5,,2\r,1,\r1,1,1\r", [[1.5, N, 2], [N, 1, N], [1, 1, 1]]),
        ("\ufeffsep=,\n1.5,,2\n\n  \n,1,4\n", [[1.5, N, 2], [N, 1, 4]]),
        ("# made by hand\n#\n1.5,,2\n,1,4\n", [[1.5, N, 2], [N, 1, 4]]),
        ('a\n1.5\n""\n2\n', [[1.5], [N], [2]]),
    ],
)
def test_a_matrix_without_names_of_rows(tmp_path, text, matrix):
    np.testing.assert_array_equal(entries(tmp_path, text), matrix)


@pytest.mark.parametrize(
    "hole", ["NA", "N/A", "#N/A", "NULL", "null", "None", "<NA>", "-", "--", "?", ".", "-nan", " "]
)
def test_words_for_a_hole(tmp_path, hole):
    text = f"1.0,{hole},0.5\n{hole},2.0,-1.0\n"
    np.testing.assert_array_equal(entries(tmp_path, text), [[1, N, 0.5], [N, 2, -1]])
    np.testing.assert_array_equal(entries(tmp_path, "a,b,c\n" + text), [[1, N, 0.5], [N, 2, -1]])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1.5,x,2\n0,,2\n", "line 1: a cell is not a number: x"),
        ("1.5,,2\n#VALUE!,1,2\n", "line 2: a cell is not a number: #VALUE!"),
        (",Unnamed: 0,a\n0,0,1.5\n1,1,\n", r"line 1 has no name for column 2: .*index=False.*row\.names=FALSE"),
        (",b,c\n1.5,,2\n,1,2\n", "line 1 has no name for column 1"),
        ("a,b,\n1.5,,\n,2,\n", "line 1 has no name for column 3"),
        (",a,b\n", "no observation"),
        ("My title\n1.5,\n,2\n", "line 1 has no name for column 1"),
        ("a,b\n1,,\n2,1,\n", "line 1 has 2 cells and each other line ends with a comma: leave it out"),
        ("1.5,,\n,2,\n", r"each line ends with a comma: leave it out, or observations\.dims=\[2,3\] says"),
        ("1.5,,2\n,1,\n,,\n", r"the last line has empty cells: leave it out, or observations\.dims=\[3,3\] says"),
        ('"1,5",""\n"","2,5"\n', r"commas in them .*observations\.decimal=comma"),
        ('a,b\n"1,5",\n"2,5",1\n', r"commas in them .*observations\.decimal=comma"),
        (",2020-01-01\nx,1.5\n", "2020-01-01"),
        (",,a,b\nx,0,1.5,\nx,1,,2\n", "no name for column 2"),
    ],
)
def test_a_matrix_that_cannot_be_read_is_refused(tmp_path, text, words):
    refused(tmp_path, text, words)


def test_dims_say_that_the_last_row_or_column_is_not_observed(tmp_path):
    np.testing.assert_array_equal(entries(tmp_path, "1.5,,\n,2,\n", dims=[2, 3]), [[1.5, N, N], [N, 2, N]])
    np.testing.assert_array_equal(entries(tmp_path, "1.5,2\n,\n", dims=[2, 2]), [[1.5, 2], [N, N]])


def test_a_list_of_entries_as_others_write_it(tmp_path):
    expected = [[N, 2.5], [-1, N]]
    for text in (
        "0,1,2.5\n1,0,-1\n",
        "# row,column,value\n# made on a Tuesday\n0,1,2.5\n1,0,-1\n",
        '"row","column","value"\r\n"0","1","2.5"\r\n"1","0","-1"\r\n',
        "sep=,\n0,1,2.5\n1,0,-1\n",
        "user,item,rating\n0.0,1.0,2.5\n1.0,0.0,-1\n",  # pandas, where a hole has made the indices floats
        "row,col,data\n 0, 1, 2.5\n 1, 0, -1\n",
    ):
        np.testing.assert_array_equal(entries(tmp_path, text), expected)
    np.testing.assert_array_equal(entries(tmp_path, "0.0,1.0,2.5\n1.0,0.0,-1\n", dims=[2, 2]), expected)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("1\t1\t4\n1\t3\t3\n", "observations=ratings reads such"),
        ('0,1,"1,5"\n', "commas in them"),
        ("0,1_0,5\n", "line 1 is not `row,column,value`"),
        ("0,\uff11,5\n", "line 1 is not `row,column,value`"),
        ("0,1,5%\n", "line 1 is not `row,column,value`"),
        ("0,1,5\n# later\n1,0,2\n", "line 2 is not `row,column,value`: # later"),
        ("rating,user,item\n5,0,2\n", "line 1 names column 1 `rating`: the order is row, column"),
        ("col,row,value\n0,1,5\n", "line 1 names column 1 `col`: the order is row, column"),
        (
            "user,item,rating,time\n0,1,5,9\n",
            r"line 1 names column 3 `rating`: .*observations=ratings reads the first three",
        ),
        ("user,item,rating\n0,1,5\n0,,3\n1,2,4\n", "as for lines `row,column,value`, but a cell is empty"),
        (",row,column,value\n0,0,1,1\n1,1,0,1\n", r"but column 1 holds names of rows \(pandas: index=False\)"),
        ('"","row","column","value"\n"1",0,1,5\n', "but column 1 holds names of rows"),
        (",user,item,stars\n0,0,1,1\n1,1,0,1\n", r"the rest may be lines `row,column,value` \(leave the names out\)"),
        ("0,1,1.5\n1,0,2\n,,\n", "may be a matrix, or places of which some have no value"),
        ("0,1,1.5,\n1,0,2,\n", "may be a matrix, or places of which some have no value"),
        ("0.0,1.0,2.5\n1.0,0.0,3\n", r"a whole matrix \(save a \.npy\), or lines whose indices are written as 0\.0"),
        ("1.0e+00,2.0e+00,3.0e+00\n4.0e+00,5.0e+00,6.0e+00\n", r"a whole matrix \(save a \.npy\)"),
        ("inf,1,2\n", "not an integer"),
        ("1,1,5\n2,2,4\n", r"start from 1 \(observations=ratings reads such\); observations\.dims=\[3,3\] says"),
    ],
)
def test_a_list_that_cannot_be_read_is_refused(tmp_path, text, words):
    refused(tmp_path, text, words)


def test_a_time_is_not_taken_for_the_value_of_a_tensor(tmp_path):
    text = "user_id,item_id,rating,timestamp\n1,1,4,3\n2,1,5,2\n"
    refused(tmp_path, text, "names column 3 `rating`", dims=[3, 2, 4])
    made = read(tmp_path, "i,j,k,value\n1,1,0,3\n0,1,1,2\n", dims=[2, 2, 2])
    assert (made.values[1, 1, 0], made.values[0, 1, 1], made.count) == (3, 2, 2)
