"""Which kernel a factorization has follows from its shape, and each is right."""

import numpy as np
import pytest
import torch

from helpers.engines import by_hand, ensemble, picked, trained
from rankward.dynamics import FusedEngine, Schedule
from rankward.dynamics.graph import Builder
from rankward.dynamics.kernels import cache
from rankward.dynamics.layouts import layout_of


def product_of(rows, inner, cols):
    builder = Builder("float64")
    return builder.graph([builder.product(builder.input((1, rows, inner)), builder.input((1, inner, cols)))])


@pytest.mark.parametrize(
    ("shape", "side"), [((10, 10, 10), 10), ((64, 4, 8), 12.699208415745595), ((1000, 1, 1), 10), ((1, 1, 1), 1)]
)
def test_a_long_thin_product_counts_as_a_small_one(shape, side):
    assert product_of(*shape).side == pytest.approx(side, rel=1e-15)


def test_a_graph_without_products_has_no_side():
    builder = Builder("float64")
    assert builder.graph([builder.elementwise("add", (3,), builder.input((3,)), 1.0)]).side == 0


def test_only_large_products_are_left_to_blas():
    assert [cache.form(product_of(*shape)) for shape in ((2, 2, 2), (81, 4, 9), (250, 250, 250), (260, 260, 260))] == [
        "unrolled", "blocked", "blocked", "blas"
    ]  # fmt: skip


def test_numbers_are_those_of_inputs_and_steps():
    assert product_of(2, 3, 4).numbers == 6 + 12 + 8


@pytest.mark.parametrize(("sizes", "runs", "kind"), [
    ((8, 8, 8), 2, "single"), ((8, 8, 8), 3, "lanes"), ((20, 20, 20), 4, "single"), ((20, 20, 20), 5, "lanes"),
    ((66, 66, 66), 20, "single"),
])  # fmt: skip
def test_a_register_of_runs_is_taken_where_it_pays(sizes, runs, kind, monkeypatch):
    factorization, _, problem = ensemble(sizes, 1)
    layout = layout_of(factorization, problem.operator.shape[1:], problem.values.shape[1:], "float64")
    monkeypatch.setattr(layout, "_made", lambda kind, dynamics: (print, np.array([kind])))
    assert layout.kernel(runs, "descent")[1] == kind


@pytest.mark.slow
def test_products_of_blas_are_right_and_the_same_alone(monkeypatch):
    """With the limit of smaller matrices, so that the test is quick."""
    monkeypatch.setattr(cache, "ORDERED_LIMIT", 10)
    factorization, factors, problem = ensemble((18, 17, 19), 3, max_iterations=200)
    fast, _, rows = trained(FusedEngine(factorization, Schedule()), factors, problem)
    assert layout_of(factorization, (19, 18), (19, 18), "float64").uses_blas
    for run in range(3):
        one, its_problem = picked(factors, problem, [run])
        mask, values = its_problem.operator[0], its_problem.values[0]
        slow = by_hand([f[0] for f in one], mask, values, float(its_problem.eta[0]), 200)
        for a, b in zip(fast, slow, strict=True):
            torch.testing.assert_close(a[run], torch.as_tensor(b), rtol=1e-10, atol=1e-12)
    alone = trained(FusedEngine(factorization, Schedule()), *picked(factors, problem, [2]))
    assert all(torch.equal(a[2], b[0]) for a, b in zip(fast, alone[0], strict=True)) and alone[2][0] == rows[2]
