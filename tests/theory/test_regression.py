"""Fitted slopes, and lines through medians of cells with hidden values."""

import numpy as np
import pytest

from rankward.theory.regression import fitted_slope, median_law


def test_slope_and_standard_error_agree_with_numpy():
    rng = np.random.default_rng(0)
    x = rng.standard_normal(50)
    y = 2 * x + rng.standard_normal(50)
    fit, covariance = np.polyfit(x, y, 1, cov=True)
    slope, error = fitted_slope(x, y)
    assert slope == pytest.approx(fit[0]) and error == pytest.approx(np.sqrt(covariance[0, 0]))


def draw(seed, shared, runs=60, floor=-np.inf, spread=0.8):
    """y = 0.6 x - 3 + an effect of the start, at four scales: each start at all of them, or each scale with its own."""
    rng = np.random.default_rng(seed)
    scales = np.array([-8.0, -6.0, -4.0, -2.0])
    cell = np.repeat(np.arange(4), runs)
    cluster = np.tile(np.arange(runs), 4) if shared else np.arange(4 * runs)
    shape = rng.standard_normal((2, runs if shared else 4 * runs))
    x = scales[cell] + 0.3 * shape[0][cluster]
    y = 0.6 * x - 3 + spread * shape[1][cluster]
    if shared:  # how a start responds to the scale differs between starts, as it does: the clusters are not just shifts
        y += 0.1 * scales[cell] * rng.standard_normal(runs)[cluster]
    return x, np.maximum(y, floor), y < floor, cell, cluster


def test_line_goes_through_the_medians():
    x, y, hidden, cell, cluster = draw(0, shared=False)
    law = median_law(x, y, hidden, cell, cluster)
    medians = np.array([[np.median(values[cell == c]) for values in (x, y)] for c in range(4)])
    slope, intercept = np.polyfit(*medians.T, 1)
    assert law.slope == pytest.approx(slope) and law.intercept == pytest.approx(intercept) and law.cells == 4
    slope, intercept = np.polyfit(*medians[1:].T, 1)
    assert law.ahead[0] == pytest.approx(np.exp(medians[0, 1] - intercept - slope * medians[0, 0]))


@pytest.mark.parametrize("shared", [True, False])
def test_intervals_have_their_nominal_coverage(shared):
    """Of 100 draws at least 88 hold it (fewer have a probability of 0.002), and not all."""
    laws = [median_law(*draw(seed, shared)) for seed in range(100)]
    held = sum(law.interval[0] <= 0.6 <= law.interval[1] for law in laws)
    ahead = sum(law.ahead[1] <= 1 <= law.ahead[2] for law in laws)
    assert 88 <= held <= 99 and 88 <= ahead <= 100


def test_repeated_starts_do_not_shrink_the_interval():
    """Each start five times: as runs of its own the interval would shrink by sqrt(5); as a cluster it does not."""
    x, y, hidden, cell, cluster = draw(1, shared=False)
    widths = []
    for many, of in ((1, cluster), (5, np.tile(cluster, 5)), (5, np.arange(5 * len(x)))):
        law = median_law(*(np.tile(v, many) for v in (x, y, hidden, cell)), of)
        widths.append(law.interval[1] - law.interval[0])
    assert widths[1] == pytest.approx(widths[0], rel=0.15) and widths[2] < 0.6 * widths[0]


def test_hidden_values_and_outliers_do_not_move_the_line():
    """A fifth of the lowest cell has not departed, and six runs of each departed at the start: the medians hardly care."""
    x, y, hidden, cell, cluster = draw(2, shared=False, floor=-8.8)
    assert 0 < hidden[cell == 0].mean() < 0.25
    complete = median_law(x, draw(2, shared=False)[1], np.zeros_like(hidden), cell, cluster)
    cut = median_law(x, y, hidden, cell, cluster)
    assert cut.slope == pytest.approx(complete.slope) and cut.interval == pytest.approx(complete.interval)
    y[::10] = 0.0
    assert median_law(x, y, hidden, cell, cluster).slope == pytest.approx(0.6, abs=0.1)


def test_mostly_hidden_cells_are_left_out_and_one_cell_gives_no_line():
    x, y, hidden, cell, cluster = draw(3, shared=False)
    hidden = hidden | (cell == 0) & (cluster % 2 == 0)
    law = median_law(x, y, hidden, cell, cluster)
    assert law.cells == 3
    assert median_law(x, y, hidden | (cell < 2), cell, cluster).ahead is None
    assert median_law(x, y, hidden | (cell < 3), cell, cluster) is None
