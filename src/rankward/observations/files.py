"""Observations from a file of any usual kind. A foreign pickle is never executed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from rankward.config import DataError
from rankward.config.checks import ENTRY_BYTES
from rankward.observations import arrays, tables
from rankward.observations.headers import check_npz, check_pt, errors_of_reader, names_in, refuse_large
from rankward.observations.ids import Ids, named
from rankward.observations.indexed import NO_TRUTH, IndexedEntries, Measurement, observed
from rankward.observations.measurement import EntryMask, Sensing, entry_mask
from rankward.observations.ratings import PARQUET, read_parquet
from rankward.observations.reading import FROM_ONE, starts_from_one, what_was_read
from rankward.private_apis import stored_entries

Dims = Sequence[int] | None
Contents = np.ndarray | dict[str, Any]  # a whole array, or arrays by name
KNOWN = (
    "arr_0", "A", "y", "target_matrix", "target_tensor", "train_indices_order", "mask", "values", "ground_truth",
    "index", "dims",
)  # fmt: skip
EXPECTED = "expected arrays named A and y, mask and values, or index and values"
SPARSE = "the entries that it leaves out may be zeros or not observed: save `mask` and `values`"
TEXTS = (".csv", ".tsv", ".txt", ".dat", ".data")
NAMES = 6  # of a file, that a message shows
WHOLE = "; a whole matrix has empty or nan cells where it is not observed (one without such cells is a .npy)"


def from_file(
    path: str,
    count: int | None = None,
    dims: Sequence[int] | None = None,
    ground_truth: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    array: str | None = None,
) -> Measurement:
    """Observations from `path`; `count` keeps the first n of the file's order.

    It is of one of the kinds of `READERS` and `TEXTS`. What it holds is guessed, and refused where it may be two
    things; `from_ratings` and `from_matrix` do not guess.

    `.npy` is the whole array, NaN where it is not observed, and so is a single array without a name in a `.npz` or
    `.pt`. A `.csv` with empty cells, or words for them (NA, null, -, ?), is such a matrix; names of its rows and
    columns are left out, and where they may as well be entries `dims` decides. `.pt` and `.npz` hold sensing matrices
    `A` [n, *dims] and values `y` [n] (`target_matrix` or `target_tensor` is the ground truth), a `target_tensor` and
    the flat places `train_indices_order` at which it is observed, or `mask` and `values` of any number of axes (and
    `ground_truth`; without a mask, values that are NaN are not observed), or `index` [n, order], counted from 0, and
    `values` [n] (and `dims`). A `.npz` of `scipy.sparse.save_npz` has its stored entries observed. A `.csv` without
    holes or names of rows has lines `row,column,value`, counted from 0; `dims` is its size, by default as large as its
    largest indices, and needed where no index is 0; for other files it is a check. A list of a tensor's entries has
    more indices a line and needs `dims`, because a fourth column may as well be a time beside a rating; so does that of
    a vector's, `index,value`. `ground_truth` is a file with the whole array, NaN where it is not known. Sensing
    matrices that each pick one entry become an entry mask.

    Other text files than `.csv` are read like these; `separator` and `decimal` are as for `from_ratings`. A `.mat` or
    `.safetensors` is read like a `.npz`, and a single array in it is the whole array; `array` names one of several.

    The result's `note` says how many entries were read, of which size, and which indices never occur: always of a list
    and of a matrix with names of rows, and of other files where a row, column or other index has no entry; else it is
    empty.

    Raises:
        DataError: a file that is missing, torn, of another kind, that may be read in two ways, or whose observations
            cannot be used.
    """
    read = read_file("path", path, count, dims, separator, decimal, array)
    if isinstance(read, EntryMask) and (line := read.note or what_was_read(read.mask, read.values, listed=False)):
        read = replace(read, note=f"observations.path: {path!r}: {line}")
    if isinstance(read, IndexedEntries):
        read = replace(read, note=f"observations.path: {path!r}: {read.note}")
    if ground_truth is None:
        return read
    if isinstance(read, IndexedEntries):
        raise DataError(f"observations.ground_truth: {ground_truth!r}: expected {NO_TRUTH}")
    return replace(read, ground_truth=ground_truth_of(ground_truth, read.dims))


def from_matrix(
    path: str,
    dims: Sequence[int] | None = None,
    ground_truth: str | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    array: str | None = None,
) -> EntryMask:
    """Observations from a file with the whole matrix or tensor, NaN or a hole where it is not observed.

    Args:
        path: a file of the kinds of `from_file`, or a `.parquet` table.
        dims: sizes, where the first line or column of a text may be names or entries; else they are a check.
        ground_truth, separator, decimal, array: as for `from_file`.

    Names of rows and columns become the `ids` of the result.

    Raises:
        DataError: as `from_file`.
    """
    file = _existing("path", path)
    try:
        read, note, ids = whole_array(file, dims, separator, decimal, array)
        seen = np.flatnonzero(~np.isnan(read))
        made = entry_mask(read.shape, seen, read.reshape(-1)[seen])
    except DataError as error:
        raise DataError(f"observations.path: {path!r}: {error}") from error
    size = " x ".join(f"{each:,}" for each in made.dims)
    line = f"{made.count:,} of {made.mask.size:,} entries, {size}, values from {read[made.mask].min():.6g} to "
    line += "; ".join([f"{read[made.mask].max():.6g}", *([note] if note else [])])
    truth = None if ground_truth is None else ground_truth_of(ground_truth, made.dims)
    return replace(made, ground_truth=truth, ids=ids, note=f"{Path(path).name}: {line}")


def from_array(array: np.ndarray, ground_truth: np.ndarray | None = None) -> EntryMask:
    """Observations from an array of any real type, in which NaN is not observed.

    Args:
        array: [*dims]; an entry is not observed where it is NaN, or where a masked array masks it.
        ground_truth: [*dims] likewise; None where there is none.

    Raises:
        DataError: an array that does not hold real numbers, or of which no entry is observed.

    Example:
        >>> from_array(np.ma.masked_less(np.array([[1, -1], [2, 3]]), 0)).mask.tolist()
        [[True, False], [True, True]]
    """
    values = _numbers("the array", array)
    if values.ndim < 1:
        raise DataError("observations: the array is a single number")
    truth = None if ground_truth is None else _numbers("the ground truth", ground_truth)
    return EntryMask(~np.isnan(values), values, truth)


def read_file(
    key: str,
    path: str,
    count: int | None = None,
    dims: Sequence[int] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    array: str | None = None,
) -> Measurement:
    """Observations from the file that `observations.<key>` names, without a note; the rest is as for `from_file`.

    Raises:
        DataError: as `from_file`.
    """
    file = _existing(key, path)
    kind = ending(file)
    try:
        _refuse_unused(kind, separator, decimal, array)
        if kind in PARQUET:
            raise DataError("may be a list of entries (observations=ratings) or a matrix (observations=matrix)")
        if kind in TEXTS:
            read: Measurement = _read_text(file, count, dims, separator, decimal)
        else:
            found = READERS[kind](file, array)
            read = (
                _with_holes(found, count, dims) if isinstance(found, np.ndarray) else _from_arrays(found, count, dims)
            )
        if dims is not None and read.dims != tuple(dims):
            raise DataError(f"observations.dims: {list(dims)} is not the file's {list(read.dims)}")
    except DataError as error:
        raise DataError(f"observations.{key}: {path!r}: {error}") from error
    return read


def ending(file: Path) -> str:
    """The ending of a file's name that says of which kind it is; that of `ratings.csv.gz` is `.csv`."""
    return Path(file.stem if file.suffix.lower() == ".gz" else file.name).suffix.lower()


