"""Held-out entries: observed entries that are left out of training, to measure errors on them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from rankward.config import ConfigError, DataError
from rankward.observations.files import read_file
from rankward.observations.indexed import IndexedEntries, Measurement, listed_in, order_keys, shortened
from rankward.observations.measurement import EntryMask, Sensing
from rankward.seeding import generator

KEY = "observations.holdout"


LARGEST_ORDER = 2**24  # entries of an array whose random order is that of all its entries


def hold_out(measurement: Measurement, holdout: float | str, seed: int = 0) -> EntryMask | IndexedEntries:
    """The same observations, some of which are held out: they have their values, and no run trains on them.

    Args:
        measurement: observed entries.
        holdout: a fraction of them (a float below 1, rounded to the nearest number of entries), their number (an
            integer), or the path of a file that lists them with their values, as `from_file` reads it.
        seed: of the draw. The held-out entries are the first observed ones in a random order of all entries: it depends
            on the seed and the size alone. So a larger number with the same seed holds out the same entries and more.
            Of an array of more than `LARGEST_ORDER` entries, listed by index, it is an order of the listed ones.

    Raises:
        ConfigError: measurements that are no entries, entries that are held out already, or a number of entries that
            leaves none to hold out or none to observe.
        DataError: a file that cannot be read, or whose entries are not observed or have other values.

    Example:
        >>> observed = EntryMask(np.ones((2, 3), dtype=bool), np.arange(6.0).reshape(2, 3))
        >>> split = hold_out(observed, 0.5)
        >>> split.count, split.heldout.count, bool((split.mask ^ split.heldout.mask).all())
        (3, 3, True)
    """
    if isinstance(measurement, Sensing):
        raise ConfigError(KEY, holdout, "null: only entries can be held out, no measurements <A_i, W>")
    if measurement.heldout is not None:
        raise ConfigError(KEY, holdout, "null: these observations have held-out entries already")
    if isinstance(measurement, IndexedEntries):
        return _of_list(measurement, holdout, seed)
    mask = _listed(holdout, measurement) if isinstance(holdout, str) else _drawn(measurement.mask, holdout, seed)
    if mask.sum() == measurement.count:
        allowed = f"less than all {measurement.count:,} observed entries: at least one must stay observed"
        raise ConfigError(KEY, holdout, allowed)
    heldout = EntryMask(mask, measurement.values)
    return replace(measurement, mask=measurement.mask & ~mask, heldout=heldout)


def _of_list(measurement: IndexedEntries, holdout: float | str, seed: int) -> IndexedEntries:
    """`hold_out` of entries by index; those of an array that could have a mask are the same ones."""
    count, size = measurement.count, measurement.size
    if isinstance(holdout, str):
        chosen = _listed_places(holdout, measurement)
    else:
        wanted = _wanted(holdout, count)
        if size <= LARGEST_ORDER:
            order = generator(seed, "held-out entries").permutation(size)
            rank = np.empty(size, np.int64)
            rank[order] = np.arange(size)
            first = rank[order_keys(measurement.dims, measurement.index)].argsort()[:wanted]
        else:
            first = generator(seed, "held-out entries").permutation(count)[:wanted]
        chosen = np.zeros(count, dtype=bool)
        chosen[first] = True
    if chosen.all():
        allowed = f"less than all {count:,} observed entries: at least one must stay observed"
        raise ConfigError(KEY, holdout, allowed)
    held = IndexedEntries(
        measurement.dims, measurement.index[chosen], measurement.values[chosen], repeated=measurement.repeated
    )
    index, values = measurement.index[~chosen], measurement.values[~chosen]
    return replace(measurement, index=index, values=values, heldout=held)


def _listed_places(path: str, measurement: IndexedEntries) -> Bool[np.ndarray, " n"]:
    """Which observed entries are in a file, with the same values."""
    listed = _reread(path, measurement)
    listed = IndexedEntries.of_mask(listed) if isinstance(listed, EntryMask) else listed
    unknown = np.flatnonzero(~listed_in(listed, measurement))
    if unknown.size:
        more = f" (nor are {unknown.size - 1:,} more)" if unknown.size > 1 else ""
        raise DataError(f"{KEY}: {path!r}: entry {_named(listed, unknown[0])} is not observed{more}")
    chosen = listed_in(measurement, listed)
    if not measurement.repeated and (other := np.flatnonzero(listed.values != measurement.values[chosen])).size:
        values = f"{listed.values[other[0]]:.17g}, in the observations {measurement.values[chosen][other[0]]:.17g}"
        raise DataError(f"{KEY}: {path!r}: entry {_named(listed, other[0])} is {values}")
    return chosen


def _reread(path: str, measurement: EntryMask | IndexedEntries) -> EntryMask | IndexedEntries:
    """The entries that a file lists."""
    reread = measurement.reread
    listed = read_file("holdout", path, dims=measurement.dims) if reread is None else reread("holdout", path)
    if isinstance(listed, Sensing):
        raise DataError(f"{KEY}: {path!r} holds sensing matrices; expected entries")
    return listed


def _named(entries: IndexedEntries, place: int) -> str:
    return f"({shortened(', '.join(map(str, entries.index[place].tolist())))})"


def _wanted(holdout: float, count: int) -> int:
    """The number of entries to hold out of so many."""
    wanted = holdout if isinstance(holdout, int) else round(holdout * count)
    if wanted < 1:
        raise ConfigError(KEY, holdout, f"a fraction of the {count:,} observed entries that is at least one entry")
    if wanted > count:
        raise ConfigError(KEY, holdout, f"less than {count:,}, the number of observed entries")
    return wanted


def _drawn(observed: Bool[np.ndarray, "*dims"], holdout: float, seed: int) -> Bool[np.ndarray, "*dims"]:
    """A mask of so many observed entries, all of them at most."""
    wanted = _wanted(holdout, int(observed.sum()))
    order = generator(seed, "held-out entries").permutation(observed.size)
    mask = np.zeros(observed.size, dtype=bool)
    mask[order[observed.reshape(-1)[order]][:wanted]] = True
    return mask.reshape(observed.shape)


def _listed(path: str, measurement: EntryMask) -> Bool[np.ndarray, "*dims"]:
    """The mask of the entries in a file, which are observed with the same values."""
    listed = _reread(path, measurement)
    listed = listed.masked() if isinstance(listed, IndexedEntries) else listed
    unknown = listed.mask & ~measurement.mask
    if unknown.any():
        more = f" (nor are {int(unknown.sum()) - 1:,} more)" if unknown.sum() > 1 else ""
        raise DataError(f"{KEY}: {path!r}: entry {_first(unknown)} is not observed{more}")
    other = listed.mask & (listed.values != measurement.values)
    if other.any():
        at = _first(other)
        values = f"{listed.values[at]:.17g}, in the observations {measurement.values[at]:.17g}"
        raise DataError(f"{KEY}: {path!r}: entry {at} is {values}")
    return listed.mask


def _first(mask: Bool[np.ndarray, "*dims"]) -> tuple[int, ...]:
    """The place of the first true entry."""
    return tuple(int(index) for index in np.argwhere(mask)[0])
