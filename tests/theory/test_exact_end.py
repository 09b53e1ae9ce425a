"""The closed form of depth 2 for a diagonal: against SciPy's flow of the factors; the certificate, tampered with."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp

from helpers.made_traces import facts
from rankward.theory import ExactEnd
from rankward.theory.exact_end import product_at

DIAGONAL = np.eye(3, dtype=bool)


def flow(first, second, mask, values, times):
    """Products of SciPy's flow of both factors, [times, rows, cols]."""
    hidden, cols, rows = *first.shape, len(second)

    def parts(y):
        return y[: hidden * cols].reshape(hidden, cols), y[hidden * cols :].reshape(rows, hidden)

    def slope(_, y):
        lower, upper = parts(y)
        gradient = mask * (upper @ lower - values)
        return np.concatenate([-(upper.T @ gradient).ravel(), -(gradient @ lower.T).ravel()])

    start = np.concatenate([first.ravel(), second.ravel()])
    path = solve_ivp(slope, (0, times[-1]), start, "DOP853", times, rtol=1e-12, atol=1e-14)
    return np.stack([(lambda lower, upper: upper @ lower)(*parts(y)) for y in path.y.T])


@pytest.mark.parametrize(
    "mask", [DIAGONAL, np.array([[0, 1, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0]], bool)], ids=["diagonal", "places"]
)
def test_it_is_where_the_flow_of_the_factors_goes(mask):
    """From a start that is not balanced, also for negative values; some rows and columns have no observed entry."""
    draw = np.random.default_rng(0)
    first, second = draw.normal(0, 0.2, (3, mask.shape[1])), draw.normal(0, 0.3, (3, 3))
    values = np.where(mask, draw.permutation(mask.size).reshape(mask.shape) / 4 - 1, 0.0)
    assert (values[mask] < 0).any() and (values[mask] > 0).any()
    products = flow(first, second, mask, values, np.linspace(0, 60, 7))
    np.testing.assert_allclose(product_at(first, second, mask, products[:, mask]), products, atol=1e-10)
    np.testing.assert_allclose(product_at(first, second, mask, values[mask]), products[-1], atol=1e-10)


def test_what_no_flow_reaches_is_nan_and_shared_rows_are_refused():
    opposite = np.eye(2)  # rows and columns with a + b = 0: <a, b> can only fall
    found = product_at(-opposite, opposite, np.eye(2, dtype=bool), np.array([[0.5, -2.0]]))[0]
    assert np.isnan(found[0, 0]) and found[1, 1] == pytest.approx(-2)
    with pytest.raises(ValueError, match="two observed entries share a row or a column"):
        product_at(np.eye(2), np.eye(2), np.array([[True, True], [False, True]]), np.ones(3))


def made(**changes):
    draw = np.random.default_rng(1)
    first, second = draw.normal(0, 0.05, (3, 3)), draw.normal(0, 0.05, (3, 3))
    values = np.diag([1.0, 1.5, 0.5])
    products = flow(first, second, DIAGONAL, values, np.linspace(0, 40, 20))
    context = facts(
        depth=2, mask=DIAGONAL[None], values=values[None], product=(second @ first)[None],
        factors=[first[None], second[None]], **changes,
    )  # fmt: skip
    trace = {f"entry/{i}_{j}": products[:, i, j] for i in range(3) for j in range(3)}
    return context, {"iteration": np.arange(20), "loss": np.ones(20), "run": np.zeros(20, int), **trace}


def test_a_flow_holds_and_one_tampered_with_does_not():
    context, trace = made()
    found = ExactEnd().verdicts(context, trace)["exact_end"]
    assert found["verdict"] == "holds" and found["distance"] < 1e-10 and found["rows"] == 20
    assert ExactEnd().verdicts(context.of(0), trace)["exact_end"] == found
    for name, row in (("entry/0_1", 19), ("entry/2_2", 7), ("entry/1_0", 3)):
        tampered = {**trace, name: trace[name].copy()}
        tampered[name][row] += 1e-6
        assert ExactEnd().verdicts(context, tampered)["exact_end"]["iteration"] == row, name
    other = facts(**{**vars(context), "factors": [1.001 * context.factors[0], context.factors[1]]})
    assert ExactEnd().verdicts(other, trace)["exact_end"]["verdict"] == "violated"
    first = {name: column[:1] for name, column in trace.items()}
    assert ExactEnd().verdicts(context, first)["exact_end"]["verdict"] == "says nothing here"


@pytest.mark.parametrize(
    ("changes", "premise"),
    [
        ({"dynamics": "descent"}, "gradient flow"),
        ({"depth": 3}, "depth 2, not 3"),
        ({"mask": np.ones((1, 3, 3), bool)}, "no two share a row"),
        ({"decay": np.ones(1)}, "no weight decay"),
        ({"half_sums": np.array([np.nan])}, "the squared loss"),
    ],
)
def test_premises(changes, premise):
    context, trace = made()
    found = ExactEnd().verdicts(facts(**{**vars(context), **changes}), trace)["exact_end"]
    assert found["verdict"] == "not applicable" and premise in found["premise"]
    trace.pop("entry/2_2")
    assert "for all entries" in ExactEnd().verdicts(context, trace)["exact_end"]["premise"]
    with pytest.raises(ValueError, match="tolerance: 0 is not allowed"):
        ExactEnd(tolerance=0)