def _existing(key: str, path: str) -> Path:
    """The file that `observations.<key>` names.

    Raises:
        DataError: no such file, or an ending that is not known.
    """
    file = Path(path).expanduser()
    kind = ending(file)
    packed = file.suffix.lower() == ".gz" and kind not in TEXTS
    if kind not in (*READERS, *TEXTS, *PARQUET) or packed:
        kinds = ", ".join((*READERS, *PARQUET, *TEXTS))
        raise DataError(
            f"observations.{key}: {path!r} has an unknown ending; expected one of {kinds}, {TEXTS[0]}.gz and the like"
        )
    if not file.is_file():
        raise DataError(f"observations.{key}: {path!r} is not a file")
    return file


def _refuse_unused(kind: str, separator: str | None, decimal: str | None, array: str | None) -> None:
    """Refuse what has no effect on a file of this kind."""
    if kind in (*TEXTS, *PARQUET) and array is not None:
        raise DataError(f"observations.array: {array!r} has no effect; expected null for a {kind}")
    for key, value in (("separator", separator), ("decimal", decimal)):
        if kind not in TEXTS and value is not None:
            raise DataError(f"observations.{key}: {value!r} has no effect; expected null for a {kind}")


def ground_truth_of(path: str, dims: tuple[int, ...]) -> np.ndarray:
    """The ground truth in the file of `observations.ground_truth`, [*dims], NaN where it is not known.

    Raises:
        DataError: a file that cannot be read, that is of another size, or in which no entry is known.
    """
    file = _existing("ground_truth", path)
    try:
        vector = len(dims) == 1
        truth, _, _ = whole_array(file, dims if ending(file) in TEXTS and not vector else None)
        truth = truth.reshape(-1) if vector and 1 in truth.shape else truth
        if truth.shape != dims:
            raise DataError(f"has shape {list(truth.shape)}, the observations {list(dims)}")
        if np.isinf(truth).any():
            raise DataError("an entry is not finite")
        if np.isnan(truth).all():
            raise DataError("no entry is known; at least one is needed")
        return truth
    except DataError as error:
        raise DataError(f"observations.ground_truth: {path!r}: {error}") from error


