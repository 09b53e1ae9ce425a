"""Centred and scaled observations; what is subtracted and divided by is learned from the trained entries alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float

from rankward.config import ConfigError
from rankward.observations.indexed import IndexedEntries, Measurement
from rankward.observations.measurement import EntryMask, Sensing, Units


def in_units(
    measurement: Measurement, center: str | None = None, scale: str | float | None = None
) -> EntryMask | IndexedEntries:
    """The same observations as `(value - offset) / scale`, with the held-out entries and the ground truth likewise.

    Args:
        measurement: observed entries; those that are held out do not change the offset and the scale.
        center: `mean` subtracts the mean of the observed entries, `rows` and `columns` of a matrix the means of its
            rows or columns, and the mean of all where a row or column has no observed entry; None: nothing.
        scale: `std` divides by the root-mean-square deviation of the centred observed entries from their mean; a number
            divides by it; None: by 1.

    The result's `units` undo it.

    Raises:
        ConfigError: measurements that are no entries, `rows` or `columns` of an array that is no matrix, or `std` of
            values that are all equal.

    Example:
        >>> observed = EntryMask(np.array([[True, True], [True, False]]), np.array([[1.0, 3.0], [5.0, 0.0]]))
        >>> made = in_units(observed, "rows", 2)
        >>> made.values.tolist(), made.units.offset.tolist()
        ([[-0.5, 0.5], [0.0, 0.0]], [[2.0], [5.0]])
    """
    for key, value in (("center", center), ("scale", scale)):
        if value is not None and isinstance(measurement, Sensing):
            allowed = "null: only entries are centred and scaled, no measurements <A_i, W>"
            raise ConfigError(f"observations.{key}", value, allowed)
    if isinstance(measurement, IndexedEntries):
        return _of_list(measurement, center, scale)
    assert isinstance(measurement, EntryMask)
    mask, values = measurement.mask, measurement.values
    if center in ("rows", "columns") and values.ndim != 2:
        raise ConfigError("observations.center", center, "null or mean: rows and columns are those of a matrix")
    offset = np.zeros((1,) * values.ndim)
    if center is not None:
        offset = offset + float(values[mask].mean())
    if center in ("rows", "columns"):
        axis = 1 if center == "rows" else 0
        counts = mask.sum(axis, keepdims=True)
        offset = np.where(counts > 0, values.sum(axis, keepdims=True) / np.maximum(counts, 1), offset)
    divisor = float(scale) if isinstance(scale, int | float) else 1.0
    if scale == "std":
        divisor = _deviation((values - offset)[mask], values)
    units = Units(offset, divisor, measurement)
    heldout = measurement.heldout
    return replace(
        measurement,
        values=_where(mask, units, values),
        ground_truth=None if measurement.ground_truth is None else units.applied(measurement.ground_truth),
        heldout=None if heldout is None else replace(heldout, values=_where(heldout.mask, units, heldout.values)),
        units=units,
    )


def _of_list(measurement: IndexedEntries, center: str | None, scale: str | float | None) -> IndexedEntries:
    """`in_units` of entries by index; the sums of rows and columns have another order, so last digits may differ."""
    values, heldout = measurement.values, measurement.heldout
    if center in ("rows", "columns") and measurement.order != 2:
        raise ConfigError("observations.center", center, "null or mean: rows and columns are those of a matrix")
    offset = np.zeros(() if measurement.order != 2 else (1, 1))
    if center is not None:
        offset = offset + float(values.mean())
    if center in ("rows", "columns"):
        axis = 0 if center == "rows" else 1
        at, size = measurement.index[:, axis], measurement.dims[axis]
        counts, sums = np.bincount(at, minlength=size), np.bincount(at, weights=values, minlength=size)
        shape = (size, 1) if axis == 0 else (1, size)
        offset = np.where(counts > 0, sums / np.maximum(counts, 1), offset.reshape(())).reshape(shape)
    divisor = float(scale) if isinstance(scale, int | float) else 1.0
    units = Units(offset, divisor, measurement)
    if scale == "std":
        units = Units(offset, _deviation(values - units.offset_at(measurement.index), values), measurement)
    return replace(
        measurement,
        values=units.applied_at(measurement.index, values),
        heldout=None if heldout is None else replace(heldout, values=units.applied_at(heldout.index, heldout.values)),
        units=units,
    )


def _deviation(centred: Float[np.ndarray, " n"], values: Float[np.ndarray, "*_"]) -> float:
    """The divisor of `scale=std`."""
    divisor = float(centred.std())
    if not divisor > np.finfo(float).eps * np.abs(values).max():  # rounding of the mean
        raise ConfigError("observations.scale", "std", "null or a number: the centred values are all equal")
    return divisor


def _where(
    mask: Bool[np.ndarray, "*dims"], units: Units, values: Float[np.ndarray, "*dims"]
) -> Float[np.ndarray, "*dims"]:
    return np.where(mask, units.applied(values), 0.0)
