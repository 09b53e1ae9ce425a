"""The rule for stops and rows: hand-computed checks in every form of its text, and stops at a plateau in every engine."""

import math

import numba
import pytest
import torch

from rankward.dynamics import (
    BatchedEngine,
    Flow,
    FusedEngine,
    Plateau,
    Problem,
    Progress,
    ReferenceEngine,
    Schedule,
    Status,
)
from rankward.dynamics.kernels.cache import check_text, imported
from rankward.dynamics.rule import OF_A_RUN, OF_RUNS
from rankward.factorizations import LinearFactorization

R, C, M, D, T, P = (
    int(Status[name]) for name in ("RUNNING", "CONVERGED", "MAX_ITERATIONS", "DIVERGED", "MAX_TIME", "PLATEAU")
)
# iteration, loss, forced, limit, stop_loss, window, tolerance, below, next_record, lowest_loss, marked, marked_loss,
# and by hand: status, due, recorded, below, lowest_loss, marked, marked_loss. Two checks in a row stop a run; a row is
# also recorded at half the lowest loss.
CHECKS = [
    ((0, 8.0, R, 900, 1.0, 0, 0.0, 0, 0, math.inf, -1, 0.0), (R, True, True, 0, 8.0, -1, 0.0)),  # the first check
    ((50, 4.5, R, 900, 1.0, 0, 0.0, 0, 60, 8.0, -1, 0.0), (R, False, False, 0, 8.0, -1, 0.0)),  # no row is due
    ((50, 4.0, R, 900, 1.0, 0, 0.0, 0, 60, 8.0, -1, 0.0), (R, False, True, 0, 4.0, -1, 0.0)),  # the loss has fallen
    ((50, 9.0, R, 900, 1.0, 0, 0.0, 0, 50, 8.0, -1, 0.0), (R, True, True, 0, 8.0, -1, 0.0)),  # a row, and no lower loss
    ((50, 0.9, R, 900, 1.0, 0, 0.0, 0, 60, 1.0, -1, 0.0), (R, False, False, 1, 1.0, -1, 0.0)),  # below, once
    ((50, 0.9, R, 900, 1.0, 0, 0.0, 1, 60, 1.0, -1, 0.0), (C, False, True, 2, 0.9, -1, 0.0)),  # below, twice
    ((50, 1.0, R, 900, 1.0, 0, 0.0, 1, 60, 1.0, -1, 0.0), (R, False, False, 0, 1.0, -1, 0.0)),  # equal is not below
    ((900, 0.9, R, 900, 1.0, 0, 0.0, 1, 999, 1.0, -1, 0.0), (C, False, True, 2, 0.9, -1, 0.0)),  # at the limit, too
    ((900, 3.0, T, 900, 1.0, 0, 0.0, 0, 999, 3.0, -1, 0.0), (M, False, True, 0, 3.0, -1, 0.0)),
    ((50, 3.0, T, 900, 1.0, 0, 0.0, 0, 999, 3.0, -1, 0.0), (T, False, True, 0, 3.0, -1, 0.0)),
    ((900, math.nan, R, 900, 1.0, 9, 0.1, 1, 999, 3.0, 0, 3.0), (D, False, True, 0, 3.0, 900, math.nan)),
    ((50, math.inf, R, 900, 1.0, 0, 0.0, 1, 999, 3.0, -1, 0.0), (D, False, True, 0, 3.0, -1, 0.0)),
    ((0, 8.0, R, 900, 1.0, 70, 0.5, 0, 0, math.inf, -1, 0.0), (R, True, True, 0, 8.0, 0, 8.0)),  # the first mark
    ((50, 8.0, R, 900, 1.0, 70, 0.5, 0, 60, 8.0, 0, 8.0), (R, False, False, 0, 8.0, 0, 8.0)),  # within the window
    ((70, 8.0, R, 900, 1.0, 70, 0.5, 0, 80, 8.0, 0, 8.0), (P, False, True, 0, 8.0, 70, 8.0)),
    (
        (100, 4.0, R, 900, 1.0, 70, 0.5, 0, 200, 6.0, 0, 8.0),
        (P, False, True, 0, 4.0, 100, 4.0),
    ),  # exactly the tolerance
    ((100, 3.9, R, 900, 1.0, 70, 0.5, 0, 200, 6.0, 0, 8.0), (R, False, False, 0, 6.0, 100, 3.9)),  # the mark moves
    ((100, 12.1, R, 900, 1.0, 70, 0.5, 0, 200, 6.0, 0, 8.0), (R, False, False, 0, 6.0, 100, 12.1)),  # upwards as well
    ((900, 8.0, T, 900, 1.0, 70, 0.5, 0, 999, 8.0, 0, 8.0), (P, False, True, 0, 8.0, 900, 8.0)),
    ((900, 0.9, T, 900, 1.0, 70, 0.5, 1, 999, 1.0, 0, 0.9), (C, False, True, 2, 0.9, 900, 0.9)),
    ((70, 0.0, R, 900, 0.0, 70, 0.0, 0, 80, 0.0, 0, 0.0), (P, False, True, 0, 0.0, 70, 0.0)),
]
# iteration, stride, every, ratio; and the next iteration with a row
ROWS = [
    ((0, 50, 0, 1.02), 50),
    ((10_000, 50, 0, 1.02), 10_200),
    ((10_050, 50, 0, 1.02), 10_300),
    ((300, 50, 100, 1.02), 400),
]


