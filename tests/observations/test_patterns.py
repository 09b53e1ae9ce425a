"""Diagonals, blocks and patterns: their masks and values, and keys that are refused."""

import numpy as np
import pytest

from rankward.config import ConfigError, groups
from rankward.observations import blocks, diagonal, pattern


def test_values_are_in_the_order_of_rows():
    seen = blocks([2, [1, 2]], values=[1, 2, 3, 4, 5, 6])
    assert seen.values.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0], [0, 0, 5, 6]] and seen.ground_truth is None
    np.testing.assert_array_equal(pattern("100/010/001", values=[1, 1.5, 0.5]).values, diagonal([1, 1.5, 0.5]).values)


def test_a_truth_is_the_same_for_all_patterns():
    one, other = diagonal(size=3, rank=2, seed=4), pattern("110/010/011", rank=2, seed=4)
    np.testing.assert_array_equal(one.ground_truth, other.ground_truth)
    assert np.linalg.matrix_rank(one.ground_truth) == 2
    assert (other.values == np.where(other.mask, other.ground_truth, 0)).all()
    assert not np.array_equal(one.ground_truth, diagonal(size=3, rank=2).ground_truth)


@pytest.mark.parametrize(
    ("kind", "keys", "words"),
    [
        (groups.Diagonal, {"values": [1.0], "size": 1}, "observations.size: 1 is not allowed; expected null"),
        (groups.Diagonal, {"values": [1.0], "rank": 1}, "observations.rank: 1 is not allowed; expected null"),
        (groups.Diagonal, {"values": [1.0], "seed": 1}, "observations.seed: 1 is not allowed; expected null"),
        (groups.Diagonal, {"values": []}, "observations.values: .* a number for each row"),
        (groups.Diagonal, {"values": [float("nan")]}, "observations.values: nan is not allowed"),
        (groups.Diagonal, {"rank": 1}, "observations.size: None is not allowed"),
        (groups.Diagonal, {"size": 3}, "observations.rank: None is not allowed"),
        (groups.Diagonal, {"size": 3, "rank": 4}, "an integer from 1 to 3, the smaller dimension"),
        (groups.Diagonal, {"size": 3, "rank": 1, "seed": -1}, "observations.seed: -1 is not allowed"),
        (groups.Blocks, {"sizes": [2, 0], "rank": 1}, "observations.sizes: .* integers of at least 1"),
        (groups.Blocks, {"sizes": [[1, 2, 3]], "rank": 1}, "observations.sizes: "),
        (groups.Blocks, {"sizes": [2], "values": [1.0]}, "null, or 4 numbers, one for each observed entry"),
        (groups.Pattern, {"pattern": "10/1", "rank": 1}, "rows of 0 and 1 of one length"),
        (groups.Pattern, {"pattern": "00/00", "rank": 1}, "at least one 1"),
        (groups.Pattern, {"pattern": "12", "rank": 1}, "rows of 0 and 1"),
    ],
)
def test_keys_that_make_no_observations_are_refused(kind, keys, words):
    with pytest.raises(ConfigError, match=words):
        kind(name="x", _target_="y", **keys)


def test_sizes_are_known():
    assert groups.Blocks(name="x", _target_="y", sizes=[2, [1, 3]], rank=1).known_dims == [3, 5]
    assert groups.Pattern(name="x", _target_="y", pattern=110, rank=1).known_dims == [1, 3]
