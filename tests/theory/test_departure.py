"""Departures of made curves, and lines through values of which some are hidden."""

import numpy as np
import pytest

from rankward.theory import robustness_bound
from rankward.theory.departure import censored_line, departure


def made(leaves):
    """A curve on the sharp minimum until the loss `leaves`, and flat from there."""
    loss = np.geomspace(0.4, 1e-5, 400)
    return loss, 1.2 * np.where(loss > leaves, 1, np.sqrt(loss / leaves)) / np.sqrt(2 * loss)


@pytest.mark.parametrize("leaves", [1e-1, 1e-2, 1e-4])
def test_made_curves_depart_where_they_cross(leaves):
    loss, entry = made(leaves)
    found, row = departure(loss, entry, robustness_bound(loss))
    # flat at 1.2 / sqrt(2 leaves): it meets (1 - s)^2 / s where that is as high
    height = 1.2 / np.sqrt(2 * leaves)
    s = (2 + height - np.sqrt((2 + height) ** 2 - 4)) / 2
    assert found == pytest.approx(s * s / 2, rel=1e-3)
    assert loss[row] < found <= loss[row - 1]


def test_runs_that_stay_never_depart_and_those_that_return_depart_later():
    loss, entry = made(1e-9)
    assert np.isnan(departure(loss, entry, robustness_bound(loss))[0])
    bound = robustness_bound(loss)
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


def test_a_line_without_hidden_values_is_least_squares():
    rng = np.random.default_rng(0)
    x = rng.uniform(-8, -1, 300)
    y = 0.6 * x - 3 + 0.8 * rng.standard_normal(300)
    line = censored_line(x, y, np.zeros(300, bool))
    fit, covariance = np.polyfit(x, y, 1, cov=True)
    assert line.slope == pytest.approx(fit[0], rel=1e-4) and line.intercept == pytest.approx(fit[1], rel=1e-4)
    half = 1.96 * np.sqrt(covariance[0, 0])
    np.testing.assert_allclose(line.interval, [fit[0] - half, fit[0] + half], rtol=0.02)


def test_hidden_values_do_not_flatten_it():
    """Ninety-five per cent intervals hold the true slope about as often as they say; a line through what is seen, rarely."""
    held = naive = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        x = rng.uniform(-8, -1, 200)
        y = 0.6 * x - 3 + 0.8 * rng.standard_normal(200)
        hidden = y < np.log(1e-3)
        line = censored_line(x, np.maximum(y, np.log(1e-3)), hidden)
        assert line.seen == (~hidden).sum() and line.hidden == hidden.sum() > 20
        held += line.interval[0] <= 0.6 <= line.interval[1]
        naive += np.polyfit(x[~hidden], y[~hidden], 1)[0] > 0.55
    assert held >= 34 and naive <= 4


def test_too_few_make_no_line():
    assert censored_line(np.arange(5.0), np.arange(5.0), np.array([0, 0, 1, 1, 1], bool)) is None
