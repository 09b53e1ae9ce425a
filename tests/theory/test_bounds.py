"""The robustness bound against a numerical minimum over all matrices that the theorem speaks of."""

import numpy as np
import pytest
from scipy.optimize import minimize

from rankward.theory import robustness_bound


@pytest.mark.parametrize("b", [(1.0, 1.0, 0.0), (-2.0, 0.5, 0.1), (1.0, -3.0, -0.5)])
@pytest.mark.parametrize("loss", [1e-1, 1e-3, 1e-5])
def test_no_matrix_of_the_right_sign_and_loss_is_below(b, loss):
    b_12, b_21, b_22 = b
    if np.sqrt(2 * loss) >= min(abs(b_12), abs(b_21)):
        return
    rng = np.random.default_rng(0)
    error = rng.standard_normal((20_000, 3))
    error *= (np.sqrt(2 * loss) * rng.random((20_000, 1)) ** (1 / 3)) / np.linalg.norm(error, axis=1, keepdims=True)
    w_12, w_21, w_22 = b_12 + error[:, 0], b_21 + error[:, 1], b_22 + error[:, 2]
    # det has the sign of b_12 b_21 only where W_11 W_22 is beyond W_12 W_21: |W_11| > |W_12 W_21 / W_22|
    smallest = np.abs(w_12 * w_21 / w_22)
    assert smallest.min() >= robustness_bound(loss, *b)


def test_it_is_tight_as_the_loss_vanishes():
    """At small loss nearly all of it goes into W_22, and the bound is met up to a factor 1 + O(s)."""
    for loss in (1e-4, 1e-8):
        s = np.sqrt(2 * loss)
        found = minimize(
            lambda e, s=s: abs((1 + s * e[0]) * (1 + s * e[1]) / (s * np.sqrt(max(1e-12, 1 - e[0] ** 2 - e[1] ** 2)))),
            np.zeros(2),
            method="Nelder-Mead",
        ).fun
        assert 1 <= found / robustness_bound(loss) < 1 + 3 * s


def test_where_it_says_nothing():
    assert np.isnan(robustness_bound(0.5)) and np.isnan(robustness_bound([1.0, 2.0])).all()
    assert np.isinf(robustness_bound(0.0))
    assert robustness_bound(0.0, b_12=-2.0, b_21=0.5, b_22=0.1) == pytest.approx(10.0)