KINDS = {int: torch.int64, float: torch.float64}


def alike(made, expected):
    return all(a == b or (math.isnan(a) and math.isnan(b)) for a, b in zip(made, expected, strict=True))


def in_tensors(given, expected):
    made = OF_RUNS.check(*(torch.tensor(each, dtype=KINDS[type(each)]) for each in given), 2, 0, 0.5)
    return alike([float(each) for each in made], expected)


def test_checks_by_hand():
    for given, expected in CHECKS:
        assert alike(OF_A_RUN.check(*given, 2, 0, 0.5), expected), given
        assert in_tensors(given, expected), given
    for given, expected in ROWS:
        assert OF_A_RUN.after(*given) == expected
        assert int(OF_RUNS.after(torch.tensor(given[0]), *given[1:])) == expected


@pytest.mark.slow  # compiles
def test_checks_by_hand_in_a_kernel():
    kernel = imported("rule_alone", "import math\n\nimport numba\n" + check_text())
    for given, expected in CHECKS:
        assert alike(kernel.check(*given, 2, 0, 0.5), expected), given
    for given, expected in ROWS:
        assert kernel.after(*given) == expected
    assert numba.extending.is_jitted(kernel.check)


def contradiction(window, tolerance, flow=False):
    """Measurements w = 1 and w = -1 of one number: the loss w^2 + 1 never reaches 0. A step of 1/4 halves w."""
    one = torch.ones(1, dtype=torch.float64)
    matrices, values = torch.ones(1, 2, 1, 1, dtype=torch.float64), torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    plateau = Plateau(torch.tensor([window]), tolerance * one)
    limits = Flow(1e-6 * one, 1e-9 * one, math.inf * one) if flow else None
    return Problem(matrices, values, 0.25 * one, 0 * one, torch.tensor([1000]), one, flow=limits, plateau=plateau)


def end_of(engine, problem, length):
    factors, progress = [torch.ones(1, 1, 1, dtype=torch.float64)], Progress.start(1)
    losses = {}
    while len(progress.running):
        rows = engine.advance(factors, problem, progress, length)
        losses |= dict(zip(rows.iteration.tolist(), rows.loss.tolist(), strict=True))
    return Status(int(progress.status)), int(progress.iteration), losses


ENGINES = [BatchedEngine, ReferenceEngine, pytest.param(FusedEngine, marks=pytest.mark.slow)]


@pytest.mark.parametrize("kind", ENGINES)
def test_descent_stops_at_a_plateau(kind):
    """Losses 1 + 4^-t: marks at 0, 2 and 4; at 6 the change is 4^-4 - 4^-6, below (1 + 4^-4) / 64. In threes: 0, 6, 12."""
    for stride, window, expected in ((1, 2, 6), (3, 4, 12)):
        engine = kind(LinearFactorization((1, 1)), Schedule(stride=stride, every=stride))
        for length in (stride, 2 * stride, 30):
            status, iteration, losses = end_of(engine, contradiction(window, 2.0**-6), length)
            assert (status, iteration) == (Status.PLATEAU, expected)
            assert losses == {t: 1 + 4.0**-t for t in range(0, expected + 1, stride)}


@pytest.mark.parametrize("kind", ENGINES[1:])
def test_flow_stops_at_a_plateau(kind):
    engine = kind(LinearFactorization((1, 1)), Schedule(stride=1, every=1))
    status, iteration, losses = end_of(engine, contradiction(4, 1e-3, flow=True), 7)
    changes = [abs(losses[t + 4] - losses[t]) <= 1e-3 * losses[t] for t in range(0, iteration, 4)]
    assert status == Status.PLATEAU and changes == [False] * (iteration // 4 - 1) + [True]
    assert end_of(engine, contradiction(4, 1e-3, flow=True), 1000) == (status, iteration, losses)