def whole_array(
    file: Path,
    dims: Sequence[int] | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    array: str | None = None,
) -> tuple[np.ndarray, str, Ids | None]:
    """The whole array in a file with NaN for what is not known, a remark on its names, and the names.

    Raises:
        DataError: a file that cannot be read, or that has several arrays and `array` names none of them.
    """
    kind, note = ending(file), ""
    _refuse_unused(kind, separator, decimal, array)
    ids: Ids | None = None
    rows: list[str] | None
    columns: list[str] | None
    if kind in PARQUET:
        found, rows, columns = _matrix_of_table(file)
        ids, note = named(("row", "column"), rows, columns, found.shape), "columns have names"
        note = "rows and columns have names" if rows else note
    elif kind in TEXTS:
        found, note, (rows, columns) = tables.matrix(tables.lines(file, separator, decimal), dims, whole=True)
        if dims is not None and len(dims) == 1 and 1 in found.shape:
            found = found.reshape(-1)
        elif rows or columns:
            note = note or "line 1 holds names"
            ids = named(("row", "column"), rows, columns, found.shape)
    else:
        read = READERS[kind](file, array)
        if isinstance(read, Mapping):
            plain = read.get("values") if "mask" not in read else None
            if plain is None:
                raise DataError(f"holds {_listing(read)}: observations.array says which is the whole array")
            read = _numbers("values", plain, whole=True)
        found = read
    if not found.ndim:
        raise DataError("is a single number; expected an array")
    if dims is not None and found.shape != tuple(dims):
        raise DataError(f"observations.dims: {list(dims)} is not the file's {list(found.shape)}")
    return found, note, ids


def _matrix_of_table(file: Path) -> tuple[np.ndarray, list[str] | None, list[str]]:
    """The matrix in a Parquet table, and the names of its rows, if it has any, and of its columns."""
    frame = read_parquet(file)
    texts = [name for name, kind in frame.schema.items() if kind in (pl.String, pl.Categorical)]
    texts += [name for name in frame.columns if name.startswith("__index_level_") and name not in texts]
    if len(texts) > 1:
        raise DataError(f"the columns {', '.join(map(repr, texts[:NAMES]))} hold texts; one may, with names of rows")
    rows = [str(each) for each in frame[texts[0]].to_list()] if texts else None
    numbers = frame.drop(texts)
    if not (numbers.width and numbers.height):
        raise DataError("no observation; at least one is needed")
    found = numbers.select(pl.all().cast(pl.Float64).fill_null(math.nan)).to_numpy()
    return np.array(found, order="C"), rows, numbers.columns


