"""The batched engine, on the processor and without a CUDA graph, agrees with the compiled engine and autograd."""

from dataclasses import replace

import pytest
import torch

from helpers.components import problem_of, starts
from helpers.engines import InTurn, OnCard, after, ensemble, picked, trained
from helpers.optimizing import optimized, with_rule
from helpers.own_factorizations import chain
from rankward.dynamics import Adaptive, FusedEngine, Progress, ReferenceEngine, Schedule, Status
from rankward.dynamics.batched import BatchedEngine, gradients_of
from rankward.factorizations import TensorFactorization
from rankward.optimizers import Adam


def close(one, other, rtol):
    for a, b in zip(one, other, strict=True):
        assert ((a - b).flatten(1).norm(dim=1) <= rtol * a.flatten(1).norm(dim=1)).all()


def same_rows(one, other, rtol):
    for run, rows in one.items():
        assert [row[0] for row in rows] == [row[0] for row in other[run]]
        assert [row[1] for row in rows] == pytest.approx([row[1] for row in other[run]], rel=rtol)


@pytest.mark.parametrize("sizes", [(2, 2), (2, 2, 2, 2), (5, 5, 5, 5), (18, 17, 19), (66, 5, 65)])
@pytest.mark.parametrize("adaptive", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_chains_as_in_the_compiled_engine(sizes, adaptive):
    _, factors, problem = ensemble(sizes, 3)
    many = torch.ones_like(problem.eta)
    problem = replace(problem, adaptive=Adaptive(0.9 * many, 1.0 * many)) if adaptive else problem
    for schedule in (Schedule(), Schedule(stride=20, every=100), Schedule(stride=20, iteration_ratio=1.1)):
        batched = trained(BatchedEngine(chain(sizes), schedule), factors, problem)
        other = trained(FusedEngine(chain(sizes), schedule), factors, problem)
        close(other[0], batched[0], 1e-10)
        same_rows(other[2], batched[2], 1e-9)
        assert torch.equal(batched[1].next_record, other[1].next_record)


@pytest.mark.parametrize(
    "dims, components",
    [
        ((5, 3), 4),
        ((3, 5, 2), 7),
        pytest.param((8, 8, 8), 64, marks=pytest.mark.slow),
        pytest.param((3, 2, 4, 2, 3), 20, marks=pytest.mark.slow),
    ],
)
def test_tensors_to_1e_10_over_a_thousand_iterations(dims, components):
    problem = problem_of(dims, 3, 0.5, torch.float64, iterations=1000, eta=1e-3)
    _, factors = starts(dims, components, 3, torch.float64)
    schedule = Schedule(stride=100, stop_checks=3)
    batched = trained(BatchedEngine(TensorFactorization(dims, components), schedule), factors, problem, 300)
    other = trained(FusedEngine(TensorFactorization(dims, components), schedule), factors, problem)
    close(other[0], batched[0], 1e-10)
    same_rows(other[2], batched[2], 1e-9)


@pytest.mark.parametrize("ratio", [1.02, 1.1, 1.2, 1.25])
@pytest.mark.parametrize("stride", [50, 100])
def test_the_next_row_is_due_where_the_schedule_says(ratio, stride):
    """Each run starts one stride before a row that is due."""
    schedule = Schedule(stride=stride, iteration_ratio=ratio)
    iterations = torch.cat([torch.arange(stride, 40_000, 3 * stride), torch.tensor([4_999_950, 123_456_700])])
    _, factors, problem = ensemble((2, 2), 1, max_iterations=10**9)
    factors, problem = picked(factors, problem, torch.zeros(len(iterations), dtype=torch.long))
    progress = Progress.start(len(iterations))
    progress.iteration[:], progress.next_record[:] = iterations - stride, iterations
    rows = BatchedEngine(chain((2, 2)), schedule).advance(factors, problem, progress, stride)
    assert rows.iteration.tolist() == iterations.tolist()
    assert progress.next_record.tolist() == [after(schedule, int(iteration)) for iteration in iterations]


def test_runs_stop_each_at_its_own_time_and_diverge_alone():
    sizes = (2, 2, 2, 2)
    _, factors, problem = ensemble(sizes, 9, max_iterations=615, stop_loss=0.3, eta=(1e-4, 2e-2))
    problem.eta[4], problem.stop_loss[4] = 1e4, 0
    for schedule in (Schedule(), Schedule(stride=20, every=60, stop_checks=2)):
        batched = trained(BatchedEngine(chain(sizes), schedule), factors, problem, 200)
        other = trained(FusedEngine(chain(sizes), schedule), factors, problem)
        assert batched[1].status[4] == Status.DIVERGED
        assert torch.equal(batched[1].status, other[1].status) and torch.equal(batched[1].iteration, other[1].iteration)
        calm = [run for run in range(9) if run != 4]
        close([f[calm] for f in other[0]], [f[calm] for f in batched[0]], 1e-10)


def test_one_engine_takes_up_what_another_began():
    dims, components, schedule = (3, 5, 2), 7, Schedule(stride=100, stop_checks=3)
    problem = problem_of(dims, 3, 0.5, torch.float64, iterations=1000, eta=1e-3)
    _, factors = starts(dims, components, 3, torch.float64)
    engines = [
        FusedEngine(TensorFactorization(dims, components), schedule),
        BatchedEngine(TensorFactorization(dims, components), schedule),
    ]
    whole, mixed = trained(engines[0], factors, problem), trained(InTurn(*engines), factors, problem, 200)
    close(whole[0], mixed[0], 1e-10)
    same_rows(whole[2], mixed[2], 1e-9)


@pytest.mark.parametrize("dtype, rtol", [(torch.float64, 1e-12), (torch.float32, 1e-4)])
def test_gradients_agree_with_autograd(dtype, rtol):
    random = torch.Generator().manual_seed(0)

    def drawn(*shape):
        return torch.randn(*shape, dtype=dtype, generator=random)

    layers = [drawn(2, 3, 4).requires_grad_(), drawn(2, 5, 3).requires_grad_()]
    matrices, values = drawn(2, 6, 5, 4), drawn(2, 6)
    half = 0.5 * ((torch.einsum("rnij,rij->rn", matrices, layers[1] @ layers[0]) - values) ** 2).sum(1)
    mine, gradients = gradients_of(chain((4, 3, 5)))(layers, matrices, values)
    torch.testing.assert_close(mine, half, rtol=rtol, atol=0)
    for gradient, truth in zip(gradients, torch.autograd.grad(half.sum(), layers), strict=True):
        torch.testing.assert_close(gradient, truth, rtol=rtol, atol=rtol)
    modes = [drawn(2, d, 6).requires_grad_() for d in (3, 2, 4, 2, 3)]
    mask, seen = (drawn(2, 3, 2, 4, 2, 3) > 0).to(dtype), drawn(2, 3, 2, 4, 2, 3)
    tensor = torch.einsum("rax,rbx,rcx,rdx,rex->rabcde", *modes)
    half = 0.5 * ((mask * (tensor - seen)) ** 2).flatten(1).sum(1)
    mine, gradients = gradients_of(TensorFactorization((3, 2, 4, 2, 3), 6))(modes, mask, seen)
    torch.testing.assert_close(mine, half, rtol=rtol, atol=0)
    for gradient, truth in zip(gradients, torch.autograd.grad(half.sum(), modes), strict=True):
        torch.testing.assert_close(gradient, truth, rtol=rtol, atol=rtol)


def test_sensing_as_the_reference_engine():
    from rankward.factorizations import MatrixFactorization

    factorization = MatrixFactorization((3, 3), 2)
    random = torch.Generator().manual_seed(1)
    _, factors, problem = ensemble((3, 3, 3), 2, max_iterations=200)
    matrices = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=random)
    problem = replace(problem, operator=matrices, values=torch.randn(2, 4, dtype=torch.float64, generator=random))
    batched = trained(BatchedEngine(chain((3, 3, 3)), Schedule()), factors, problem)
    other = trained(ReferenceEngine(factorization, Schedule()), factors, problem)
    close(other[0], batched[0], 1e-12)
    same_rows(other[2], batched[2], 1e-10)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("adaptive", [False, True])
def test_captured_graph_agrees_with_the_processor(adaptive):
    dims, components = (8, 8, 8), 64
    problem = problem_of(dims, 20, 0.5, torch.float64, adaptive=adaptive, iterations=1000, eta=1e-3)
    _, factors = starts(dims, components, 20, torch.float64)
    engine = BatchedEngine(TensorFactorization(dims, components), Schedule(stride=100, stop_checks=3))
    batched, other = trained(engine, factors, problem), trained(OnCard(engine), factors, problem)
    close(batched[0], other[0], 1e-10)
    same_rows(batched[2], other[2], 1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_captured_noise_and_minibatches_are_those_of_the_processor():
    factorization, factors, problem = ensemble((3, 3, 3), 6, max_iterations=300)
    problem = with_rule(problem, [Adam()] * 6, batch=2, labels=0.1, gradients=0.01)
    engine = BatchedEngine(factorization, Schedule(stride=50))
    here, there = (optimized(each, factors, problem) for each in (engine, OnCard(engine)))
    close(here[0], there[0], 1e-9)
