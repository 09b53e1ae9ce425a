"""Observations from a file: the authors' `.pt`, `.npz`, `.npy` or `.csv`. A foreign pickle is never executed."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rankward.config import DataError
from rankward.config.checks import ENTRY_BYTES
from rankward.observations import arrays, tables
from rankward.observations.headers import check_npz, check_pt, errors_of_reader, refuse_large
from rankward.observations.measurement import EntryMask, Measurement, Sensing, entry_mask
from rankward.observations.reading import FROM_ONE, starts_from_one, what_was_read
from rankward.private_apis import stored_entries

Dims = Sequence[int] | None
KNOWN = ("arr_0", "A", "y", "target_matrix", "target_tensor", "train_indices_order", "mask", "values", "ground_truth")
EXPECTED = "expected arrays named A and y, or mask and values"
NAMES = 6  # of a file, that a message shows
WHOLE = "; a whole matrix has empty or nan cells where it is not observed (one without such cells is a .npy)"


def from_file(
    path: str, count: int | None = None, dims: Sequence[int] | None = None, ground_truth: str | None = None
) -> Measurement:
    """Observations from `path`; `count` keeps the first n of the file's order.

    `.npy` is the whole array, NaN where it is not observed, and so is a single array without a name in a `.npz` or
    `.pt`. A `.csv` with empty cells, or words for them (NA, null, -, ?), is such a matrix; names of its rows and
    columns are left out, and where they may as well be entries `dims` decides. `.pt` and `.npz` hold sensing matrices
    `A` [n, d, d'] (of vectors [n, d]) and values `y` [n] (`target_matrix` is the ground truth), a `target_tensor` and
    the flat places `train_indices_order` at which it is observed, or `mask` and `values` of any number of axes (and
    `ground_truth`; without a mask, values that are NaN are not observed). A `.csv` without holes or names of rows has
    lines `row,column,value`, counted from 0; `dims` is its size, by default as large as its largest indices, and needed
    where no index is 0; for other files it is a check. A list of a tensor's entries has more indices a line and needs
    `dims`, because a fourth column may as well be a time beside a rating; so does that of a vector's, `index,value`.
    `ground_truth` is a `.npy` or `.csv` with all of the array. Sensing matrices that each pick one entry become an
    entry mask.

    The result's `note` says how many entries were read, of which size, and which indices never occur: always of a list
    and of a matrix with names of rows, and of other files where a row, column or other index has no entry; else it is
    empty.

    Raises:
        DataError: a file that is missing, torn, of another kind, that may be read in two ways, or whose observations
            cannot be used.
    """
    read = read_file("path", path, count, dims)
    if isinstance(read, EntryMask) and (line := read.note or what_was_read(read.mask, read.values, listed=False)):
        read = replace(read, note=f"observations.path: {path!r}: {line}")
    return read if ground_truth is None else replace(read, ground_truth=_ground_truth(ground_truth, read.dims))


def read_file(key: str, path: str, count: int | None = None, dims: Sequence[int] | None = None) -> Measurement:
    """Observations from the file that `observations.<key>` names, without a note; the rest is as for `from_file`.

    Raises:
        DataError: as `from_file`.
    """
    file = Path(path).expanduser()
    readers = {".pt": _read_pt, ".npz": _read_npz, ".npy": _read_npy, ".csv": _read_csv}
    if file.suffix.lower() not in readers:
        raise DataError(f"observations.{key}: {path!r} has an unknown ending; expected one of .pt, .npz, .npy, .csv")
    if not file.is_file():
        raise DataError(f"observations.{key}: {path!r} is not a file")
    try:
        read = readers[file.suffix.lower()](file, count, dims)
        if dims is not None and read.dims != tuple(dims):
            raise DataError(f"observations.dims: {list(dims)} is not the file's {list(read.dims)}")
    except DataError as error:
        raise DataError(f"observations.{key}: {path!r}: {error}") from error
    return read


def _ground_truth(path: str, dims: tuple[int, ...]) -> np.ndarray:
    """A ground truth of that size."""
    file = Path(path).expanduser()
    try:
        if not file.is_file():
            raise DataError("is not a file")
        if file.suffix.lower() not in (".npy", ".csv"):
            raise DataError("has an unknown ending; expected one of .npy, .csv")
        if file.suffix.lower() == ".npy":
            truth = arrays.read_npy(file)
        else:
            vector = len(dims) == 1
            truth, _ = tables.matrix(tables.lines(file), None if vector else dims)
            truth = truth.reshape(-1) if vector and 1 in truth.shape else truth
        if truth.shape != dims:
            raise DataError(f"has shape {list(truth.shape)}, the observations {list(dims)}")
        if not np.isfinite(truth).all():
            raise DataError("an entry is not finite")
        return truth
    except DataError as error:
        raise DataError(f"observations.ground_truth: {path!r}: {error}") from error


def _read_npy(file: Path, count: int | None, dims: Dims) -> Measurement:
    return _with_holes(arrays.read_npy(file), count, dims)


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


def _read_pt(file: Path, count: int | None, dims: Dims) -> Measurement:
    import pickle

    import torch

    with errors_of_reader(), warnings.catch_warnings(action="ignore"):  # torch's, on sparse and quantized tensors
        check_pt(file)
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise DataError("not a file of plain tensors (a foreign pickle is not executed), or torn") from error
    if isinstance(content, torch.Tensor):
        return _with_holes(_numbers("the tensor", content, whole=True), count, dims)
    if not isinstance(content, Mapping):
        raise DataError(f"holds a {type(content).__name__}; {EXPECTED}")
    return _from_arrays({str(name): value for name, value in content.items()}, count, dims)


def _read_npz(file: Path, count: int | None, dims: Dims) -> Measurement:
    with errors_of_reader():
        known = check_npz(file, KNOWN)
        with np.load(file, allow_pickle=False) as content:
            arrays = {name: content[name] if name in known else None for name in content.files}
    if list(arrays) == ["arr_0"]:  # np.savez of one array without a name
        return _with_holes(_numbers("arr_0", arrays["arr_0"]), count, dims)
    return _from_arrays(arrays, count, dims)


def _read_csv(file: Path, count: int | None, dims: Dims) -> Measurement:
    rows = tables.lines(file)
    if not tables.is_matrix(rows):
        return _entries(rows, count, dims)
    whole, names = tables.matrix(rows, dims)
    found = _with_holes(whole, count, whole.shape)
    return replace(found, note=f"{what_was_read(found.mask, found.values, listed=True)}; {names}") if names else found


def _entries(rows: Sequence[tables.Line], count: int | None, dims: Dims) -> EntryMask:
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
        refuse_large(named, ENTRY_BYTES * math.prod(size))
    except DataError as error:
        raise DataError(f"{error}; number rows and columns from 0 without gaps") from error
    if dims is None and starts_from_one(indices):
        raise DataError(
            f"has no entry in row 0 and column 0: {FROM_ONE}; observations.dims=[{size[0]},{size[1]}] says that row 0 "
            "and column 0 are not observed"
        )
    chosen = slice(_first(count, len(lines)))
    places = np.ravel_multi_index(indices, size)[chosen]
    read = entry_mask(size, places, np.array([float(fields[-1]) for _, fields in lines])[chosen])
    return replace(read, note=what_was_read(read.mask, read.values, listed=True))


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
        truth = array("target_matrix") if "target_matrix" in arrays else None
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
    names = sorted(arrays)
    more = f" (and {len(names) - NAMES} more)" if len(names) > NAMES else ""
    raise DataError(f"holds {', '.join(names[:NAMES]) or 'nothing'}{more}; {EXPECTED}")


def _numbers(name: str, value: Any, whole: bool = False) -> np.ndarray:
    """An array or tensor of a file as float64, in row-major order.

    `whole` says that no mask goes with it: what a sparse tensor leaves out may then be zeros or not observed.
    """
    if hasattr(value, "numel"):
        value = _dense(name, value, whole)
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
                why = "the entries that it leaves out may be zeros or not observed: save `mask` and `values`"
                raise DataError(f"`{name}` is a sparse tensor without a `mask`; {why}")
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