def _with_holes(array: np.ndarray, count: int | None, dims: Dims) -> EntryMask:
    """The entries of an array that are not NaN."""
    if array.ndim < 1:
        raise DataError("is a single number; expected an array")
    if dims is None and arrays.may_be_list(array):
        rows, columns = array.shape
        size = f"observations.dims=[{rows},{columns}]"
        raise DataError(f"may be a matrix ({size} says so), or a list of entries: save that as lines of a .csv")
    seen = np.flatnonzero(~np.isnan(array))
    places = seen[: _first(count, len(seen))]
    return entry_mask(array.shape, places, array.reshape(-1)[places])


def _read_npy(file: Path, array: str | None) -> np.ndarray:
    if array is not None:
        raise DataError(f"observations.array: {array!r}: a .npy has a single array, without a name")
    return arrays.read_npy(file)


def _read_pt(file: Path, array: str | None) -> Contents:
    import pickle

    import torch

    with errors_of_reader(), warnings.catch_warnings(action="ignore"):  # torch's, on sparse and quantized tensors
        check_pt(file)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise DataError("not a file of plain tensors (a foreign pickle is not executed), or torn") from error
    if isinstance(content, torch.Tensor):
        return _numbers("the tensor", content, whole=True)
    if not isinstance(content, Mapping):
        raise DataError(f"holds a {type(content).__name__}; {EXPECTED}")
    return _one_of({str(name): value for name, value in content.items()}, array)


def _read_npz(file: Path, array: str | None) -> Contents:
    with errors_of_reader():
        if array is None and {"format", "data", "shape"} <= names_in(file):
            return _read_scipy(file)
        known = check_npz(file, KNOWN if array is None else (array,))
        with np.load(file, allow_pickle=False) as content:
            found = {name: content[name] if name in known else None for name in content.files}
    if array is None and list(found) == ["arr_0"]:  # np.savez of one array without a name
        array = "arr_0"
    return _one_of(found, array)


def _read_scipy(file: Path) -> Contents:
    """The stored entries of a sparse matrix of SciPy, also those that are zero, as `index`, `values` and `dims`."""
    from scipy.sparse import load_npz

    check_npz(file, ("data", "row", "col", "coords", "indices", "indptr", "offsets"))
    found = load_npz(file).tocoo()
    index = np.stack([np.asarray(axis, dtype=np.int64) for axis in found.coords], axis=1)
    return {"index": index, "values": found.data, "dims": np.array(found.shape)}


def _read_mat(file: Path, array: str | None) -> Contents:
    from scipy.io import loadmat, whosmat

    with errors_of_reader(), warnings.catch_warnings(action="ignore"):
        try:
            sizes = {name: (shape, kind) for name, shape, kind in whosmat(str(file))}
            wanted = [name for name in ([array] if array else KNOWN if len(sizes) > 1 else sizes) if name in sizes]
            for name in wanted:
                shape, _ = sizes[name]
                refuse_large(f"`{name}` of shape {list(shape)}", ENTRY_BYTES * math.prod(shape))
            found = loadmat(str(file), variable_names=wanted) if wanted else {}
        except NotImplementedError as error:
            raise DataError("is a MATLAB file of version 7.3, which is not read: save it with -v7") from error
    return _one_of({name: found.get(name) for name in sizes}, array or (next(iter(sizes)) if len(sizes) == 1 else None))


def _read_safetensors(file: Path, array: str | None) -> Contents:
    from safetensors import safe_open

    with errors_of_reader(), safe_open(file, "pt") as content:  # of torch: NumPy has no bfloat16
        names = list(content.keys())
        wanted = [name for name in ([array] if array else KNOWN if len(names) > 1 else names) if name in names]
        found = {name: content.get_tensor(name) if name in wanted else None for name in names}
    return _one_of(found, array or (names[0] if len(names) == 1 else None))


