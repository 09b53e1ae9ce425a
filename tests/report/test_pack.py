import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some

from rankward.report.pack import compact, encode_texts, pack, rounded, unpack

NUMBERS = some.lists(some.floats(width=32), max_size=40)


@given(NUMBERS, NUMBERS, some.lists(some.integers(-(2**31), 2**31 - 1), max_size=40))
def test_packed_data_unpack_to_the_same(some_numbers, others, whole):
    arrays = {
        "a/b": np.array(some_numbers, np.float32),
        "c": np.array(others, np.float64),
        "d": np.array(whole, np.int32),
    }
    header, found = unpack(pack({"title": "</script> ö"}, arrays))
    assert header["title"] == "</script> ö"
    for name, values in arrays.items():
        assert found[name].dtype == values.dtype
        np.testing.assert_array_equal(found[name], values)


def test_a_page_is_the_same_for_the_same_content():
    arrays = {"a": np.arange(5, dtype=np.float32)}
    assert pack({"b": 1}, arrays) == pack({"b": 1}, arrays)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rounding_is_to_half_a_bit_and_makes_packing_smaller(dtype):
    values = np.random.default_rng(0).lognormal(0, 5, 10_000).astype(dtype)
    near = rounded(values, 12)
    assert np.abs(near / values - 1).max() <= 2.0**-13 * (1 + 1e-3)
    assert len(gzip.compress(near.tobytes())) < 0.8 * len(gzip.compress(values.tobytes()))
    kept = rounded(np.array([np.nan, np.inf, -np.inf, 0.0, -1.5], dtype), 12)
    np.testing.assert_array_equal(kept, [np.nan, np.inf, -np.inf, 0.0, -1.5])


def test_no_size_is_lost_to_single_precision():
    for values in ([1e300, 1.0], [1e-300, 1.0], [0.0, np.nan, np.inf, -2.0]):
        made = compact(np.array(values))
        np.testing.assert_allclose(made, values, rtol=1e-7)


def test_words_are_numbered_in_order_of_appearance():
    known, numbers = encode_texts([None, "x", 3, "x"])
    assert known == ["x", "3"] and numbers.tolist() == [-1, 0, 1, 0]
