"""Observed entries by index: their order, what is refused, and the same observations with a mask."""

import itertools

import numpy as np
import pytest

from rankward.config import DataError
from rankward.observations import EntryMask, IndexedEntries


def test_entries_are_sorted_in_row_major_order_for_any_size_of_the_array() -> None:
    random = np.random.default_rng(0)
    for dims in [(5, 7), (2,) * 9, (2,) * 784, (300,) * 9, (70_000,) * 5]:
        index = random.integers(0, 2, (40, len(dims))) * (random.integers(0, 2**31, (40, len(dims))) % np.array(dims))
        index = np.array(sorted({tuple(row) for row in index.tolist()}))
        order = random.permutation(len(index))
        seen = IndexedEntries(dims, index[order], order.astype(float))
        assert seen.index.tolist() == index.tolist()
        assert seen.values.tolist() == list(range(len(index)))
        with pytest.raises(DataError, match="is observed twice"):
            IndexedEntries(dims, index[[1, 0, 1]], np.ones(3))
        assert IndexedEntries(dims, index[[1, 0, 1]], np.arange(3.0), repeated=True).values.tolist() == [1, 0, 2]


def test_a_mask_and_a_list_are_the_same_observations() -> None:
    mask = np.random.default_rng(0).random((4, 3, 5)) < 0.5
    values = np.where(mask, np.random.default_rng(1).standard_normal(mask.shape), 0.0)
    heldout = EntryMask(~mask & (np.arange(60).reshape(mask.shape) % 2 == 0), np.ones(mask.shape))
    observed = EntryMask(mask, values, note="read", heldout=heldout)
    listed = IndexedEntries.of_mask(observed)
    places = [place for place in itertools.product(*map(range, mask.shape)) if mask[place]]
    assert [tuple(row) for row in listed.index.tolist()] == places
    again = listed.masked()
    for name, array in observed.arrays().items():
        assert np.array_equal(again.arrays()[name], array), name
    assert again.note == "read"
    assert list(listed.arrays())[1:] == ["observations.index", "observations.values", "heldout.index", "heldout.values"]


@pytest.mark.parametrize(
    ("dims", "index", "values", "says"),
    [
        ((2, 2), [[0, 2]], [1.0], "entry (0, 2) lies outside of a 2x2 array"),
        ((2,) * 784, [[0] * 783 + [-1]], [1.0], "lies outside of an array of order 784"),
        ((2, 2), [[0, 1]], [np.nan], "a value is not finite"),
        ((2**31, 2), [[0, 1]], [1.0], "at most 2^31 - 1 are possible"),
    ],
)
def test_what_is_no_list_of_entries_is_refused(dims: tuple, index: list, values: list, says: str) -> None:
    with pytest.raises(DataError) as caught:
        IndexedEntries(dims, np.array(index), np.array(values))
    assert says in str(caught.value)


def test_an_entry_is_not_both_observed_and_held_out() -> None:
    for dims in [(3, 3), (2,) * 100]:
        index = np.eye(len(dims), dtype=int)[:3] % np.array(dims)
        heldout = IndexedEntries(dims, index[1:], np.ones(len(index) - 1))
        with pytest.raises(DataError, match="1 entries are both observed and held out"):
            IndexedEntries(dims, index[:2], np.ones(2), heldout=heldout)