def _one_of(arrays: dict[str, Any], array: str | None) -> Contents:
    """The array of that name as a whole array; all of them where the name is None."""
    if array is None:
        return arrays
    if array not in arrays:
        raise DataError(f"observations.array: {array!r} is not in the file, which holds {_listing(arrays)}")
    return _numbers(array, arrays[array], whole=True)


def _listing(arrays: Mapping[str, Any]) -> str:
    """Names of a file's arrays, in a message."""
    names = sorted(arrays)
    more = f" (and {len(names) - NAMES} more)" if len(names) > NAMES else ""
    return f"{', '.join(names[:NAMES]) or 'nothing'}{more}"


def _read_text(
    file: Path, count: int | None, dims: Dims, separator: str | None, decimal: str | None
) -> EntryMask | IndexedEntries:
    rows = tables.lines(file, separator, decimal)
    if not tables.is_matrix(rows):
        return _entries(rows, count, dims)
    whole, remark, (row_names, column_names) = tables.matrix(rows, dims)
    found = _with_holes(whole, count, whole.shape)
    given = [names for names in (row_names, column_names) if names is not None]
    if given and all(len(set(names)) == len(names) for names in given):
        found = replace(found, ids=named(("row", "column"), row_names, column_names, whole.shape))
    if not remark:
        return found
    return replace(found, note=f"{what_was_read(found.mask, found.values, listed=True)}; {remark}")


def _entries(rows: Sequence[tables.Line], count: int | None, dims: Dims) -> EntryMask | IndexedEntries:
    """Observations from lines of indices and a value."""
    header = rows[0][1] if tables.has_header(rows) else []
    lines = rows[bool(header) :]
    if not lines:
        raise DataError("no observation; at least one is needed")
    axes = len(lines[0][1]) - 1
    for number, fields in lines:
        if axes < 1 or len(fields) != axes + 1 or not all(map(tables.is_number, fields)):
            wanted = "row,column,value" if axes <= 2 else f"{axes} indices and a value"
            wanted = "index,value" if dims is not None and len(dims) == 1 else wanted
            raise DataError(f"line {number} is not `{wanted}`: {tables.shown(fields)}")
    if dims is None and axes != 2:
        kind = "vector" if axes == 1 else "tensor"
        more = f"{tables.THREE}, those of a {kind} need observations.dims{WHOLE}"
        raise DataError(f"lines have {axes + 1} columns: {more}")
    if dims is not None and len(dims) != axes:
        more = f": {tables.THREE}" if len(dims) == 2 else ""
        raise DataError(f"observations.dims: {list(dims)} has not the {axes} axes of the file's lines{more}")
    try:
        indices = [np.array([_whole_number(fields[axis]) for _, fields in lines]) for axis in range(axes)]
    except ValueError as error:
        raise DataError(f"a row or column is not an integer{WHOLE}") from error
    if min(index.min() for index in indices) < 0:
        raise DataError("a row or column is below 0")
    size = tuple(int(index.max()) + 1 for index in indices) if dims is None else tuple(dims)
    named = f"a {'x'.join(map(str, size))} {_kind(size)}"
    outside = np.flatnonzero(np.any([index >= dim for index, dim in zip(indices, size, strict=True)], axis=0))
    if outside.size:
        at = ", ".join(str(index[outside[0]]) for index in indices)
        more = f": {FROM_ONE}" if starts_from_one(indices) else ""
        raise DataError(f"entry ({at}) lies outside of {named}{more}")
    odd = next((cell for _, fields in lines for cell in fields[:axes] if not cell.strip().isdigit()), None)
    if odd is not None and not tables.names_a_list(header) and (dims is None or size == (len(lines), axes + 1)):
        raise DataError(
            f"may be a whole matrix (save a .npy), or lines whose indices are written as {odd.strip()}: write these "
            "without a point, or a header `row,column,value`"
        )
    try:
        refuse_large(named, ENTRY_BYTES * sum(size))
    except DataError as error:
        raise DataError(f"{error}; number rows and columns from 0 without gaps") from error
    if dims is None and starts_from_one(indices):
        raise DataError(
            f"has no entry in row 0 and column 0: {FROM_ONE}; observations.dims=[{size[0]},{size[1]}] says that row 0 "
            "and column 0 are not observed"
        )
    chosen = slice(_first(count, len(lines)))
    read = observed(
        size, np.stack(indices, axis=1)[chosen], np.array([float(fields[-1]) for _, fields in lines])[chosen]
    )
    if isinstance(read, EntryMask):
        return replace(read, note=what_was_read(read.mask, read.values, listed=True))
    low, high = read.values.min(), read.values.max()
    return replace(
        read, note=f"{read.count:,} entries of {' x '.join(map(str, size))}, values from {low:.6g} to {high:.6g}"
    )


