"""Predictions of a trained run: entries of its product in the data's own ids and units."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
import torch

from rankward import results
from rankward.config import DataError, InputError
from rankward.dynamics import Entries, entries_at
from rankward.factorizations.base import Chain, Components
from rankward.observations import Ids
from rankward.observations.ids import axis_names
from rankward.observations.indexed import amount, order_keys
from rankward.observations.measurement import offset_at
from rankward.observations.ratings import Columns, read_columns

ENDINGS = (".csv", ".parquet")
FINAL = "final."  # with the number of a factor: its name in `factors.safetensors`
LARGEST = 2**24  # entries of an array whose unobserved entries are listed, where it is not written down
VALUE = "value"  # name of the column of predictions


def predict(folder: Path, entries: Path | None = None, out: Path | None = None, separator: str | None = None) -> str:
    """Write a table of ids and predicted values; return a line that says what was written.

    A predicted value is an entry of the final product, multiplied by the scale and added to the offset of
    `observations.scale` and `observations.center`, if the run has these.

    Args:
        folder: of a run.
        entries: a file that lists the ids of entries, one entry a line, in columns with the names of the data's own
            columns, or else in the first columns. Its order is kept. None: all entries that the run was not trained
            on, in row-major order, the held-out ones among them; not of arrays of more than `LARGEST` entries.
        out: a `.csv` or `.parquet` file; None: `predictions.csv` in the folder.
        separator: of `entries`, as for `from_ratings`; None: the one that fits.

    Raises:
        InputError: no run's folder, another ending of `out`, or no prediction, since the run has diverged.
        DataError: a file of entries that cannot be read, or an id that the data has not.
        ResultsError: results that cannot be read, or a file that cannot be written.
    """
    out = folder / results.PREDICTIONS if out is None else out
    if out.suffix.lower() not in ENDINGS:
        raise InputError(f"--out: {str(out)!r} has an unknown ending; expected one of {', '.join(ENDINGS)}")
    if separator is not None and entries is None:
        raise InputError(f"--separator: {separator!r} has no effect without --entries")
    if (folder / results.SWEEP).is_file():
        run = next((f" such as {each}" for each in results.run_folders(folder)), "")
        raise InputError(f"predict: {str(folder)!r} is a sweep; expected the folder of one of its runs{run}")
    status = results.read_summary(folder)["status"]
    arrays = results.read_arrays(folder)
    product = arrays.get("product")
    numbers = [product] if product is not None else [array for name, array in arrays.items() if name.startswith(FINAL)]
    if not all(np.isfinite(array).all() for array in numbers):
        raise InputError(f"predict: the run in {str(folder)!r} has no finite predictions: its status is {status}")
    dims = product.shape if product is not None else tuple(arrays["observations.dims"].tolist())
    table = folder / results.IDS
    ids = Ids.of_table(results.read_frame(table)) if table.is_file() else _counted(dims)
    if entries is None:
        places, cells = _unseen(dims, arrays), None
        if not len(places):
            raise InputError("predict: the run was trained on all entries; --entries FILE names some to predict")
    else:
        places, cells = _listed(entries, ids, separator)
    values = _product_at(folder, dims, arrays, places) if product is None else product[tuple(places.T)]
    values = values.astype(np.float64)
    if "units.scale" in arrays:
        values = values * float(arrays["units.scale"]) + offset_at(arrays["units.offset"], places)
    columns: dict[str, object] = {}
    for axis, index in enumerate(places.T):
        columns[ids.axes[axis]] = ids.ids[axis][index] if cells is None else cells[axis]
    value = VALUE if VALUE not in columns else "prediction"
    frame = pl.DataFrame(columns).with_columns(pl.Series(value, values))
    if out.suffix.lower() == ".csv":
        results.write_atomic(out, lambda path: path.write_bytes(frame.write_csv().encode()))
    else:
        results.write_frame(out, frame)
    number = f"{len(places):,} {'entry' if len(places) == 1 else 'entries'}"
    which = "that the run was not trained on" if entries is None else f"of {entries.name}"
    return f"predictions: {out}: {number} {which}, in the data's own ids and units"


def _counted(dims: Sequence[int]) -> Ids:
    """Indices from 0 as ids."""
    return Ids(axis_names(len(dims)), tuple(np.arange(size) for size in dims))


def _unseen(dims: Sequence[int], arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The indices [n, order] of all entries that the run was not trained on.

    Raises:
        InputError: too many.
    """
    if "observations.index" not in arrays:
        mask = arrays.get("observations.mask")
        return np.argwhere(np.ones(dims, bool) if mask is None else ~mask)
    if (size := math.prod(dims)) > LARGEST:
        raise InputError(f"predict: the array has {amount(size)} entries, too many to list; --entries FILE names some")
    unseen = np.ones(size, bool)
    unseen[order_keys(dims, arrays["observations.index"])] = False
    return np.stack(np.unravel_index(np.flatnonzero(unseen), dims), axis=1)


def _product_at(
    folder: Path, dims: tuple[int, ...], arrays: Mapping[str, np.ndarray], places: np.ndarray
) -> np.ndarray:
    """Entries of the final product of a run that has not written it down, float64."""
    count = sum(name.startswith(FINAL) for name in arrays)
    final = [arrays[f"{FINAL}{number}"] for number in range(count)]
    of_modes = len(dims) == count and all(len(factor) == size for factor, size in zip(final, dims, strict=True))
    chained = all(len(below) == above.shape[1] for below, above in pairwise(final))
    if of_modes and chained:  # square matrices may be either
        chained = results.read_config(folder)["factorization"]["name"] != "tensor"
    form = Chain((dims[-1], *map(len, final))) if chained else Components(dims, final[0].shape[1])
    made = entries_at(form, Entries(dims, places, np.zeros(len(places))))([torch.from_numpy(f)[None] for f in final])
    return np.asarray(made[0].numpy())


def _listed(file: Path, ids: Ids, separator: str | None) -> tuple[np.ndarray, list[np.ndarray]]:
    """The indices [n, order] of the entries that a file lists, and their ids."""
    try:
        table = read_columns(file.expanduser(), separator)
        if table.names and _are_ids(table.names, ids):  # ids are texts too: no number tells a header from an entry
            table = read_columns(file.expanduser(), separator, header=False)
        cells = [table.frame.to_series(place).str.strip_chars() for place in _columns(table, ids)]
        if not table.frame.height:
            raise DataError("lists no entry; at least one is needed")
        indices = [ids.indices(axis, column) for axis, column in enumerate(cells)]
    except DataError as error:
        why = str(error).replace("observations.separator", "--separator")
        raise DataError(f"--entries: {str(file)!r}: {why}") from error
    own = [ids.ids[axis][index] for axis, index in enumerate(indices)]
    return np.stack(indices, axis=1), own


def _are_ids(cells: Sequence[str], ids: Ids) -> bool:
    """Whether the first cells are an id of each axis, and so an entry, not names of columns."""
    known = (set(map(str, axis.tolist())) for axis in ids.ids)
    return len(cells) >= len(ids.axes) and all(cell in axis for cell, axis in zip(cells, known, strict=False))


def _columns(table: Columns, ids: Ids) -> list[int]:
    """Places of the columns of ids, by name where the file has all the names, else the first ones."""
    names, axes = table.names or [], len(ids.axes)
    if all(names.count(name) == 1 for name in ids.axes):
        return [names.index(name) for name in ids.axes]
    if table.frame.width < axes:
        raise DataError(f"has {table.frame.width} columns; expected ids of {', '.join(ids.axes)}")
    return list(range(axes))
