"""Observed entries as a list of indices and values, of arrays that are too large to write down."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from rankward.config import DataError
from rankward.observations.ids import Ids
from rankward.observations.measurement import EntryMask, Sensing, Units, entry_mask

NO_TRUTH = "null: entries that are listed by index have no array to compare with"
SMALL = 2**20  # entries of an array that gets a mask when it is read
AXES = 25  # of an array with a mask: each has a letter in an Einstein sum
LARGEST_PLACE = 2**63  # entries up to which a flat place is a number of 64 bits


@dataclass(frozen=True, eq=False)
class IndexedEntries:
    """Observed entries by index: memory grows with their number, not with the size of the array.

    They are kept in row-major order of their indices; entries that are listed in another order are sorted. Two of them
    are equal only if they are the same object.

    Args:
        dims: sizes of the array. Their product may be any number, 2^784 as well.
        index: [n, order] integers from 0.
        values: [n], the observations.
        note, ids, units: as for `EntryMask`; `reread` likewise.
        heldout: entries that are known but not observed: no run trains on them; None where there are none.
        repeated: whether an entry may be listed more than once, and be held out as well; each line then counts in the
            loss.

    Raises:
        DataError: no entry, shapes that differ, an index outside of the array, a value that is not finite, an entry
            that is listed twice, or one both observed and held out.

    Example:
        >>> seen = IndexedEntries((2, 3), np.array([[1, 0], [0, 2]]), np.array([5.0, 7.0]))
        >>> seen.index.tolist(), seen.values.tolist(), seen.count
        ([[0, 2], [1, 0]], [7.0, 5.0], 2)
    """

    dims: tuple[int, ...]
    index: Int[np.ndarray, "n order"]
    values: Float[np.ndarray, " n"]
    note: str = ""
    heldout: IndexedEntries | None = None
    ids: Ids | None = None
    reread: Callable[[str, str], IndexedEntries | EntryMask] | None = None
    units: Units | None = None
    repeated: bool = False

    ground_truth = None  # an array that can be written down is observed with a mask

    def __post_init__(self) -> None:
        dims, index = tuple(int(size) for size in self.dims), np.asarray(self.index)
        values = np.asarray(self.values)
        if index.dtype.kind not in "iu" or values.dtype.kind not in "fiub":
            raise DataError(
                f"observations: indices are of type {index.dtype} and values of type {values.dtype}; expected integers "
                "and real numbers"
            )
        if index.ndim != 2 or index.shape != (len(values), len(dims)) or values.ndim != 1:
            raise DataError(
                f"observations: indices are {_size(index.shape)} and values {_size(values.shape)}; expected a row of "
                f"{len(dims)} indices for each value"
            )
        if not len(values):
            raise DataError("observations: no entry is observed; at least one is needed")
        if max(dims) >= 2**31:
            raise DataError(f"observations: an axis has {max(dims):,} indices; at most 2^31 - 1 are possible")
        _check_inside(dims, index)
        if not np.isfinite(values).all():
            raise DataError("observations: a value is not finite")
        keys = order_keys(dims, index)
        if (keys[1:] < keys[:-1]).any() if keys.dtype.kind == "i" else True:
            order = np.argsort(keys, kind="stable")
            index, values, keys = index[order], values[order], keys[order]
        object.__setattr__(self, "dims", dims)
        object.__setattr__(self, "index", np.ascontiguousarray(index, dtype=np.int32))
        object.__setattr__(self, "values", np.ascontiguousarray(values, dtype=np.float64))
        if self.repeated:
            return
        twice = np.flatnonzero(keys[1:] == keys[:-1])
        if twice.size:
            at = ", ".join(map(str, self.index[twice[0]].tolist()))
            raise DataError(f"observations: entry ({shortened(at)}) is observed twice")
        if self.heldout is None:
            return
        if self.heldout.dims != dims:
            raise DataError(
                f"observations: held-out entries are of {described(self.heldout.dims)}, observations of "
                f"{described(dims)}"
            )
        if both := int(listed_in(self, self.heldout).sum()):
            raise DataError(f"observations: {both:,} entries are both observed and held out")

    @property
    def order(self) -> int:
        """The number of axes."""
        return len(self.dims)

    @property
    def count(self) -> int:
        return len(self.values)

    @property
    def size(self) -> int:
        """Entries of the array, an integer of any size."""
        return math.prod(self.dims)

    @property
    def nbytes(self) -> int:
        """Bytes of indices and values, with those that are held out."""
        own = self.index.nbytes + self.values.nbytes
        return own + (0 if self.heldout is None else self.heldout.nbytes)

    def arrays(self) -> dict[str, np.ndarray]:
        """Arrays of the observations that are stored in `factors.safetensors`."""
        observed = {
            "observations.dims": np.array(self.dims),
            "observations.index": self.index,
            "observations.values": self.values,
        }
        if self.heldout is not None:
            observed |= {"heldout.index": self.heldout.index, "heldout.values": self.heldout.values}
        return observed | ({} if self.units is None else self.units.arrays())

    def masked(self) -> EntryMask:
        """The same observations with a mask of the array's size.

        Raises:
            DataError: an entry that is listed twice, since a mask has each entry once.
        """
        made = self._mask()
        heldout = None if self.heldout is None else self.heldout.masked()
        return EntryMask(
            made.mask, made.values, None, self.note, heldout, self.ids, self._reread_mask(), self._units_of_mask()
        )

    @classmethod
    def of_mask(cls, observed: EntryMask) -> IndexedEntries:
        """The same observations by index, in row-major order, without the ground truth."""
        index, units = np.argwhere(observed.mask), observed.units
        if units is not None and isinstance(units.own, EntryMask):
            units = Units(units.offset, units.scale, cls.of_mask(units.own))
        heldout = None if observed.heldout is None else cls.of_mask(observed.heldout)
        values, note = observed.values[observed.mask], observed.note
        return cls(observed.dims, index, values, note, heldout, observed.ids, observed.reread, units)

    def _mask(self) -> EntryMask:
        places = np.ravel_multi_index(tuple(self.index.T.astype(np.int64)), self.dims)
        return entry_mask(self.dims, places, self.values)

    def _reread_mask(self) -> Callable[[str, str], EntryMask] | None:
        reread = self.reread
        if reread is None:
            return None

        def again(key: str, path: str) -> EntryMask:
            read = reread(key, path)
            return read.masked() if isinstance(read, IndexedEntries) else read

        return again

    def _units_of_mask(self) -> Units | None:
        if self.units is None:
            return None
        own = self.units.own
        return Units(self.units.offset, self.units.scale, own.masked() if isinstance(own, IndexedEntries) else own)


Measurement = EntryMask | Sensing | IndexedEntries


def observed(
    dims: Sequence[int], index: Int[np.ndarray, "n order"], values: Float[np.ndarray, " n"]
) -> EntryMask | IndexedEntries:
    """Listed entries of an array: with a mask where it has at most `SMALL` entries, else by index.

    Raises:
        DataError: as `entry_mask` and `IndexedEntries`.

    Example:
        >>> type(observed((2, 3), np.array([[1, 0]]), np.ones(1))).__name__
        'EntryMask'
    """
    if math.prod(dims) > SMALL or len(dims) > AXES:
        return IndexedEntries(tuple(dims), index, values)
    _check_inside(tuple(dims), index)
    return entry_mask(tuple(dims), order_keys(dims, index), values)


def order_keys(dims: Sequence[int], index: Int[np.ndarray, "n order"]) -> np.ndarray:
    """A key for each entry, [n], of integers or of bytes: keys are in the order of the indices, row-major.

    Example:
        >>> order_keys((2, 3), np.array([[1, 0], [0, 2]])).tolist()
        [3, 2]
    """
    if math.prod(dims) < LARGEST_PLACE:
        keys = np.zeros(len(index), np.int64)
        for axis, size in enumerate(dims):
            keys = keys * size + index[:, axis]
        return keys
    kind = next(kind for kind in (">u1", ">u2", ">u4") if max(dims) <= 256 ** np.dtype(kind).itemsize)
    rows = np.ascontiguousarray(index, dtype=kind)
    return rows.view(np.dtype((np.void, rows.shape[1] * rows.itemsize))).reshape(-1)


def listed_in(entries: IndexedEntries, other: IndexedEntries) -> Bool[np.ndarray, " n"]:
    """Which of the entries are among the other ones, [n]; both are of one size."""
    own, known = order_keys(entries.dims, entries.index), order_keys(other.dims, other.index)
    place = np.searchsorted(known, own) if own.dtype.kind == "i" else None
    if place is not None:
        return np.asarray(known[place.clip(max=len(known) - 1)] == own)
    among = set(known.tolist())
    return np.fromiter((key in among for key in own.tolist()), bool, len(own))


def described(dims: Sequence[int]) -> str:
    """The size of an array in a message.

    Example:
        >>> described((3, 4)), described([2] * 784), described((3, 2, 4, 5, 6))
        ('a 3x4 array', 'an array of order 784', 'an array of order 5')
    """
    return f"an array of order {len(dims)}" if len(dims) > 4 else f"a {_size(dims)} array"


def amount(number: int) -> str:
    """An integer of any size in a message.

    Example:
        >>> amount(1_000_000), amount(2**784)
        ('1,000,000', 'about 10^236')
    """
    return f"{number:,}" if number < 10**15 else f"about 10^{math.log10(number):.0f}"


def shortened(text: str, most: int = 40) -> str:
    """The first characters of a long text.

    Example:
        >>> shortened("0, 1", 3), shortened("0, 1")
        ('0, ...', '0, 1')
    """
    return text if len(text) <= most else f"{text[:most]}..."


def _check_inside(dims: tuple[int, ...], index: Int[np.ndarray, "n order"]) -> None:
    outside = np.flatnonzero(((index < 0) | (index >= np.array(dims))).any(1))
    if outside.size:
        at = ", ".join(map(str, index[outside[0]].tolist()))
        raise DataError(f"observations: entry ({shortened(at)}) lies outside of {described(dims)}")


def _size(dims: Sequence[int]) -> str:
    return "x".join(map(str, dims)) or "a single number"