def _whole_number(cell: str) -> int:
    """An index, be it written as 1 or 1.0.

    Raises:
        ValueError: a fraction, or no finite number.
    """
    if cell.strip().isdigit():
        return int(cell)
    number = float(cell)
    if not number.is_integer():
        raise ValueError(cell)
    return int(number)


def _kind(size: Sequence[int]) -> str:
    return ("vector", "matrix", "tensor")[min(len(size), 3) - 1]


def _from_arrays(arrays: Mapping[str, Any], count: int | None, dims: Dims) -> Measurement:
    def array(name: str) -> np.ndarray:
        return _numbers(name, arrays[name])

    if {"A", "y"} <= arrays.keys():
        matrices, values = array("A"), array("y").reshape(-1)
        if matrices.ndim < 2:
            raise DataError(f"`A` has shape {matrices.shape}; expected [n, d, d'], or [n, d] of vectors")
        if len(matrices) != len(values):
            raise DataError(f"`A` holds {len(matrices)} sensing matrices, `y` {len(values)} values; they must agree")
        truth = next((array(name) for name in ("target_matrix", "target_tensor") if name in arrays), None)
        chosen = slice(_first(count, len(values)))
        return Sensing(matrices[chosen], values[chosen], truth).simplified()
    if {"target_tensor", "train_indices_order"} <= arrays.keys():
        truth, order = array("target_tensor"), array("train_indices_order").reshape(-1)
        if not truth.size:
            raise DataError(f"`target_tensor` has shape {truth.shape}; expected entries")
        if (order % 1 != 0).any():
            raise DataError("`train_indices_order` holds a number that is not an integer")
        places = order.astype(np.int64)[: _first(count, len(order))]
        return entry_mask(truth.shape, places, truth.reshape(-1).take(places, mode="clip"), truth)
    if {"index", "values"} <= arrays.keys():
        return _from_index(arrays, count, dims)
    if {"mask", "values"} <= arrays.keys():
        mask, values = array("mask"), array("values")
        if not np.isin(mask, (0, 1)).all():
            other = mask[~np.isin(mask, (0, 1))].flat[0]
            raise DataError(f"`mask` holds {other:g}; expected 0 or 1, or false and true, for each entry")
        if mask.shape != values.shape:
            raise DataError(f"`mask` has shape {mask.shape}, `values` {values.shape}; they must agree")
        if mask.ndim < 1:
            raise DataError("`mask` is a single number; expected an array")
        seen = np.flatnonzero(mask)
        places = seen[: _first(count, len(seen))]
        truth = array("ground_truth") if "ground_truth" in arrays else None
        return entry_mask(mask.shape, places, values.reshape(-1)[places], truth)
    if "values" in arrays:
        found = _with_holes(_numbers("values", arrays["values"], whole=True), count, dims)
        return replace(found, ground_truth=array("ground_truth")) if "ground_truth" in arrays else found
    raise DataError(f"holds {_listing(arrays)}; {EXPECTED} (observations.array names a whole array)")


