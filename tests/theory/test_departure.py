"""Departures of constructed curves from the bound."""

import numpy as np
import pytest
from scipy.optimize import brentq

from rankward.theory import robustness_bound
from rankward.theory.departure import departure, protection, turning


def sharp(loss):
    """The sharp bound of Equation 6 below a loss of 3/8: with 2e + ... = (sqrt(1 + 8 loss) - 1), (1 - e)^(3/2) / e^(1/2)."""
    e = (np.sqrt(1 + 8 * loss) - 1) / 2
    return (1 - e) ** 1.5 / np.sqrt(e)


def curve(leaves):
    """A curve 20 % above the sharp bound until the loss `leaves`, and flat from there."""
    loss = np.geomspace(0.37, 1e-5, 400)
    return loss, 1.2 * sharp(np.maximum(loss, leaves))


@pytest.mark.parametrize("leaves", [1e-1, 1e-2, 1e-4])
def test_departure_is_the_crossing_of_the_bound(leaves):
    loss, entry = curve(leaves)
    found, row = departure(loss, entry, robustness_bound(loss))
    crossing = brentq(lambda loss: sharp(loss) - 1.2 * sharp(leaves), leaves / 4, leaves)
    assert found == pytest.approx(crossing, rel=1e-3)
    assert loss[row] < found <= loss[row - 1]


def test_only_the_last_crossing_counts():
    loss, entry = curve(1e-9)
    bound = robustness_bound(loss)
    assert np.isnan(departure(loss, entry, bound)[0])
    dipped = entry.copy()
    dipped[100:110] = 1e-3 * bound[100:110]
    assert departure(loss, dipped, bound)[1] == -1
    dipped[300:] = 1e-3 * bound[300:]
    found, row = departure(loss, dipped, bound)
    assert row == 300 and loss[300] < found < loss[299]


def test_departure_without_finite_rows_or_below_from_the_start():
    nothing = np.array([np.nan, np.inf])
    assert departure(nothing, nothing, nothing)[1] == -1
    loss = np.array([1e-3, 1e-4])
    found, row = departure(loss, np.array([0.0, 0.0]), np.array([1.0, 2.0]))
    assert (found, row) == (1e-3, 0)


def test_turning_is_the_last_change_of_sign():
    loss = np.array([1.0, 0.25, 0.16, 0.09, 0.04])
    assert turning(loss, np.array([True, False, True, False, False])) == pytest.approx(0.12)  # sqrt(0.16 * 0.09)
    assert np.isnan(turning(loss, np.array([True, False, False, False, True])))
    assert turning(loss, np.zeros(5, bool)) == 1.0
    assert np.isnan(turning(np.array([]), np.array([], bool)))


def test_no_layer_is_singular_while_unbalancedness_protects():
    """Layers near a balanced chain, one of them pulled through a singular matrix: its row is never protected."""
    rng = np.random.default_rng(0)
    for depth in (2, 3, 4):
        for noise in (1e-4, 1e-3):
            layers = [np.diag([1.0, 0.3]) + noise * rng.standard_normal((2, 2)) for _ in range(depth)]
            rows = []
            for share in np.linspace(1, -1, 201):  # of the small singular value, which turns the sign at 0
                moved = [
                    layer @ np.diag([1.0, share if at == 0 else max(share, noise)]) for at, layer in enumerate(layers)
                ]
                values = np.array([np.linalg.svd(layer, compute_uv=False) for layer in moved])
                apart = max(np.linalg.norm(b.T @ b - a @ a.T, 2) for a, b in zip(moved, moved[1:], strict=False))
                product = np.linalg.multi_dot(moved[::-1]) if depth > 2 else moved[1] @ moved[0]
                rows.append(
                    (np.linalg.det(product), (values[:, 1] / values[:, 0]).min(), np.linalg.norm(product, 2), apart)
                )
            determinant, resolution, spectral, apart = np.array(rows).T
            loss = np.geomspace(1, 1e-4, len(rows))
            last, count = protection(loss, resolution, spectral, apart, depth)
            turned = int((determinant * determinant[0] < 0).argmax())
            assert 0 < count <= turned and last == loss[count - 1]
    assert protection(loss, resolution, spectral, np.full(len(loss), 10.0), 2)[1] == 0
    assert protection(loss, np.ones(len(loss)), np.ones(len(loss)), np.zeros(len(loss)), 3) == (loss[-1], len(loss))
