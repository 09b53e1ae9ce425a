"""Images as entries: readers against NumPy and scikit-learn, random labels and images, and files that are refused."""

import gzip
import struct
import sys
from unittest import mock

import numpy as np
import pytest
from sklearn.datasets import load_digits

from rankward.config import DataError, InputError
from rankward.config.extras import MissingPackage
from rankward.observations import digits, from_images

random = np.random.default_rng(0)
PIXELS = random.integers(0, 256, (12, 3, 2), dtype=np.uint8)
PIXELS[5] = PIXELS[1]
LABELS = np.array([6, 1, 2, 6, 3, 6, 0, 9, 8, 7, 6, 6], dtype=np.uint8)


def idx(array, magic=None):
    header = struct.pack(">I", 0x800 + array.ndim if magic is None else magic)
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def csv(last=False, header=False):
    flat = PIXELS.reshape(12, -1)
    table = np.column_stack([flat, LABELS] if last else [LABELS, flat])
    lines = [",".join(map(str, row)) for row in table]
    return "\n".join(["label,1x1,1x2,2x1,2x2,3x1,3x2"] * header + lines + [""]).encode()


def rows(made):
    """The samples as sorted rows of indices and value."""
    return sorted(map(tuple, np.column_stack([made.index, made.values]).tolist()))


EXPECTED = sorted(map(tuple, np.column_stack([PIXELS.reshape(12, -1) >= 128, np.where(LABELS == 6, 2, 0)]).tolist()))


@pytest.fixture
def folder(tmp_path):
    contents = {
        "x": idx(PIXELS), "y": idx(LABELS), "x.gz": gzip.compress(idx(PIXELS)), "y.gz": gzip.compress(idx(LABELS)),
        "first.csv": csv(), "named.csv": csv(header=True), "last.csv.gz": gzip.compress(csv(last=True)),
        "x_torn": idx(PIXELS)[:-1], "x_torn.gz": gzip.compress(idx(PIXELS))[:-12], "x_more": idx(PIXELS) + b"\0",
        "x_header": idx(PIXELS)[:9], "y_few": idx(LABELS[:11]), "x_kind": idx(PIXELS, 0xD03), "x_wide": idx(PIXELS.reshape(12, 1, 6)),
        "x_other": idx(PIXELS[:, :2]), "ragged.csv": csv() + b"1,2\n", "words.csv": csv() + b"1,2,3,4,5,6,x\n",
        "hole.csv": csv() + b"1,2,3,,5,6,7\n", "x_large": struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "x_none": idx(PIXELS[:0]),
    }  # fmt: skip
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return tmp_path


@pytest.mark.parametrize(
    ("images", "labels", "column"),
    [("x", "y", None), ("x.gz", "y.gz", None), ("first.csv", None, "first"), ("named.csv", None, None), ("last.csv.gz", None, "last")],
)  # fmt: skip
def test_files_of_every_kind_have_the_same_samples(folder, images, labels, column):
    made = from_images(str(folder / images), labels and str(folder / labels), label_column=column)
    assert rows(made) == EXPECTED and made.dims == (2,) * 6 and made.heldout is None
    assert made.note.startswith(f"{images}: 12 images of") and "10 of them different" in made.note


def test_a_second_set_is_held_out_and_equal_images_may_be_in_both(folder):
    x, y = str(folder / "x"), str(folder / "y")
    made = from_images(x, y, x, y, count=3, targets=[1.0, -1.0])
    assert made.count == 3 and rows(made.heldout) == [(*index, value - 1) for *index, value in EXPECTED]
    assert "held out: 12 images of x" in made.note


def test_the_column_of_labels_is_the_one_that_varies(tmp_path):
    table = np.column_stack([LABELS, PIXELS.reshape(12, -1), np.zeros(12, int)])
    np.savetxt(tmp_path / "a.csv", table, "%d", ",")
    np.savetxt(tmp_path / "b.csv", table[:, ::-1], "%d", ",")
    one, other = (from_images(str(tmp_path / name)) for name in ("a.csv", "b.csv"))
    assert (one.values == 2).sum() == (other.values == 2).sum() == (LABELS == 6).sum()
    assert rows(one) == sorted((*index[::-1], value) for *index, value in rows(other))


