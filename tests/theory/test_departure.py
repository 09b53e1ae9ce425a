"""Departures of made curves, and lines through medians of cells of which some values are hidden."""

import numpy as np
import pytest
from scipy.optimize import brentq

from rankward.theory import robustness_bound
from rankward.theory.departure import departure, median_law, turning


def sharp(loss):
    """The sharp bound of Equation 6 below a loss of 3/8: with 2e + ... = (sqrt(1 + 8 loss) - 1), (1 - e)^(3/2) / e^(1/2)."""
    e = (np.sqrt(1 + 8 * loss) - 1) / 2
    return (1 - e) ** 1.5 / np.sqrt(e)


def made(leaves):
    """A curve 20 % above the sharp bound until the loss `leaves`, and flat from there."""
    loss = np.geomspace(0.37, 1e-5, 400)
    return loss, 1.2 * sharp(np.maximum(loss, leaves))


@pytest.mark.parametrize("leaves", [1e-1, 1e-2, 1e-4])
def test_made_curves_depart_where_they_cross(leaves):
    loss, entry = made(leaves)
    found, row = departure(loss, entry, robustness_bound(loss))
    crossing = brentq(lambda here: sharp(here) - 1.2 * sharp(leaves), leaves / 4, leaves)
    assert found == pytest.approx(crossing, rel=1e-3)
    assert loss[row] < found <= loss[row - 1]


def test_runs_that_stay_never_depart_and_those_that_return_depart_later():
    loss, entry = made(1e-9)
    bound = robustness_bound(loss)
    assert np.isnan(departure(loss, entry, bound)[0])
    dipped = entry.copy()
    dipped[100:110] = 1e-3 * bound[100:110]
    assert departure(loss, dipped, bound)[1] == -1
    dipped[300:] = 1e-3 * bound[300:]
    found, row = departure(loss, dipped, bound)
    assert row == 300 and loss[300] < found < loss[299]


def test_edges():
    nothing = np.array([np.nan, np.inf])
    assert departure(nothing, nothing, nothing)[1] == -1
    loss = np.array([1e-3, 1e-4])
    found, row = departure(loss, np.array([0.0, 0.0]), np.array([1.0, 2.0]))
    assert (found, row) == (1e-3, 0)


def test_the_sign_turns_where_it_turns_for_good():
    loss = np.array([1.0, 0.25, 0.16, 0.09, 0.04])
    assert turning(loss, np.array([True, False, True, False, False])) == pytest.approx(0.12)  # sqrt(0.16 * 0.09)
    assert np.isnan(turning(loss, np.array([True, False, False, False, True])))
    assert turning(loss, np.zeros(5, bool)) == 1.0
    assert np.isnan(turning(np.array([]), np.array([], bool)))


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


def test_the_line_goes_through_the_medians():
    x, y, hidden, cell, cluster = draw(0, shared=False)
    law = median_law(x, y, hidden, cell, cluster)
    medians = np.array([[np.median(values[cell == c]) for values in (x, y)] for c in range(4)])
    slope, intercept = np.polyfit(*medians.T, 1)
    assert law.slope == pytest.approx(slope) and law.intercept == pytest.approx(intercept) and law.cells == 4
    slope, intercept = np.polyfit(*medians[1:].T, 1)
    assert law.ahead[0] == pytest.approx(np.exp(medians[0, 1] - intercept - slope * medians[0, 0]))


@pytest.mark.parametrize("shared", [True, False])
def test_intervals_hold_the_slope_as_often_as_they_say(shared):
    """Of 100 draws at least 88 hold it (fewer have a probability of 0.002), and not all."""
    laws = [median_law(*draw(seed, shared)) for seed in range(100)]
    held = sum(law.interval[0] <= 0.6 <= law.interval[1] for law in laws)
    ahead = sum(law.ahead[1] <= 1 <= law.ahead[2] for law in laws)
    assert 88 <= held <= 99 and 88 <= ahead <= 100


def test_starts_that_are_used_again_are_no_new_evidence():
    """Each start five times: as runs of its own the interval would shrink by sqrt(5); as a cluster it does not."""
    x, y, hidden, cell, cluster = draw(1, shared=False)
    widths = []
    for many, of in ((1, cluster), (5, np.tile(cluster, 5)), (5, np.arange(5 * len(x)))):
        law = median_law(*(np.tile(v, many) for v in (x, y, hidden, cell)), of)
        widths.append(law.interval[1] - law.interval[0])
    assert widths[1] == pytest.approx(widths[0], rel=0.15) and widths[2] < 0.6 * widths[0]


def test_hidden_values_and_a_few_that_are_far_off_do_not_move_it():
    """A fifth of the lowest cell has not departed, and six runs of each departed at the start: the medians hardly care."""
    x, y, hidden, cell, cluster = draw(2, shared=False, floor=-8.8)
    assert 0 < hidden[cell == 0].mean() < 0.25
    whole = median_law(x, draw(2, shared=False)[1], np.zeros_like(hidden), cell, cluster)
    cut = median_law(x, y, hidden, cell, cluster)
    assert cut.slope == pytest.approx(whole.slope) and cut.interval == pytest.approx(whole.interval)
    y[::10] = 0.0
    assert median_law(x, y, hidden, cell, cluster).slope == pytest.approx(0.6, abs=0.1)


def test_cells_that_are_mostly_hidden_are_left_out_and_one_cell_makes_no_line():
    x, y, hidden, cell, cluster = draw(3, shared=False)
    hidden = hidden | (cell == 0) & (cluster % 2 == 0)
    law = median_law(x, y, hidden, cell, cluster)
    assert law.cells == 3
    assert median_law(x, y, hidden | (cell < 2), cell, cluster).ahead is None
    assert median_law(x, y, hidden | (cell < 3), cell, cluster) is None
