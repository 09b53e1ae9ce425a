"""Fixed points of weight decay: against SciPy's roots and solver; the certificate on made rows, tampered with."""

import numpy as np
import pytest
from scipy.integrate import solve_ivp
from scipy.optimize import brentq

from helpers.made_traces import facts
from rankward.theory import Shrinkage, fixed_point
from rankward.theory.shrinkage import aligned

DECAY = 0.3


def speed(s, target, depth):
    """Of one singular value of a balanced, aligned flow."""
    return depth * np.maximum(s, 0) ** (2 - 2 / depth) * (target - s) - depth * DECAY * s


@pytest.mark.parametrize("depth", [2, 3, 5])
def test_fixed_points_are_where_the_flow_ends(depth):
    targets, starts = np.array([0.2, 0.7, 1.0, 3.0, -1.0]), np.array([1e-3, 0.6, 5.0])
    ends = fixed_point(targets, DECAY, depth, starts[:, None])
    for start, row in zip(starts, ends, strict=True):
        for target, end in zip(targets, row, strict=True):
            times = (0, 400.0)
            path = solve_ivp(lambda _, s, y=target: speed(s, y, depth), times, [start], "LSODA", rtol=1e-10, atol=1e-13)
            assert path.y[0, -1] == pytest.approx(end, abs=1e-8)
    if depth == 2:
        np.testing.assert_allclose(ends[0], np.maximum(targets - DECAY, 0))
    else:  # a jump: from above, the end is never small
        assert set(ends[2] == 0) == {True, False} and ends[2][ends[2] > 0].min() > 0.3
    power = 2 / depth - 1
    root = brentq(lambda s: s - 3 + DECAY * s**power, 1, 4, xtol=1e-15)
    assert fixed_point(3.0, DECAY, depth, 1.0) == pytest.approx(root, rel=1e-13)


def test_the_end_depends_on_the_smaller_root():
    lower = brentq(lambda s: s - 2 + DECAY * s ** (-1 / 3), 1e-6, 0.5, xtol=1e-16)
    ends = fixed_point(2.0, DECAY, 3, lower * np.array([0, 1 - 1e-9, 1 + 1e-9, np.nan]))
    assert ends[0] == ends[1] == 0 and ends[2] > 1 and np.isnan(ends[3])
    with pytest.raises(ValueError, match="depth: 1 is not allowed"):
        fixed_point(1.0, 1.0, 1, 1.0)
    with pytest.raises(ValueError, match="decay"):
        fixed_point(1.0, 0.0, 2, 1.0)


def made(depth=3, time=200.0):
    """The context and the trace of a flow from 0.5 times the identity to the targets 2 and 0.2, in turned vectors."""
    turn = np.array([[0.6, -0.8], [0.8, 0.6]])
    targets = np.array([2.0, 0.2])
    times = np.linspace(0, time, 50)
    paths = [
        solve_ivp(lambda _, s, y=y: speed(s, y, depth), (0, time), [0.5], "LSODA", times, rtol=1e-10, atol=1e-14).y[0]
        for y in targets
    ]
    values = np.sort(np.stack(paths), axis=0)[::-1]
    context = facts(
        depth=depth, dynamics="decaying_flow", decay=np.array([DECAY]), mask=np.ones((1, 2, 2), bool),
        values=(turn * targets @ turn.T)[None], product=0.5 * np.eye(2)[None],
    )  # fmt: skip
    trace = {"iteration": np.arange(50), "loss": np.ones(50), "time": times}
    return context, {**trace, "singular_value/0": values[0], "singular_value/1": values[1]}


def test_a_run_to_the_fixed_points_holds_and_one_tampered_with_does_not():
    context, trace = made()
    found = Shrinkage().verdicts(context, trace)["shrinkage"]
    assert found["verdict"] == "holds" and found["distance"] < 1e-8 and found["rows"] == 50
    mean = facts(**{**vars(context), "half_sums": np.full(1, 2.0), "decay": np.array([DECAY / 2])})  # of four entries
    assert Shrinkage().verdicts(mean, trace)["shrinkage"] == found
    for name, row, value in (
        ("singular_value/0", 49, 2.0),
        ("singular_value/0", 30, 0.4),
        ("singular_value/1", 7, np.nan),
    ):
        tampered = {**trace, name: trace[name].copy()}
        tampered[name][row] = value
        found = Shrinkage().verdicts(context, tampered)["shrinkage"]
        assert (found["verdict"], found["iteration"]) == ("violated", row)
    short = {name: column[:3] for name, column in trace.items()}
    assert Shrinkage().verdicts(context, short)["shrinkage"]["verdict"] == "says nothing here"
    del trace["singular_value/1"]
    assert "singular_value" in Shrinkage().verdicts(context, trace)["shrinkage"]["premise"]


@pytest.mark.parametrize(
    ("changes", "premise"),
    [
        ({"half_sums": np.full(1, np.nan)}, "the squared loss"),
        ({"depth": 1}, "depth of at least 2"),
        ({"dynamics": "descent"}, "discrete steps"),
        ({"dynamics": "flow", "decay": None}, "weight decay"),
        ({"mask": np.array([[[False, True], [True, True]]])}, "all entries observed"),
        ({"mask": None, "values": np.ones((1, 3))}, "all entries observed"),
        ({"unbalancedness": np.ones(1)}, "balanced start"),
        ({"product": np.array([[[1.0, 0.3], [0.0, 1.0]]])}, "singular vectors of the observations"),
        ({"product": -np.eye(2)[None]}, "same signs"),
        ({"product": np.zeros((1, 2, 2))}, "singular vectors of the observations"),
    ],
)
def test_each_premise_can_fail(changes, premise):
    context, trace = made()
    found = Shrinkage().verdicts(facts(**{**vars(context), **changes}), trace)["shrinkage"]
    assert found["verdict"] == "not applicable" and premise in found["premise"]


def test_matrices_of_any_size_are_aligned_by_their_vectors():
    rng = np.random.default_rng(0)
    left, right = np.linalg.qr(rng.standard_normal((5, 3)))[0], np.linalg.qr(rng.standard_normal((4, 3)))[0]
    start, target = aligned((left * [2, 2, 1]) @ right.T, (left * [1, -3, 0.5]) @ right.T)
    assert sorted(zip(start.round(9), target.round(9), strict=True)) == [(0, 0), (1, 0.5), (2, -3), (2, 1)]
