"""Least ranks of completions against brute force and another solver; pieces of the graph by hand."""

import itertools

import numpy as np
import pytest
from scipy.optimize import least_squares

from rankward.observations import pattern, two_by_two
from rankward.observations.patterns import mask_of
from rankward.theory import least_rank, pieces
from rankward.theory.completion_rank import has_rank_one


@pytest.mark.parametrize(
    ("shape", "found"),
    [
        ("1100/1100/0011/0011", (2, True)),
        ("1000/0100/0010/0001", (4, True)),
        ("110/011", (1, False)),
        ("11/11", (1, True)),
        ("110/110/001", (2, True)),
        ("110/100/001", (2, False)),
        ("000/010", (1, True)),
    ],
)
def test_pieces_by_hand(shape, found):
    assert pieces(mask_of(shape)) == found


def by_signs(mask, values):
    """Whether x_i y_j can be the observed entries: logarithms by least squares, and every choice of signs."""
    i, j = np.nonzero(mask)
    rows, cols = mask.shape
    seen = values[i, j]
    for dead in itertools.product([False, True], repeat=rows + cols):  # which x and y are zero
        zero = np.array([dead[a] or dead[rows + b] for a, b in zip(i, j, strict=True)], bool)
        if (zero != (seen == 0)).any():
            continue
        matrix = np.zeros((int((~zero).sum()), rows + cols))
        at = np.arange(len(matrix))
        matrix[at, i[~zero]] = matrix[at, rows + j[~zero]] = 1
        target = np.log(np.abs(seen[~zero]))
        if len(matrix) and np.abs(matrix @ np.linalg.lstsq(matrix, target, rcond=None)[0] - target).max() > 1e-9:
            return False
        signs = (np.array(s) for s in itertools.product([1, -1], repeat=rows + cols))
        return any((s[i[~zero]] * s[rows + j[~zero]] == np.sign(seen[~zero])).all() for s in signs)
    return False


def test_rank_one_against_every_choice_of_signs_and_zeros():
    draw, found = np.random.default_rng(0), []
    for _ in range(60):
        mask = draw.random((3, 3)) < 0.7
        values = np.where(mask, draw.choice([-2.0, -1.0, 0.0, 1.0, 1.0, 2.0], (3, 3)), 0.0)
        found.append(has_rank_one(mask, values))
        assert found[-1] == by_signs(mask, values), (mask, values)
    assert 5 < sum(found) < 55


def test_small_cases():
    paper = two_by_two()
    assert least_rank(paper.mask, paper.values) == (2, 2)  # the infimal rank, 1, is not attained
    assert least_rank(np.eye(3, dtype=bool), np.zeros((3, 3))) == (0, 0)
    assert np.isnan(least_rank(np.ones((7, 7), bool), np.ones((7, 7)))).all()
    cycle = pattern("1100/0110/0011/1001", values=range(1, 9))
    assert least_rank(cycle.mask, cycle.values) == (2, 2)
    block = pattern("1110/1110/1110/0001", rank=4)
    assert least_rank(block.mask, block.values, block.ground_truth) == (3, 3)
    truth = pattern("1101/1110/0111/1011", rank=1)
    assert least_rank(truth.mask, truth.values, truth.ground_truth) == (1, 1)
    with pytest.raises(ValueError, match="does not agree with the observations"):
        least_rank(truth.mask, truth.values, 2 * truth.ground_truth)


def reached(mask, values, rank, draw):
    """Whether SciPy finds factors of this rank with the observed entries."""
    rows, cols = mask.shape

    def residual(y):
        return (y[: rows * rank].reshape(rows, rank) @ y[rows * rank :].reshape(rank, cols) - values)[mask]

    starts = draw.standard_normal((20, (rows + cols) * rank))
    return any(np.abs(least_squares(residual, y, xtol=1e-15, ftol=1e-15, gtol=1e-15).fun).max() < 1e-9 for y in starts)


@pytest.mark.slow
def test_bounds_against_another_solver():
    """No completion has a rank below the lower bound, and one of the upper bound exists."""
    draw, equal = np.random.default_rng(0), 0
    for _ in range(30):
        mask = draw.random((4, 4)) < 0.75
        values = draw.integers(-3, 4, (4, 4)).astype(float)
        lower, upper = map(int, least_rank(mask, values))
        assert not any(reached(mask, values, rank, draw) for rank in range(1, lower)), (mask, values)
        assert reached(mask, values, upper, draw), (mask, values)
        equal += lower == upper
    assert equal > 20