def _from_index(arrays: Mapping[str, Any], count: int | None, dims: Dims) -> EntryMask | IndexedEntries:
    """Entries from `index` [n, order], counted from 0, their `values` [n], and the sizes `dims`."""
    index, values = np.asarray(arrays["index"]), _numbers("values", arrays["values"])
    if index.dtype.kind not in "iu" or index.ndim != 2 or values.shape != (len(index),) or not index.size:
        raise DataError(
            f"`index` holds {index.dtype} of shape {list(index.shape)}, `values` has shape {list(values.shape)}; "
            "expected integers [n, order], and [n]"
        )
    if (index < 0).any():
        raise DataError("`index` holds a number below 0")
    index = index.astype(np.int64)
    if "dims" in arrays:
        size = tuple(_numbers("dims", arrays["dims"]).reshape(-1).astype(np.int64).tolist())
    elif dims is not None:
        size = tuple(dims)
    elif (index.min(0) > 0).all():
        raise DataError(f"`index` never is 0: {FROM_ONE}; `dims`, or observations.dims, says which sizes the array has")
    else:
        size = tuple((index.max(0) + 1).tolist())
    if len(size) != index.shape[1] or min(size) < 1:
        raise DataError(f"`index` has {index.shape[1]} columns, and the array {len(size)} axes; they must agree")
    chosen = slice(_first(count, len(values)))
    made = observed(size, index[chosen], values[chosen])
    low, high = made.values.min(), made.values.max()
    if isinstance(made, EntryMask):
        return replace(made, note=what_was_read(made.mask, made.values, listed=True))
    kind = " x ".join(map(str, size)) if len(size) <= NAMES else f"order {len(size)}"
    return replace(made, note=f"{made.count:,} entries of {kind}, values from {low:.6g} to {high:.6g}")


def _numbers(name: str, value: Any, whole: bool = False) -> np.ndarray:
    """An array or tensor of a file as float64, in row-major order.

    `whole` says that no mask goes with it: what a sparse tensor leaves out may then be zeros or not observed.
    """
    if hasattr(value, "numel"):
        value = _dense(name, value, whole)
    if hasattr(value, "toarray"):  # of SciPy
        if whole:
            raise DataError(f"`{name}` is a sparse matrix without a `mask`; {SPARSE}")
        refuse_large(f"`{name}` of shape {list(value.shape)}", ENTRY_BYTES * math.prod(value.shape))
        value = value.toarray()
    if isinstance(value, np.ma.MaskedArray) and value.dtype.kind in "fiub":
        value = np.ma.filled(value.astype(np.float64), np.nan)
    try:
        found = np.asarray(value)
    except (ValueError, TypeError, RuntimeError):  # lists of several lengths, or of tensors that NumPy cannot hold
        found = np.array(None)
    if found.dtype.kind not in "fiub":
        raise DataError(f"`{name}` holds no array of numbers but of type {found.dtype}; expected real numbers")
    return found.astype(np.float64, order="C")


def _dense(name: str, tensor: Any, whole: bool) -> np.ndarray:
    """A tensor of any real type and layout as float64, refused before its memory is taken."""
    import torch

    if tensor.is_nested or tensor.is_meta or tensor.is_complex():
        kind = "nested" if tensor.is_nested else "meta" if tensor.is_meta else tensor.dtype
        raise DataError(f"`{name}` is a {kind} tensor; expected plain numbers")
    # of a tensor that repeats one number, or is sparse, the file may be small
    refuse_large(f"`{name}` of shape {list(tensor.shape)}", ENTRY_BYTES * tensor.numel())
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):
        if tensor.layout != torch.strided:
            if whole:
                raise DataError(f"`{name}` is a sparse tensor without a `mask`; {SPARSE}")
            if tensor.layout == torch.sparse_coo and stored_entries(tensor) > stored_entries(tensor.coalesce()):
                raise DataError(f"`{name}` is a sparse tensor that has an entry twice")
            tensor = tensor.to_dense()
        if tensor.is_quantized:
            tensor = tensor.dequantize()
        return np.asarray(tensor.resolve_neg().to(torch.float64).numpy())


def _first(count: int | None, available: int) -> int:
    if count is not None and count > available:
        raise DataError(f"observations.count: {count} is more than the {available} observations there are")
    return available if count is None else count


READERS: dict[str, Callable[[Path, str | None], Contents]] = {
    ".pt": _read_pt,
    ".npz": _read_npz,
    ".npy": _read_npy,
    ".mat": _read_mat,
    ".safetensors": _read_safetensors,
}