def test_digits_are_those_of_scikit_learn():
    source, made = load_digits(), digits(label=3, targets=[5.0, 1.0], threshold=4)
    expected = np.column_stack([source.images.reshape(1797, 64) > 4, np.where(source.target == 3, 5, 1)])
    assert rows(made) == sorted(map(tuple, expected.tolist()))


def test_random_labels_keep_the_images_and_random_images_keep_the_labels():
    plain, labels, other = digits(), digits(labels="random"), digits(labels="random", seed=1)
    images = digits(images="random")
    for made in (labels, other):
        assert (made.index == plain.index).all() and (made.values == 2).sum() == 181
        assert 0 < ((made.values == 2) & (plain.values == 2)).sum() < 60  # 18 by chance
    assert (labels.values != other.values).any()
    assert (images.values == 2).sum() == 181 and abs(images.index.mean() - 0.5) < 0.01  # 7 standard deviations
    assert np.abs(np.corrcoef(np.column_stack([images.index, images.values]).T) - np.eye(65)).max() < 0.15
    assert rows(digits(images="random", seed=0)) == rows(images) != rows(digits(images="random", seed=1))


REFUSED = [
    (("x_torn", "y"), r"'.*x_torn' has only 71 bytes of the 72 that its header says"),
    (("x_torn.gz", "y"), r"x_torn.gz': cannot be read, it may be torn \(EOFError\)"),
    (("x_more", "y"), "has more bytes of the 72"),
    (("x_header", "y"), "it may be torn: its header is not complete"),
    (("x_kind", "y"), "its magic number is 0x000d03; expected 0x000803, bytes of images"),
    (("y", "y"), "its magic number is 0x000801; expected 0x000803"),
    (("x", "x"), "labels_path: .* its magic number is 0x000803; expected 0x000801, bytes of labels"),
    (("x", "y_few"), "labels_path: .*y_few' has 11 labels for 12 images"),
    (("x", None), "observations.labels_path is not set: an idx file of images has no labels"),
    (("x", "first.csv"), "first.csv' is not an idx file"),
    (("first.csv", "y"), "a csv file has its own labels: leave it out"),
    (("first.csv",), "observations.label_column says where"),
    (("ragged.csv",), "a cell is (not a number|empty)"),
    (("words.csv",), "a cell is not a number"),
    (("hole.csv",), "line 13: a cell is empty"),
    (("x_large", "y"), "does not fit into memory"),
    (("x_none", "y"), "it has no images"),
    (("none", "y"), "observations.path: '.*none' is not a file"),
    (("x", "y", "x_other", "y"), "test_path: .* has images of 2 x 2 pixels, '.*x' of 3 x 2"),
    (("x", "y", None, "y"), "test_labels_path: set, but observations.test_path is not"),
]


@pytest.mark.parametrize(("names", "says"), REFUSED, ids=lambda each: str(each)[:30])
def test_a_file_that_cannot_be_used_is_refused_in_one_line(folder, names, says):
    with pytest.raises(DataError, match=says) as error:
        from_images(*(name and str(folder / name) for name in names))
    assert "\n" not in str(error.value)


def test_labels_and_thresholds_that_tell_nothing_apart_are_refused(folder):
    x, y = str(folder / "x"), str(folder / "y")
    for arguments, says in (
        ({"label": 5}, "observations.label: 5 is not allowed; expected a label that some .* 0, 1, 2, 3, 6, 7, 8, 9$"),
        ({"threshold": 255.5}, "observations.threshold: 255.5 is not allowed"),
        ({"count": 13}, "observations.count: 13 is not allowed; expected at most 12"),
        ({"label_column": "last"}, "is an idx file: leave it out"),
    ):
        with pytest.raises(InputError, match=says):
            from_images(x, y, **arguments)


def test_without_scikit_learn_a_line_names_the_extra():
    with mock.patch.dict(sys.modules, {"sklearn.datasets": None}), pytest.raises(MissingPackage) as error:
        digits()
    assert "observations=digits needs scikit-learn" in str(error.value) and "rankward[data]" in str(error.value)
