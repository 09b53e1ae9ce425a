"""Escape times against quadrature and SciPy's least squares, and stages of traces made by hand."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import curve_fit

from rankward.theory import escape_law, escape_time, stages, stages_of
from rankward.theory.escape import leaving_time


@pytest.mark.parametrize("order", [2, 3, 4])
def test_time_is_the_integral_of_the_law(order):
    expected, _ = quad(lambda sigma: 1 / (order * 1.5 * sigma ** (2 - 2 / order)), 1e-3, 0.7)
    assert escape_time(1e-3, 0.7, 1.5, order) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("order", [2, 4])
def test_fit_and_its_error_are_those_of_scipy(order):
    start = np.logspace(-6, -1, 9)
    time = escape_time(start, 0.5, 2.0, order) + 0.05 * np.random.default_rng(order).standard_normal(9)
    law = escape_law(start, time)

    def model(sigma, exponent, offset, rate):
        return offset + rate * (sigma**-exponent - 1) / exponent

    found, covariance = curve_fit(model, start, time, p0=[1 - 2 / order + 0.01, 0.1, 0.3], maxfev=20_000)
    assert law.exponent == pytest.approx(found[0], abs=1e-5) and law.points == 9
    assert law.standard_error == pytest.approx(np.sqrt(covariance[0, 0]), rel=1e-3)
    assert abs(law.exponent - (1 - 2 / order)) < 4 * law.standard_error
    np.testing.assert_allclose(law.time(start), model(start, *found), atol=1e-4)


def test_no_law_without_enough_starts_or_times():
    assert escape_law(np.array([0.1, 0.2, 0.3]), np.ones(3)) is None
    assert escape_law(np.logspace(-4, -1, 4), np.array([1.0, 2.0, np.nan, 3.0])) is None
    assert np.isnan(leaving_time(np.arange(2.0), np.array([np.nan, np.nan])))
    assert leaving_time(np.arange(3.0), np.array([2.0, 3.0, 1.0])) == 0


def test_stages_of_a_staircase():
    """Three components that rise at 100, 1,000 and 4,000; the fourth stays small, and the first starts at 0.1."""
    iteration = np.arange(0, 10_001, 50)
    rises = (100, 1000, 4000)
    norms = np.stack([np.where(iteration >= at, 3.0 - r, 0.1 - 0.01 * r) for r, at in enumerate(rises)])
    norms = np.concatenate([norms, np.full((1, len(iteration)), 0.05)])
    error = 1.0 - 0.3 * (iteration[None] >= np.array(rises)[:, None]).sum(0)
    found = stages(iteration, norms, error)
    assert found.rises == rises and not found.maybe_more
    assert found.plateaus == ((0, 50), (100, 950), (1000, 3950), (4000, 10_000))
    assert stages(iteration, norms[:3], error).maybe_more
    falling = stages(iteration[1:], norms[:, 1:], iteration[1:] ** -1.0)  # 1.05 in the error is 1.05 in the iteration
    assert falling.plateaus == ()
    large = stages(iteration, np.ones((2, len(iteration))), error)
    assert large.rises == () and large.maybe_more
    broken = stages(iteration, np.where(iteration > 2000, np.nan, norms), np.where(iteration > 2000, np.nan, error))
    assert broken.rises == (100, 1000) and broken.plateaus[-1] == (1000, 2000)


def test_plateaus_are_those_of_a_search_over_all_intervals():
    rng = np.random.default_rng(0)
    for _ in range(20):
        iteration = np.cumsum(rng.integers(1, 30, 60))
        error = np.exp(np.cumsum(rng.normal(0, 0.02, 60) * (rng.random(60) < 0.5)))
        start, expected = 0, []
        while start < 60:
            last = max(b for b in range(start, 60) if error[start : b + 1].max() <= 1.05 * error[start : b + 1].min())
            if last > start and iteration[last] >= 1.1 * iteration[start]:
                joined = expected and expected[-1][1] == iteration[start]
                first = expected.pop()[0] if joined else iteration[start]
                expected.append((first, iteration[last]))
                start = last
            else:
                start += 1
        assert stages(iteration, np.ones((1, 60)), error).plateaus == tuple(expected)


def test_the_node_with_most_rises_counts():
    rows = np.arange(4)
    flat, rising = np.ones(4), np.array([0.1, 0.2, 1.0, 1.0])
    names = [f"local_component/{node}/{r}" for node in ("0_1", "2_3", "root") for r in (0, 1)]
    trace = {"iteration": rows, "loss": np.ones(4)} | dict(
        zip(names, [rising, rising, rising, rising, flat, flat], strict=True)
    )
    found = stages_of(trace)
    assert found.norms == ("local_component/2_3/0", "local_component/2_3/1") and found.stages.rises == (2, 2)
    assert stages_of({"iteration": rows, "loss": flat}) is None and stages_of({}) is None
