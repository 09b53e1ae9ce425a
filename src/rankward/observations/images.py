"""Images as entries of a tensor: each pixel is an axis, black and white are its indices, a label is the value."""

from __future__ import annotations

import gzip
import io
import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from jaxtyping import Int, Real

from rankward.config import ConfigError, DataError
from rankward.config.extras import MissingPackage
from rankward.observations.headers import refuse_large
from rankward.observations.indexed import IndexedEntries
from rankward.observations.text import is_number, one_mark, read_text
from rankward.seeding import generator

GZIP = b"\x1f\x8b"
BYTES = 8  # the type of an idx file's numbers, unsigned bytes: the third byte of the file
PIXEL_BYTES = 16  # of a pixel in memory: itself, its index, and their copies
LABEL_NAMES = ("label", "labels", "class", "target", "y")  # of the column of a csv file with the labels


@dataclass(frozen=True)
class LabelledImages:
    """Images in grey values and their labels.

    Args:
        pixels: [images, pixels], row by row of an image.
        labels: [images].
        size: of an image, in a message.
    """

    pixels: Real[np.ndarray, "images pixels"]
    labels: Int[np.ndarray, " images"]
    size: str


def digits(
    label: int = 6,
    targets: Sequence[float] = (2.0, 0.0),
    threshold: float = 8.0,
    labels: bool | str = True,
    images: bool | str = True,
    seed: int | None = None,
) -> IndexedEntries:
    """The 1,797 digits of 8x8 pixels that scikit-learn ships, as entries of a tensor of order 64.

    Entry (x_1, ..., x_64) belongs to the image whose pixel n is white if x_n = 1 and black if x_n = 0. Images that are
    equal once they are black and white stay separate samples: the entry is listed once for each, and each counts in
    the loss.

    Args:
        label: the digit that has the first of the targets.
        targets: the values of its images and of all others.
        threshold: a pixel is white if its grey value, from 0 to 16, is larger.
        labels: True, or `random`: all labels are permuted.
        images: True, or `random`: each pixel of each image is black or white with equal probability; labels stay.
        seed: of random labels or images; None: 0.

    Raises:
        MissingPackage: scikit-learn, of the extra `data`.
        ConfigError: a label that no image has, or a threshold that makes all pixels equal.

    Source: Razin, Maman and Cohen, "Implicit regularization in tensor factorization" (ICML 2021), Section 5.

    Example:
        >>> seen = digits()
        >>> seen.order, seen.count, int((seen.values == 2).sum())
        (64, 1797, 181)
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise MissingPackage("observations=digits", "scikit-learn", "data", error) from error
    read = load_digits()
    found = LabelledImages(read.data, read.target, "8 x 8")
    made, note = _entries(found, "training", label, targets, threshold, labels, images, seed)
    return IndexedEntries(made.dims, made.index, made.values, f"digits: {note}", repeated=True)


def from_images(
    path: str,
    labels_path: str | None = None,
    test_path: str | None = None,
    test_labels_path: str | None = None,
    label_column: str | None = None,
    count: int | None = None,
    label: int = 6,
    targets: Sequence[float] = (2.0, 0.0),
    threshold: float = 127.5,
    labels: bool | str = True,
    images: bool | str = True,
    seed: int | None = None,
) -> IndexedEntries:
    """Images and labels of files, such as those of MNIST and Fashion-MNIST, as entries of a tensor.

    The images of a second set are the held-out entries. A pixel is an axis of size 2, as for `digits`.

    Args:
        path: an idx file of images, or a csv file with an image and its label in each line; compressed by gzip or not.
        labels_path: the idx file with the labels; None for a csv file.
        test_path, test_labels_path: likewise of the second set; None: there is none.
        label_column: `first` or `last`, the column of a csv file with the labels. None: the column called `label` (or
            class, target, y); without such a header that of the first and last column whose numbers vary, if the
            other's do not.
        count: keep the first so many images of the first set; None: all.
        label, targets, threshold, labels, images, seed: as for `digits`; grey values are those of the file, in idx
            files from 0 to 255.

    Labels and images of the two sets are randomized separately.

    Raises:
        ConfigError: as `digits`; more images than there are.
        DataError: a file that is missing, torn or of another kind, numbers of images and labels that differ, sets of
            different sizes of images, or a csv file without a clear column of labels.
    """
    given = {"path": path, "labels_path": labels_path, "test_path": test_path, "test_labels_path": test_labels_path}
    found = _labelled("path", "labels_path", given, label_column)
    if count is not None:
        if count > len(found.labels):
            raise ConfigError("observations.count", count, f"at most {len(found.labels):,}, the number of images")
        found = LabelledImages(found.pixels[:count], found.labels[:count], found.size)
    options = (label, targets, threshold, labels, images, seed)
    made, note = _entries(found, "training", *options)
    note = f"{Path(path).name}: {note}"
    if test_path is None:
        if test_labels_path is not None:
            raise DataError("observations.test_labels_path: set, but observations.test_path is not")
        return IndexedEntries(made.dims, made.index, made.values, note, repeated=True)
    test = _labelled("test_path", "test_labels_path", given, label_column)
    if test.pixels.shape[1] != found.pixels.shape[1]:
        raise DataError(
            f"observations.test_path: {test_path!r} has images of {test.size} pixels, {path!r} of {found.size}"
        )
    heldout, _ = _entries(test, "test", *options)
    note += f"; held out: {heldout.count:,} images of {Path(test_path).name}"
    return IndexedEntries(made.dims, made.index, made.values, note, heldout, repeated=True)


def _labelled(
    images_key: str, labels_key: str, paths: dict[str, str | None], label_column: str | None
) -> LabelledImages:
    """The images and labels of one set.

    Raises:
        DataError: as `from_images`.
    """
    path, labels_path = paths[images_key], paths[labels_key]
    assert path is not None
    data = _content(images_key, path)
    if data is None:
        if labels_path is not None:
            raise DataError(
                f"observations.{labels_key}: {labels_path!r}, but a csv file has its own labels: leave it out"
            )
        try:
            return _read_csv(Path(path).expanduser(), label_column)
        except DataError as error:
            raise DataError(f"observations.{images_key}: {path!r}: {error}") from error
    if label_column is not None:
        raise DataError(f"observations.label_column: {label_column!r}, but {path!r} is an idx file: leave it out")
    pixels = _idx(images_key, path, data, 3)
    if labels_path is None:
        raise DataError(f"observations.{labels_key} is not set: an idx file of images has no labels")
    packed = _content(labels_key, labels_path)
    if packed is None:
        raise DataError(
            f"observations.{labels_key}: {labels_path!r} is not an idx file, which begins with two zero bytes"
        )
    labels = _idx(labels_key, labels_path, packed, 1)
    if len(labels) != len(pixels):
        raise DataError(
            f"observations.{labels_key}: {labels_path!r} has {len(labels):,} labels for {len(pixels):,} images"
        )
    rows, columns = pixels.shape[1:]
    return LabelledImages(pixels.reshape(len(pixels), -1), labels.astype(np.int64), f"{rows} x {columns}")


def _content(key: str, path: str) -> io.BufferedIOBase | None:
    """A stream of an idx file's bytes behind the two zero bytes; None of a file that does not begin with these.

    Raises:
        DataError: a file that is missing or cannot be read.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise DataError(f"observations.{key}: {path!r} is not a file")
    try:
        with file.open("rb") as begin:
            packed = begin.read(2) == GZIP
        stream = gzip.GzipFile(file) if packed else file.open("rb")
        if stream.read(2) == b"\0\0":
            return stream
        stream.close()
        return None
    except (EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"observations.{key}: {path!r} cannot be read, it may be torn ({type(error).__name__})"
        ) from error


