"""The engine for observed entries by index against the reference engine with a mask, einsum, autograd and SciPy."""

import numpy as np
import pytest
import scipy.sparse
import torch

from helpers.runs import composed
from rankward.dynamics import Entries, IndexedEngine, ReferenceEngine, Schedule
from rankward.dynamics.indexed import Team, form_of
from rankward.factorizations.base import Chain, Components
from rankward.training.ensemble import Ensemble

pytestmark = pytest.mark.slow  # it compiles kernels

MATRIX = ["observations=random_matrix", "observations.dims=[7,9]", "observations.count=40", "factorization.hidden=3"]
TENSOR = [
    "observations=tensor_order3", "observations.dims=[3,4,3]", "observations.count=36", "factorization=tensor",
    "factorization.components=5", "metrics=tensor", "init.scale=0.5",
]  # fmt: skip


def advanced(runs, chunks, threads=2):
    ensemble = Ensemble.of(runs)
    kind = IndexedEngine if ensemble.problem.entries is not None else ReferenceEngine
    engine = kind(ensemble.factorization, Schedule(stride=10, every=10), *([threads] if kind is IndexedEngine else []))
    factors, progress = [factor.clone() for factor in ensemble.factors], ensemble.start()
    rows = []
    for length in chunks:
        chunk = engine.advance(factors, ensemble.problem, progress, length)
        rows += list(zip(chunk.run.tolist(), chunk.iteration.tolist(), chunk.loss.tolist(), strict=True))
    return factors, progress, sorted(rows)


@pytest.mark.parametrize(
    "overrides",
    [
        [*MATRIX, "depth='3'", "init.scale=0.3", "lr.eta=0.01"],
        [*MATRIX, "depth='2'", "lr=adaptive", "init.scale=0.3", "lr.eta=0.01", "loss=huber", "loss.delta=0.5"],
        [*MATRIX, "depth='4'", "optimizer=adam", "lr=cosine", "init.scale=0.3", "lr.eta=0.01", "loss.reduction=mean"],
        [*MATRIX, "depth='3'", "optimizer=spectral", "init.scale=0.3", "lr.eta=0.01"],
        [*TENSOR, "lr=adaptive", "lr.eta=0.01"],
        [*TENSOR, "optimizer=momentum", "optimizer.momentum=0.9", "lr=constant", "lr.eta=0.01", "loss=l1"],
        [*TENSOR, "optimizer=adam", "lr=constant", "lr.eta=0.01", "optimizer.label_noise=0.1", "optimizer.batch=5",
         "optimizer.gradient_noise=0.05"],
        [*TENSOR, "optimizer=spectral", "lr=constant", "lr.eta=0.01"],
    ],
)  # fmt: skip
def test_the_same_steps_as_with_a_mask(overrides):
    jobs = [[*overrides, f"seed={seed}", f"observations.seed={seed}", "max_iterations=60"] for seed in range(2)]
    dense, _, dense_rows = advanced([composed(*job, "engine=reference")[0] for job in jobs], [60])
    listed, progress, rows = advanced([composed(*job, "engine=indexed")[0] for job in jobs], [60])
    for ours, theirs in zip(listed, dense, strict=True):
        assert torch.allclose(ours, theirs, rtol=1e-9, atol=1e-11), overrides
    assert [row[:2] for row in rows] == [row[:2] for row in dense_rows]
    assert np.allclose([row[2] for row in rows], [row[2] for row in dense_rows], rtol=1e-9)
    # the same bits in chunks that end elsewhere, alone, and on one thread
    again, after, again_rows = advanced([composed(*jobs[1], "engine=indexed")[0]], [10, 20, 30], threads=1)
    for ours, theirs in zip(again, listed, strict=True):
        assert torch.equal(ours[0], theirs[1])
    assert [row[1:] for row in again_rows] == [row[1:] for row in rows if row[0] == 1]
    assert all(torch.equal(getattr(after, name)[0], value[1]) for name, value in progress.state_dict().items())


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("rank", [1, 3, 8, 11])
def test_components_and_their_gradients_by_autograd(rank, dtype):
    dims, random = (3, 2, 2, 4, 2), torch.Generator().manual_seed(rank)
    factors = [torch.randn(size, rank, generator=random, dtype=dtype) for size in dims]
    index = np.stack(np.unravel_index(np.arange(np.prod(dims)), dims), axis=1).astype(np.int32)
    slopes = torch.randn(len(index), generator=random, dtype=dtype)
    team = Team(2)
    form = form_of(Components(dims, rank), Entries(dims, index, np.zeros(len(index))), dtype, team)
    stacked = [
        torch.stack([factors[n] for n in group]) if len(group) > 1 else factors[group[0]] for group in form.groups
    ]
    point = form.at(stacked)
    exact = [factor.double().requires_grad_() for factor in factors]
    product = torch.einsum("az,bz,cz,dz,ez->abcde", *exact).reshape(-1)
    tolerance = {"rtol": 1e-12, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-4, "atol": 1e-4}
    assert torch.allclose(point.predictions(form.every).double(), product, **tolerance)
    wanted = torch.autograd.grad((product * slopes.double()).sum(), exact)
    made = point.gradients(form.every, slopes)
    for group, gradient in zip(form.groups, made, strict=True):
        each = gradient if len(group) > 1 else gradient[None]
        for mode, part in zip(group, each, strict=True):
            assert torch.allclose(part.double(), wanted[mode], **tolerance)
    team.close()


