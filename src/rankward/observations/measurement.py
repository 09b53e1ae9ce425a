"""Observations of one matrix or tensor: observed entries, or general linear measurements."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, Int

from rankward.config import DataError
from rankward.observations.ids import Ids

if TYPE_CHECKING:
    from rankward.observations.indexed import IndexedEntries


def offset_at(offset: Float[np.ndarray, "*_"], index: Int[np.ndarray, "n order"]) -> Float[np.ndarray, " n"]:
    """Numbers of listed entries, of an array with size 1 on the axes along which it does not vary, or without axes.

    Example:
        >>> offset_at(np.array([[1.0], [2.0]]), np.array([[1, 3], [0, 2]])).tolist()
        [2.0, 1.0]
    """
    if offset.ndim == 0:
        return np.full(len(index), float(offset))
    places = [np.minimum(index[:, axis], size - 1) for axis, size in enumerate(offset.shape)]
    return np.asarray(offset[tuple(places)], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Units:
    """Units in which observations are trained on: `(value - offset) / scale` of a value in the data's own units.

    Args:
        offset: [*dims], with size 1 on the axes along which it does not vary; without axes if it is one number.
        scale: a positive number.
        own: the observations in the data's own units.
    """

    offset: Float[np.ndarray, "*_"]
    scale: float
    own: EntryMask | IndexedEntries

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays that are stored in `factors.safetensors`: own values are `value * scale + offset`."""
        return {"units.offset": self.offset, "units.scale": np.array(self.scale)}

    def applied(self, values: Float[np.ndarray, "*dims"]) -> Float[np.ndarray, "*dims"]:
        """Values of a whole array in these units."""
        return np.asarray((values - self.offset) / self.scale)

    def offset_at(self, index: Int[np.ndarray, "n order"]) -> Float[np.ndarray, " n"]:
        """The offset of each listed entry."""
        return offset_at(self.offset, index)

    def applied_at(self, index: Int[np.ndarray, "n order"], values: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Values of listed entries in these units."""
        return np.asarray((values - self.offset_at(index)) / self.scale)


@dataclass(frozen=True, eq=False)
class FirstPart:
    """Values that a run observes, at the same places, before those of its `EntryMask`.

    Args:
        until: the iterations that use them, from 0; 0 for none.
        values: [*dims] float64; only those of observed entries are used.
        ground_truth: [*dims] float64, or None where there is none.

    Raises:
        DataError: a negative `until`.
    """

    until: int
    values: Float[np.ndarray, "*dims"]
    ground_truth: Float[np.ndarray, "*dims"] | None = None

    def __post_init__(self) -> None:
        if self.until < 0:
            raise DataError(f"observations: the first part ends at iteration {self.until}; expected 0 or more")

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays that are stored in `factors.safetensors`."""
        truth = {} if self.ground_truth is None else {"first.ground_truth": self.ground_truth}
        return {"first.until": np.array(self.until), "first.values": self.values, **truth}


@dataclass(frozen=True, eq=False)
class EntryMask:
    """Observed entries of Equation 1: values b_ij at the places where `mask` is true.

    Two of them are equal only if they are the same object.

    Args:
        mask: [*dims], true where an entry is observed.
        values: [*dims] float64, the observations; zero elsewhere.
        ground_truth: [*dims] float64, NaN where it is not known, or None where there is none.
        note: a line for the user about how the observations were read, or empty.
        heldout: entries that are known but not observed: no run trains on them; None where there are none.
        ids: the data's own ids of rows, columns and further axes; None where they are indices from 0.
        reread: reads another file with the same ids, given the key that names it and its path; None where the
            observations are not a list of entries with ids.
        units: how the values follow from the data's own; None where they are the same.
        first: other values that a run observes before these; None where they never change.

    Raises:
        DataError: no entry observed, shapes that differ, a value that is not finite, a mask that is not of booleans,
            values that are not of real numbers, a masked array of NumPy, or an entry both observed and held out.

    Example:
        >>> EntryMask(np.array([[True]]), np.array([[2.0]])).dims
        (1, 1)
    """

    mask: Bool[np.ndarray, "*dims"]
    values: Float[np.ndarray, "*dims"]
    ground_truth: Float[np.ndarray, "*dims"] | None = None
    note: str = ""
    heldout: EntryMask | None = None
    ids: Ids | None = None
    reread: Callable[[str, str], EntryMask | IndexedEntries] | None = None
    units: Units | None = None
    first: FirstPart | None = None

    def __post_init__(self) -> None:
        _check_kind("mask", self.mask, "b")
        _check_kind("values", self.values, "fiub")
        if self.mask.shape != self.values.shape:
            raise DataError(
                f"observations: mask is {_shape(self.mask)}, values are {_shape(self.values)}; shapes must agree"
            )
        if not self.mask.any():
            raise DataError("observations: no entry is observed; at least one is needed")
        if not np.isfinite(self.values[self.mask]).all():
            raise DataError("observations: a value is not finite")
        object.__setattr__(self, "mask", np.ascontiguousarray(self.mask))
        object.__setattr__(self, "values", np.where(self.mask, self.values, 0.0).astype(np.float64, order="C"))
        _check_truth(self.ground_truth, self.dims)
        if self.first is not None:
            self._check_first(self.first)
        if self.heldout is not None and self.heldout.dims != self.dims:
            raise DataError(
                f"observations: held-out entries are {_size(self.heldout.dims)}, observations are {_size(self.dims)}"
            )
        if self.heldout is not None and (both := int((self.heldout.mask & self.mask).sum())):
            raise DataError(f"observations: {both:,} entries are both observed and held out")

    def _check_first(self, first: FirstPart) -> None:
        """Refuse first values of another shape, or that are not finite, and what does not know of them."""
        if first.values.shape != self.dims:
            raise DataError(f"observations: first values are {_shape(first.values)}, observations {_size(self.dims)}")
        if not np.isfinite(first.values[self.mask]).all():
            raise DataError("observations: a first value is not finite")
        if self.heldout is not None or self.units is not None:
            raise DataError("observations: values that change cannot be held out, centred or scaled")

    @property
    def dims(self) -> tuple[int, ...]:
        return self.mask.shape

    @property
    def count(self) -> int:
        return int(self.mask.sum())

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the observations that are stored in `factors.safetensors`."""
        observed = {"observations.mask": self.mask, "observations.values": self.values}
        if self.heldout is not None:
            observed |= {"heldout.mask": self.heldout.mask, "heldout.values": self.heldout.values}
        if self.first is not None:
            observed |= self.first.arrays()
        return observed | ({} if self.units is None else self.units.arrays())


@dataclass(frozen=True)
class Sensing:
    """Measurements y_i = <A_i, W>, the general case of the same loss.

    Args:
        matrices: [count, *dims] float64, the A_i.
        values: [count] float64, the y_i.
        ground_truth: [*dims] float64, or None where there is none.
        note: as for `EntryMask`.
    """

    matrices: Float[np.ndarray, "count *dims"]
    values: Float[np.ndarray, " count"]
    ground_truth: Float[np.ndarray, "*dims"] | None = None
    note: str = ""

    def __post_init__(self) -> None:
        if self.matrices.shape[:1] != self.values.shape:
            raise DataError(
                f"observations: {_shape(self.matrices)} sensing matrices but values of shape {_shape(self.values)}"
            )
        if not self.values.size:
            raise DataError("observations: no measurement; at least one is needed")
        if not (np.isfinite(self.matrices).all() and np.isfinite(self.values).all()):
            raise DataError("observations: a sensing matrix or value is not finite")
        _check_truth(self.ground_truth, self.dims)

    @property
    def dims(self) -> tuple[int, ...]:
        return self.matrices.shape[1:]

    @property
    def count(self) -> int:
        return int(self.values.size)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the observations that are stored in `factors.safetensors`."""
        return {"observations.matrices": self.matrices, "observations.values": self.values}

    def simplified(self) -> EntryMask | Sensing:
        """The same loss as an entry mask, where every A_i has a single one and zeros elsewhere.

        Raises:
            DataError: the same entry measured twice.
        """
        flat = self.matrices.reshape(self.count, -1)
        one_hot = ((flat != 0).sum(1) == 1).all() and (flat[flat != 0] == 1).all()
        if not one_hot:
            return self
        places = flat.argmax(1)
        return entry_mask(self.dims, places, self.values, self.ground_truth)


def entry_mask(
    dims: tuple[int, ...], places: np.ndarray, values: np.ndarray, ground_truth: np.ndarray | None = None
) -> EntryMask:
    """Observed entries from flat, row-major places, each at most once.

    Raises:
        DataError: more or fewer places than values, a place observed twice, or one outside of the matrix.
    """
    if places.shape != values.shape:
        raise DataError(f"observations: {_shape(places)} places but {_shape(values)} values; they must agree")
    entries = int(np.prod(dims))
    outside = places[(places < 0) | (places >= entries)]
    if outside.size:
        raise DataError(f"observations: entry {int(outside[0])} lies outside of a {_size(dims)} array")
    seen, counts = np.unique(places, return_counts=True)
    if (counts > 1).any():
        where = tuple(int(i) for i in np.unravel_index(seen[counts > 1][0], dims))
        raise DataError(f"observations: entry {where} is observed twice")
    mask = np.zeros(entries, dtype=bool)
    full = np.zeros(entries)
    mask[places] = True
    full[places] = values
    return EntryMask(mask.reshape(dims), full.reshape(dims), ground_truth)


def _check_kind(name: str, array: np.ndarray, kinds: str) -> None:
    """Refuse what would lose something as an array of booleans or of real numbers."""
    if isinstance(array, np.ma.MaskedArray):
        raise DataError(f"observations: {name} is a masked array; give mask=~array.mask and values=array.data")
    if array.dtype.kind not in kinds:
        expected = "booleans, true where an entry is observed" if kinds == "b" else "real numbers"
        raise DataError(f"observations: {name} is of type {array.dtype}; expected {expected}")


def _check_truth(ground_truth: np.ndarray | None, dims: tuple[int, ...]) -> None:
    if ground_truth is not None and ground_truth.shape != dims:
        raise DataError(f"observations: ground truth is {_shape(ground_truth)}, observations are {_size(dims)}")
    if ground_truth is not None and (bad := int(np.isinf(ground_truth).sum())):
        raise DataError(f"observations: the ground truth is infinite in {bad:,} of its {ground_truth.size:,} entries")
    if ground_truth is not None and np.isnan(ground_truth).all():
        raise DataError("observations: the ground truth is NaN in all of its entries")


def _size(dims: tuple[int, ...]) -> str:
    return "x".join(map(str, dims))


def _shape(array: np.ndarray) -> str:
    return _size(array.shape) or "a single number"