def _idx(key: str, path: str, stream: io.BufferedIOBase, axes: int) -> np.ndarray:
    """The array of unsigned bytes of an idx file: the header's sizes, then the bytes.

    Raises:
        DataError: a header of another kind, or more or fewer bytes than it says.
    """
    what = "images, with three axes" if axes == 3 else "labels, with one axis"
    try:
        kind, order = stream.read(2).ljust(2, b"\xff")
        if (kind, order) != (BYTES, axes):
            number = f"0x{kind:04x}{order:02x}" if order < 255 else "torn"
            raise DataError(f"its magic number is {number}; expected 0x00{BYTES:02x}{axes:02x}, bytes of {what}")
        header = stream.read(4 * axes)
        if len(header) < 4 * axes:
            raise DataError("cannot be read, it may be torn: its header is not complete")
        sizes = [int.from_bytes(header[at : at + 4], "big") for at in range(0, 4 * axes, 4)]
        size = math.prod(sizes)
        refuse_large(f"an array of {' x '.join(f'{each:,}' for each in sizes)}", PIXEL_BYTES * size)
        if not size:
            raise DataError(f"it has no {what.split(',')[0]}")
        data = stream.read(size + 1)
    except (EOFError, zlib.error, OSError) as error:
        why = f"cannot be read, it may be torn ({type(error).__name__})"
        raise DataError(f"observations.{key}: {path!r}: {why}") from error
    except DataError as error:
        raise DataError(f"observations.{key}: {path!r}: {error}") from error
    finally:
        stream.close()
    if len(data) != size:
        has = f"only {len(data):,}" if len(data) < size else "more"
        raise DataError(f"observations.{key}: {path!r} has {has} bytes of the {size:,} that its header says")
    return np.frombuffer(data, np.uint8).reshape(sizes)


