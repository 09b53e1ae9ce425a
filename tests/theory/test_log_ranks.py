"""Corollary 1 on flow in singular coordinates: ranks from logarithms, against 50 digits, and tampered with."""

import mpmath
import numpy as np
import pytest

from helpers.made_traces import facts, sharp_trace
from rankward.theory import Corollary1
from rankward.theory.statements import _log_ranks


def exact(smallest, largest):
    with mpmath.workdps(800):  # the exponential of -1500 has 650 zeros
        values = [mpmath.exp(mpmath.mpf(smallest)), mpmath.mpf(largest)]
        shares = [each / mpmath.fsum(values) for each in values]
        return float(mpmath.log(mpmath.expm1(-mpmath.fsum(share * mpmath.log(share) for share in shares))))


def test_logarithms_of_ranks_in_many_digits():
    smallest, largest = np.array([-1500.0, -800.0, -40.0, -3.0, -0.1]), np.array([70.0, 50.0, 8.0, 2.0, 1.0])
    trace = {"determinant/log_abs": smallest + np.log(largest), "norm/spectral": largest}
    found = _log_ranks(facts(spectral=True), trace)
    np.testing.assert_allclose(found["rank/distance_to_infimal"], smallest, rtol=1e-14)
    np.testing.assert_allclose(found["rank/effective"], list(map(exact, smallest, largest)), rtol=1e-13)
    assert _log_ranks(facts(), trace) == {}


def made(rows=200):
    """A flow whose smaller singular value falls like exp(-W_11^2 / 2): far below what its entries can hold."""
    trace = sharp_trace(rows)
    trace["determinant/log_abs"] = -0.5 * trace["entry/0_0"] ** 2 + np.log(trace["norm/spectral"])
    smaller = np.exp(-0.5 * trace["entry/0_0"] ** 2)
    trace["rank/effective"] = 1 + np.where(smaller > 1e-17, smaller, 0.0)  # as floats have it
    trace["rank/distance_to_infimal"] = smaller
    return facts(depth=2, spectral=True), trace


def test_ranks_below_rounding_are_judged():
    context, trace = made()
    found = Corollary1().verdicts(context, trace)
    for name in ("rank/effective", "rank/distance_to_infimal"):
        assert found[f"corollary_1/{name}"]["verdict"] == "holds" and found[f"corollary_1/{name}"]["slope"] > 100
        blind = Corollary1().verdicts(facts(depth=2), trace | {"determinant/resolution": np.ones(len(trace["loss"]))})
    verdict = blind["corollary_1/rank/effective"]  # the product alone: its rank has come to its infimum up to rounding
    assert verdict["verdict"] == "holds" and "slope" not in verdict and 1e-4 < verdict["at_limit_below"] < 1


@pytest.mark.parametrize("smallest", [np.full(200, -1.0), np.linspace(-500, -1, 200)], ids=["level", "rising"])
def test_a_rank_that_does_not_fall_is_a_violation(smallest):
    context, trace = made()
    trace["determinant/log_abs"] = smallest + np.log(trace["norm/spectral"])
    found = Corollary1().verdicts(context, trace)
    assert found["corollary_1/rank/distance_to_infimal"]["verdict"] == "violated"
