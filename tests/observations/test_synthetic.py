"""Observation sets against the paper, by hand."""

import numpy as np
import pytest

from rankward.config import DataError
from rankward.observations import EntryMask, Sensing, dimensions, entry_mask, random_matrix, sensing, two_by_two


def test_equation_6():
    made = two_by_two()
    assert made.mask.tolist() == [[False, True], [True, True]]
    assert made.values.tolist() == [[0, 1], [1, 0]]


@pytest.mark.parametrize("place", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_repositioned_keeps_b_22_opposite(place):
    made = two_by_two(b_12=-2.0, b_21=0.5, b_22=0.1, unobserved=place)
    row, col = place
    assert np.argwhere(~made.mask).tolist() == [[row, col]]
    assert made.values[1 - row, 1 - col] == 0.1
    assert made.values[row, 1 - col] == -2.0 and made.values[1 - row, col] == 0.5


def test_appendix_e():
    made = dimensions((4, 3))
    assert made.values.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 1], [0, 0, 0]]
    assert made.count == 11 and not made.mask[0, 0]


def test_random_matrix_has_its_rank_scale_and_count():
    made = random_matrix((6, 8), rank=2, count=20, seed=3)
    assert np.linalg.matrix_rank(made.ground_truth) == 2
    assert np.sqrt(np.mean(made.ground_truth**2)) == pytest.approx(1)
    assert made.count == 20
    np.testing.assert_array_equal(made.values[made.mask], made.ground_truth[made.mask])


def test_noise_is_added_to_what_is_seen_alone():
    clean, noisy = random_matrix((50, 50), 1, 2500), random_matrix((50, 50), 1, 2500, noise=0.1)
    np.testing.assert_array_equal(clean.ground_truth, noisy.ground_truth)
    assert (noisy.values - clean.values).std() == pytest.approx(0.1, rel=0.1)


def test_seeds_differ_and_repeat():
    same, again, other = (random_matrix((4, 4), 1, 5, seed=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(same.values, again.values)
    assert not np.array_equal(same.values, other.values)


def test_sensing_measures_the_ground_truth():
    made = sensing((3, 4), rank=1, count=7, seed=2)
    expected = [np.trace(a.T @ made.ground_truth) for a in made.matrices]
    np.testing.assert_allclose(made.values, expected, rtol=1e-12)


def test_one_hot_sensing_is_a_mask():
    matrices = np.zeros((2, 2, 3))
    matrices[0, 0, 1] = matrices[1, 1, 2] = 1
    mask = Sensing(matrices, np.array([5.0, 6.0])).simplified()
    assert isinstance(mask, EntryMask)
    assert mask.values.tolist() == [[0, 5, 0], [0, 0, 6]]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: entry_mask((2, 2), np.array([4]), np.array([1.0])), "outside"),
        (lambda: entry_mask((2, 2), np.array([1, 1]), np.array([1.0, 2.0])), r"\(0, 1\) is observed twice"),
        (lambda: EntryMask(np.zeros((2, 2), bool), np.zeros((2, 2))), "no entry"),
        (lambda: EntryMask(np.ones((2, 2), bool), np.full((2, 2), np.nan)), "not finite"),
    ],
)
def test_unusable_observations_are_refused(make, words):
    with pytest.raises(DataError, match=words):
        make()