def _read_csv(file: Path, label_column: str | None) -> LabelledImages:
    """The images and labels in the lines of a text, whose cells are separated by commas.

    Raises:
        DataError: that cannot be read, a cell that is no number, lines of several lengths, labels that are no integers,
            or no clear column of labels.
    """
    text = read_text(file, "comma")
    _, first = next(text.records())
    named = not any(map(is_number, first))
    body, mark = one_mark(text.body, "comma")
    refuse_large(f"a table of {len(body):,} characters", PIXEL_BYTES * len(body) / 2)  # a cell takes two at least
    try:
        frame = pl.read_csv(
            io.BytesIO(body.encode()),
            separator=mark,
            has_header=False,
            skip_rows=int(named),
            schema={f"column {place}": pl.Float32 for place in range(1, len(first) + 1)},
        )
    except pl.exceptions.PolarsError as error:
        raise DataError("a cell is not a number, or lines have different numbers of cells") from error
    table = frame.to_numpy()
    if table.shape[0] < 1 or table.shape[1] < 2:
        raise DataError("expected lines of a label and the pixels of an image, separated by commas")
    if not np.isfinite(table).all():
        line = int(np.flatnonzero(~np.isfinite(table).all(1))[0])
        raise DataError(f"line {text.first + named + line}: a cell is empty or not finite")
    place = _label_place(first if named else None, table, label_column)
    column = table[:, place]
    if (column != np.rint(column)).any():
        raise DataError(f"the {'first' if place == 0 else 'last'} column has the labels, and one is not an integer")
    pixels = table[:, 1:] if place == 0 else table[:, :-1]
    return LabelledImages(pixels, column.astype(np.int64), f"{pixels.shape[1]:,}")


def _label_place(names: list[str] | None, table: np.ndarray, label_column: str | None) -> int:
    """The column with the labels: 0 or -1.

    Raises:
        DataError: it is neither given nor clear.
    """
    if label_column is not None:
        return 0 if label_column == "first" else -1
    if names is not None:
        known = [at for at in (0, -1) if names[at].strip().lower() in LABEL_NAMES]
        if len(known) == 1:
            return known[0]
    varies = [at for at in (0, -1) if (table[:, at] != table[0, at]).any()]
    if len(varies) == 1:
        return varies[0]
    raise DataError("the labels may be in the first or in the last column: observations.label_column says where")


def _entries(
    found: LabelledImages,
    which: str,
    label: int,
    targets: Sequence[float],
    threshold: float,
    labels: bool | str,
    images: bool | str,
    seed: int | None,
) -> tuple[IndexedEntries, str]:
    """The entries of one set, and in words how they follow from its images.

    Raises:
        ConfigError: as `digits`.
    """
    is_label = found.labels == label
    if is_label.all() or not is_label.any():
        known = ", ".join(map(str, np.unique(found.labels)[:20]))
        raise ConfigError(
            "observations.label", label, f"a label that some of the {which} images have, not all: {known}"
        )
    white = found.pixels > threshold
    if white.all() or not white.any():
        grey = f"{float(found.pixels.min()):g} to {float(found.pixels.max()):g}"
        raise ConfigError("observations.threshold", threshold, f"a number that divides the grey values, {grey}")
    if labels == "random":
        is_label = is_label[generator(seed or 0, f"labels of {which} images").permutation(len(is_label))]
    if images == "random":
        white = generator(seed or 0, f"{which} images").integers(0, 2, white.shape, dtype=np.uint8).astype(bool)
    different = len(np.unique(np.packbits(white, axis=1), axis=0))
    made = IndexedEntries(
        (2,) * white.shape[1], white.astype(np.int32), np.where(is_label, *map(float, targets)), repeated=True
    )
    note = f"{made.count:,} images of {found.size} pixels, {different:,} of them different in black and white"
    note += f"; {int(is_label.sum()):,} have label {label} and the value {targets[0]:g}, the others {targets[1]:g}"
    made_up = " and ".join([*["labels"] * (labels == "random"), *["images"] * (images == "random")])
    return made, f"{note}; {made_up} are random" if made_up else note
