"""Random tensors of a hierarchical rank: ranks by NumPy, norm, and the entries observed."""

import itertools

import numpy as np
import pytest

from rankward.config import ConfigError
from rankward.observations import hierarchical_truth, random_tensor


def rank(tensor, modes):
    others = [mode for mode in range(tensor.ndim) if mode not in modes]
    rows = int(np.prod([tensor.shape[mode] for mode in modes]))
    return int(np.linalg.matrix_rank(tensor.transpose(*modes, *others).reshape(rows, -1)))


@pytest.mark.parametrize(
    ("tree", "ranks", "pairs"),
    [
        ("neighbours", (4, 3), [3, 16, 16]),
        ("halves", (4, 3), [16, 3, 16]),
        ([[1, 4], [2, 3]], (3, 2), [9, 9, 2]),
        ("neighbours", 2, [2, 4, 4]),
        ([1, 2, 3, 4], 3, [3, 3, 3]),
    ],
)
def test_the_ranks_of_a_tree_are_low_and_those_of_other_trees_are_not(tree, ranks, pairs):
    """Ranks of modes (1, 2), (1, 3) and (1, 4): one that the tree does not have is the square of the lower level's."""
    truth = hierarchical_truth((5, 5, 5, 5), ranks, count=10, tree=tree, seed=3).ground_truth
    assert [rank(truth, (0, other)) for other in (1, 2, 3)] == pairs
    width = ranks if isinstance(ranks, int) else ranks[0]
    assert [rank(truth, (mode,)) for mode in range(4)] == [min(5, width)] * 4


def test_a_truth_is_the_sum_over_all_channels():
    """Entry by entry, from the factors that NumPy draws."""
    from rankward.seeding import generator

    truth = hierarchical_truth((2, 3, 2, 2), (2, 3), count=5, seed=7, norm=3.0).ground_truth
    draw = generator(7, "ground truth")
    a, b, c, d, left, right, root = (
        draw.standard_normal(shape) for shape in ((2, 2), (3, 2), (2, 2), (2, 2), (2, 3), (2, 3), (3,))
    )
    made = np.zeros((2, 3, 2, 2))
    for i, j, k, m in np.ndindex(made.shape):
        for r, t, s in itertools.product(range(2), range(2), range(3)):
            made[i, j, k, m] += a[i, r] * b[j, r] * left[r, s] * c[k, t] * d[m, t] * right[t, s] * root[s]
    np.testing.assert_allclose(truth, 3.0 * made / np.sqrt((made**2).sum()), rtol=1e-12)


def test_entries_are_observed_as_those_of_other_tensors():
    few, many = (hierarchical_truth((4, 4, 4), 2, count, seed=5) for count in (10, 30))
    other = random_tensor((4, 4, 4), 1, 10, seed=5)
    assert (many.mask >= few.mask).all() and (few.count, many.count) == (10, 30)
    np.testing.assert_array_equal(few.mask, other.mask)
    np.testing.assert_array_equal(few.ground_truth, many.ground_truth)
    np.testing.assert_array_equal(few.values[few.mask], few.ground_truth[few.mask])
    noisy = hierarchical_truth((4, 4, 4), 2, 64, noise=0.1, seed=5)
    np.testing.assert_array_equal(noisy.ground_truth, few.ground_truth)
    assert np.std(noisy.values - noisy.ground_truth) == pytest.approx(0.1, rel=0.3)


def test_a_matrix_has_a_tree_of_one_node():
    truth = hierarchical_truth((6, 5), 2, count=10).ground_truth
    assert np.linalg.matrix_rank(truth) == 2


def test_ranks_that_are_not_one_a_level_are_refused():
    with pytest.raises(ConfigError, match=r"observations\.rank: \[1, 1, 1\] is not allowed; expected 2 of them"):
        hierarchical_truth((2, 2, 2, 2), [1, 1, 1], 3)