@pytest.mark.parametrize("hidden", [1, 5, 33, 50])
def test_chains_and_their_gradients_by_scipy(hidden):
    random, dims = np.random.default_rng(hidden), (37, 53)
    seen = random.random(dims) < 0.1
    seen[5] = False  # a row and a column without an entry
    seen[:, 7] = False
    index = np.argwhere(seen).astype(np.int32)
    layers = [
        torch.from_numpy(random.standard_normal(shape)) for shape in ((hidden, 53), (hidden, hidden), (37, hidden))
    ]
    form = form_of(Chain((53, hidden, hidden, 37)), Entries(dims, index, np.zeros(len(index))), torch.float64, Team(1))
    first, second, third = (layer.numpy() for layer in layers)
    product = third @ second @ first
    assert np.allclose(form.at(layers).predictions(form.every).numpy(), product[seen], rtol=1e-11, atol=1e-11)
    for places in (form.every, np.sort(random.permutation(len(index))[:20])):
        slopes = random.standard_normal(len(places))
        sparse = scipy.sparse.csr_matrix((slopes, index[places].T), shape=dims)
        wanted = [(third @ second).T @ sparse.toarray(), third.T @ (sparse @ first.T), sparse @ (second @ first).T]
        gradients = form.at(layers).gradients(places, torch.from_numpy(slopes))
        for made, exact in zip(gradients, wanted, strict=True):
            assert np.allclose(made.numpy(), exact, rtol=1e-10, atol=1e-10)


def test_a_tensor_of_order_784():
    order, count, rank = 784, 50, 3
    random = np.random.default_rng(0)
    entries = Entries((2,) * order, random.integers(0, 2, (count, order)).astype(np.int32), np.zeros(count))
    factors = torch.from_numpy(1 + 0.05 * random.standard_normal((order, 2, rank)))
    form = form_of(Components((2,) * order, rank), entries, torch.float64, Team(1))
    point, leaf = form.at([factors]), factors.clone().requires_grad_()
    modes, index = torch.arange(order)[:, None], torch.from_numpy(entries.index.T.astype(np.int64))
    product = leaf[modes, index].prod(0).sum(1)
    assert torch.allclose(point.predictions(form.every), product, rtol=1e-11)
    slopes = torch.from_numpy(random.standard_normal(count))
    (wanted,) = torch.autograd.grad((product * slopes).sum(), leaf)
    assert torch.allclose(point.gradients(form.every, slopes)[0], wanted, rtol=1e-9, atol=1e-9)
