"""The engines against each other, against plain NumPy, and against themselves in other company."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from helpers.engines import after, by_hand, ensemble, picked, trained
from helpers.own_factorizations import chain
from rankward.config import ConfigError
from rankward.dynamics import Flow, FusedEngine, Problem, ReferenceEngine, Schedule, Status, choose_engine
from rankward.dynamics.kernels import cache
from rankward.factorizations import LinearFactorization, MatrixFactorization

SHAPES = [(2, 2), (2, 2, 2), (2, 2, 2, 2), (2,) * 6, (3, 2, 4), (5, 5, 5, 5), (6, 7, 8, 4), (18, 17, 19), (66, 5, 65)]


@pytest.mark.parametrize("sizes", SHAPES)
def test_fused_agrees_with_autograd_and_numpy(sizes):
    runs = 3
    factorization, factors, problem = ensemble(sizes, runs)
    schedule = Schedule()
    slow, _, slow_rows = trained(ReferenceEngine(factorization, schedule), factors, problem)
    fast, _, fast_rows = trained(FusedEngine(chain(sizes), schedule), factors, problem)
    for a, b in zip(slow, fast, strict=True):
        assert ((a - b).flatten(1).norm(dim=1) <= 1e-10 * a.flatten(1).norm(dim=1)).all()
    for run in range(runs):
        assert [row[0] for row in slow_rows[run]] == [row[0] for row in fast_rows[run]]
        np.testing.assert_allclose([r[1] for r in slow_rows[run]], [r[1] for r in fast_rows[run]], rtol=1e-9)
    hand = by_hand([f[1] for f in factors], problem.operator[1], problem.values[1], problem.eta[1], 1000)
    for a, b in zip(hand, fast, strict=True):
        assert np.linalg.norm(a - b[1].numpy()) <= 1e-10 * np.linalg.norm(a)


@pytest.mark.parametrize("dtype", [torch.float64, pytest.param(torch.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    "sizes",
    [
        (2, 2, 2, 2),
        pytest.param((5, 5, 5, 5), marks=pytest.mark.slow),
        pytest.param((18, 17, 19), marks=pytest.mark.slow),
        (66, 5, 65),
    ],
)
def test_bits_depend_on_neither_company_nor_threads_nor_chunks(sizes, dtype):
    runs = 37 if max(sizes) < 10 else 9
    factorization, factors, problem = ensemble(sizes, runs, dtype, max_iterations=620, stop_loss=0.3, eta=(1e-4, 2e-2))
    schedule = Schedule()
    whole = trained(FusedEngine(chain(sizes), schedule, threads=2), factors, problem)
    assert len(set(whole[1].iteration.tolist())) > 1  # they stop at different times, so lanes change hands
    for threads, length in ((1, 10_000), (2, 150), (3, 50)):
        again = trained(FusedEngine(chain(sizes), schedule, threads), factors, problem, length)
        assert all(torch.equal(a, b) for a, b in zip(whole[0], again[0], strict=True))
        assert again[2] == whole[2]
    for run in (0, 5, runs - 1):
        alone = trained(FusedEngine(chain(sizes), schedule), *picked(factors, problem, [run]))
        assert all(torch.equal(a[run], b[0]) for a, b in zip(whole[0], alone[0], strict=True))
        assert alone[2][0] == whole[2][run]
    reference = ReferenceEngine(factorization, schedule)
    some = trained(reference, *picked(factors, problem, [0, 3, 1]))
    single = trained(reference, *picked(factors, problem, [3]), 50)
    assert single[2][0] == some[2][1]


def test_a_run_that_diverges_stops_alone():
    sizes = (2, 2, 2, 2)
    _, factors, problem = ensemble(sizes, 20, max_iterations=2000)
    calm = trained(FusedEngine(chain(sizes), Schedule()), factors, problem)
    problem.eta[7] = 50.0
    factors[0][7] *= 10
    wild = trained(FusedEngine(chain(sizes), Schedule()), factors, problem)
    assert wild[1].status[7] == Status.DIVERGED and wild[1].iteration[7] == 50
    others = [run for run in range(20) if run != 7]
    assert (wild[1].status[others] == Status.MAX_ITERATIONS).all()
    assert all(torch.equal(a[others], b[others]) for a, b in zip(calm[0], wild[0], strict=True))
    slow = trained(ReferenceEngine(MatrixFactorization((2, 2), 3), Schedule()), *picked(factors, problem, [7]))
    assert slow[1].status[0] == Status.DIVERGED and slow[1].iteration[0] == 50
    assert not np.isfinite(slow[2][0][-1][1])


@pytest.mark.parametrize("engine", ["fused", "reference"])
def test_stops_differ_from_run_to_run(engine):
    sizes = (2, 2)
    factorization, factors, problem = ensemble(sizes, 4, eta=(0.05, 0.05))
    problem.max_iterations[:] = torch.tensor([130, 50, 2000, 1])
    problem.stop_loss[:] = torch.tensor([0.0, 0.0, 1e-6, 1e9], dtype=torch.float64)
    _, progress, rows = trained(choose_engine(engine, factorization, Schedule(), problem=problem), factors, problem)
    assert progress.status.tolist() == [2, 2, 1, 1]
    assert progress.iteration[[0, 1, 3]].tolist() == [130, 50, 0]
    assert progress.iteration[2] % 50 == 0 and rows[2][-1][1] < 1e-6 <= rows[2][-2][1]
    for run in range(4):
        assert rows[run][0][0] == 0 and rows[run][-1][0] == progress.iteration[run]


@pytest.mark.parametrize("engine", ["fused", "reference"])
@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Schedule(stride=50, every=100), [0, 100, 200, 300, 320]),
        (Schedule(stride=1, every=1), list(range(321))),
        (Schedule(stride=50, loss_ratio=0.0, iteration_ratio=2.0), [0, 50, 100, 200, 320]),
    ],
)
def test_rows_are_those_of_the_schedule(engine, schedule, expected):
    factorization, factors, problem = ensemble((2, 2, 2), 2, max_iterations=320)
    _, _, rows = trained(choose_engine(engine, factorization, schedule, problem=problem), factors, problem, 100)
    assert [row[0] for row in rows[1]] == expected


def test_the_logarithmic_schedule_leaves_hundreds_of_rows():
    schedule, iteration, rows = Schedule(), 0, 1
    while iteration < 5_000_000:
        iteration, rows = after(schedule, iteration), rows + 1
    assert 200 < rows < 1000


def test_linear_ends_at_the_observations():
    factorization = LinearFactorization((2, 2))
    factors = [torch.zeros(1, 2, 2, dtype=torch.float64)]
    mask = torch.tensor([[[0.0, 1.0], [1.0, 1.0]]], dtype=torch.float64)
    values = torch.tensor([[[0.0, 1.0], [-2.0, 0.5]]], dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    problem = Problem(mask, values, 0.1 * one, 1e-20 * one, torch.tensor([10_000]), one)
    final, _, _ = trained(choose_engine("auto", factorization, Schedule(), problem=problem), factors, problem)
    torch.testing.assert_close(final[0], values, atol=1e-9, rtol=0)


def test_sensing_with_one_hot_matrices_is_the_masked_loss():
    factorization, factors, problem = ensemble((3, 2, 2), 2, max_iterations=300)
    masked = trained(ReferenceEngine(factorization, Schedule()), factors, problem)
    seen = torch.nonzero(problem.operator[0].flatten()).flatten()
    at = [0]
    one_hot = torch.eye(6, dtype=torch.float64)[seen].reshape(1, -1, 2, 3)
    sensed = Problem(
        one_hot,
        problem.values[0].flatten()[seen][None],
        problem.eta[at],
        problem.stop_loss[at],
        problem.max_iterations[at],
        problem.loss_scale[at],
    )
    measured = trained(
        choose_engine("auto", factorization, Schedule(), problem=sensed), [f[at] for f in factors], sensed
    )
    for a, b in zip(masked[0], measured[0], strict=True):
        torch.testing.assert_close(a[:1], b, rtol=1e-12, atol=0)


def test_engines_are_chosen_by_what_they_can():
    schedule = Schedule()

    def chosen(wanted, dims=(2, 2), sensing=False, flow=False, accelerator="cpu", product=None):
        factorization, _, problem = ensemble((dims[1], min(dims), dims[0]), 1)
        if product is not None:
            factorization.product = product
        one = torch.ones(1, dtype=torch.float64)
        if sensing:
            problem = replace(problem, operator=torch.ones(1, 4, *dims).double(), values=torch.ones(1, 4).double())
        problem = replace(problem, flow=Flow(one, one, one) if flow else None)
        return choose_engine(wanted, factorization, schedule, problem=problem, accelerator=accelerator)

    assert chosen("auto").name == "fused" and chosen("auto", sensing=True).name == "fused"
    assert chosen("reference").name == "reference" and not chosen("reference").note
    assert chosen("auto", (9, 9), accelerator="gpu").name == "batched"
    assert chosen("auto", (9, 9), sensing=True, accelerator="gpu").name == "batched"
    assert chosen("auto", flow=True, accelerator="gpu").name == "reference"
    with pytest.raises(ConfigError, match="'batched' is not allowed; .* a flow"):
        chosen("batched", flow=True)
    with pytest.raises(ConfigError, match="'cuda' is not allowed; .* this factorization"):
        chosen("cuda", (20, 20))
    with pytest.raises(ConfigError, match="'fused' is not allowed; .* a GPU"):
        chosen("fused", accelerator="gpu")
    slow = chosen("auto", product=lambda factors: factors[1] @ factors[0] * factors[0].sum().item())
    assert slow.name == "reference" and "cannot be compiled (it looks at an array's numbers" in slow.note
    with pytest.raises(ConfigError, match=r"one of auto, reference: .*\(aten._linalg_svd is not an operation"):
        chosen("fused", product=lambda factors: torch.linalg.svdvals(factors[1])[:, None] @ factors[0][:1])


def test_kernels_survive_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("RANKWARD_CACHE", str(blocked))
    cache.cache_folder.cache_clear()
    try:
        assert cache.cache_folder().is_dir()
        assert not cache.cache_folder().is_relative_to(blocked)
    finally:
        cache.cache_folder.cache_clear()
