"""Ranks of tensors of known rank, matricizations against NumPy, and fits against tensorly's."""

from functools import reduce

import numpy as np
import pytest
import torch

from rankward.metrics import (
    ComponentNorms,
    CPRank,
    MatricizationEffectiveRank,
    MultilinearRank,
    ReconstructionError,
    TensorNorm,
    measure,
)
from rankward.metrics import functional as F
from rankward.metrics.functional import _als, cp_ranks

DIMS = [(8, 8, 8), (3, 4, 5), (4, 4, 4, 4), (2, 3, 2, 3, 2), (6, 5)]


def of_rank(dims, rank, seed=0):
    """A sum of outer products of normal vectors, of Frobenius norm 1."""
    random = np.random.default_rng(seed)
    tensor = sum(reduce(np.multiply.outer, [random.standard_normal(d) for d in dims]) for _ in range(rank))
    return torch.from_numpy(tensor / np.linalg.norm(tensor))


@pytest.mark.parametrize("dims", DIMS)
def test_tensors_of_known_rank(dims):
    """Generic sums of r outer products, r small enough that fewer do not do."""
    most = min(5, *(d for d in [max(np.prod(dims) // d for d in dims), *([min(dims)] if len(dims) == 2 else [])]))
    tensors = torch.stack([of_rank(dims, r, seed=r) for r in range(1, most + 1)])
    lower, upper, exact = F.cp_rank(tensors, tolerance=1e-12)
    known = torch.arange(1, most + 1, dtype=torch.float64)
    assert (lower <= known).all() and torch.equal(upper, known)
    assert torch.equal(exact.nan_to_num(0), torch.where(lower == upper, upper, 0.0))
    if dims in ((8, 8, 8), (6, 5), (4, 4, 4, 4)):
        assert torch.equal(lower, known)


def test_groups_of_modes_show_ranks_that_single_modes_do_not():
    """Full rank in groups (4) beyond what any single mode of size 2 can have; and full modes with a low CP rank."""
    identity = torch.eye(4, dtype=torch.float64).reshape(1, 2, 2, 2, 2)
    assert F.multilinear_rank(identity).max() == 2
    assert F.cp_rank(identity, 1e-12).exact.item() == 4
    low = of_rank((3, 3, 3), 3)[None]
    assert F.multilinear_rank(low).tolist() == [[3.0, 3.0, 3.0]] and F.cp_rank(low, 1e-12).exact.item() == 3


def test_a_tensor_of_border_rank_2_and_rank_3():
    """Sums of two outer products come as close as one likes, and never are it."""
    tensor = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    tensor[0, 0, 0, 1] = tensor[0, 0, 1, 0] = tensor[0, 1, 0, 0] = 1.0
    for tolerance in (1e-3, 1e-6, 1e-12):
        lower, upper, _ = F.cp_rank(tensor, tolerance)
        assert lower.item() == 2 and 2 <= upper.item() <= 3
    assert F.cp_rank(tensor, 1e-2).exact.item() == 2  # so near that alternating least squares gets there
    assert F.cp_rank(tensor, 1e-18).upper.item() == 3


def test_zeros_one_entry_and_near_zero():
    tensors = torch.zeros(3, 3, 4, 2, dtype=torch.float64)
    tensors[1, 1, 2, 0] = 5.0
    tensors[2, 0, 0, 0] = 1e-5
    absolute, relative = F.cp_rank(tensors, 1e-6), F.cp_rank(tensors, 1e-6, relative=True)
    assert absolute.exact.tolist() == [0, 1, 0]  # within the tolerance of zero, whatever the form
    assert relative.exact.tolist() == [0, 1, 1]


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1.0, 1e20, 1e150, 1e300])
@pytest.mark.parametrize("dims", [(4, 4, 4), (3, 4, 5), (3, 3, 3, 3), (6, 5)])
def test_a_tolerance_below_rounding_is_raised_to_it(dims, scale):
    """Sums of r outer products have rank r, at any size, where nothing but rounding is allowed."""
    tensors = scale * torch.stack([of_rank(dims, r, seed=r) for r in (1, 2, 3)])
    assert F.cp_rank(tensors, 0.0).exact.tolist() == F.cp_lower(tensors, 0.0).tolist() == [1, 2, 3]
    for tolerance in (0.0, 1e-40):
        assert F.cp_rank(tensors, tolerance, relative=True).exact.tolist() == [1, 2, 3]
    zero = scale < 1e-20  # within the tolerance of zero
    assert F.cp_rank(tensors, 1e-40).exact.tolist() == ([0, 0, 0] if zero else [1, 2, 3])


def test_exact_ranks_without_a_tolerance_by_hand():
    assert F.cp_rank(torch.ones(1, 4, 4, 4), tolerance=0).exact.item() == 1
    assert F.cp_rank(torch.zeros(1, 4, 4, 4), tolerance=0).exact.item() == 0
    tenth = 0.1 * torch.eye(3, dtype=torch.float64)
    assert F.cp_rank((tenth[:, :, None] * tenth[:, None, :])[None], tolerance=0).exact.item() == 3
    tiny = torch.ones(1, 4, 4, 4, dtype=torch.float64)
    tiny[0, 0, 0, 0] += 1e-12  # above the rounding, so it counts
    assert F.cp_rank(tiny, tolerance=0).lower.item() == 2


def test_noise_below_the_tolerance_changes_no_rank():
    for rank in (1, 2, 4):
        noise = 0.3e-3 * torch.randn(8, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(rank))
        assert F.cp_rank((of_rank((8, 8, 8), rank) + noise)[None], 1e-6).exact.item() == rank


def test_equal_tensors_share_a_search(monkeypatch):
    searched = []

    class Search(cp_ranks.RankSearch):
        def smallest(self, least):
            searched.append(least)
            return super().smallest(least)

    monkeypatch.setattr(cp_ranks, "RankSearch", Search)
    one, two = of_rank((4, 4, 4), 1), of_rank((4, 4, 4), 2)
    assert F.cp_rank(torch.stack([two, one, two, two]), 1e-10).upper.tolist() == [2, 1, 2, 2]
    assert sorted(searched) == [1, 2]


def test_nan_and_infinity_have_no_rank():
    tensors = torch.ones(2, 2, 2, 2, dtype=torch.float64)
    tensors[0, 0, 0, 0], tensors[1, 0, 0, 0] = torch.nan, torch.inf
    for bound in F.cp_rank(tensors):
        assert bound.isnan().all()


def test_ranks_do_not_depend_on_company_threads_or_the_global_generator():
    random = torch.Generator().manual_seed(0)
    tensors = torch.stack([of_rank((4, 3, 5), r, seed=r) for r in (1, 3, 5)])
    tensors = torch.cat([tensors, torch.randn(3, 4, 3, 5, dtype=torch.float64, generator=random)])
    torch.manual_seed(1)
    np.random.seed(1)
    before = torch.get_rng_state().clone(), np.random.get_state()[1].copy()
    whole = F.cp_rank(tensors, 1e-4, threads=2)
    assert torch.equal(torch.get_rng_state(), before[0]) and (np.random.get_state()[1] == before[1]).all()
    for i in range(len(tensors)):
        for together, alone in zip(whole, F.cp_rank(tensors[i : i + 1], 1e-4, threads=1), strict=True):
            assert torch.equal(together[i].nan_to_num(-1), alone[0].nan_to_num(-1))


@pytest.mark.parametrize("tolerance", [-1.0, np.nan, np.inf])
def test_a_tolerance_that_is_none_is_refused(tolerance):
    with pytest.raises(ValueError, match="tolerance"):
        F.cp_rank(torch.ones(1, 2, 2), tolerance)
    with pytest.raises(ValueError, match="tolerance"):
        CPRank(tolerance=tolerance)


@pytest.mark.parametrize(
    ("rank", "dims"), [(2, (5, 6, 4)), (5, (5, 6, 4)), (3, (6, 5)), (4, (3, 4, 2, 5)), (3, (2, 3, 4, 2, 3, 2))]
)
def test_fits_are_as_good_as_tensorlys(rank, dims):
    """Of a tensor with no low rank at all: the best of a few starts of each, by the error that both report."""
    import tensorly
    from tensorly.decomposition import parafac

    random = np.random.default_rng(rank)
    tensor = random.standard_normal(dims)
    theirs = min(
        np.linalg.norm(
            tensor
            - tensorly.cp_to_tensor(parafac(tensor, rank, n_iter_max=2000, init="random", tol=1e-10, random_state=s))
        )
        for s in range(4)
    )
    ours = []
    for _ in range(4):
        factors = random.standard_normal((sum(dims), rank))
        error = _als.fit(tensor.reshape(-1), np.array(dims), factors, 0.0, 3000, 1e-9)
        parts = np.split(factors, np.cumsum(dims)[:-1])
        remade = sum(reduce(np.multiply.outer, [part[:, r] for part in parts]) for r in range(rank))
        assert error == pytest.approx(np.sum((tensor - remade) ** 2), rel=1e-6)
        ours.append(np.sqrt(error))
    assert min(ours) <= theirs * 1.001


@pytest.mark.parametrize("dims", DIMS)
def test_matricizations_are_numpys(dims):
    tensor = torch.randn(3, *dims, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    groups = F.mode_groups(len(dims))
    assert len(groups) == 2 ** (len(dims) - 1) - 1
    values = F.matricization_singular_values(tensor)
    for modes in groups:
        others = [n for n in range(len(dims)) if n not in modes]
        rows = np.prod([dims[n] for n in modes])
        matrix = tensor[1].numpy().transpose(*modes, *others).reshape(rows, -1)
        np.testing.assert_array_equal(F.matricization(tensor, modes)[1].numpy(), matrix)
        np.testing.assert_allclose(values[modes][1], np.linalg.svd(matrix, compute_uv=False), rtol=1e-12)
        shares = values[modes][1].numpy() / values[modes][1].sum().item()
        assert F.effective_ranks(tensor)[modes][1].item() == pytest.approx(np.exp(-(shares * np.log(shares)).sum()))
    with pytest.raises(ValueError, match="order"):
        F.mode_groups(1)


def test_lower_bounds_are_truncated_svds():
    tensor = torch.randn(1, 4, 3, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    for tolerance in (1e-3, 0.1, 0.5, 2.0):
        ranks = []
        for modes in F.mode_groups(4):
            left, values, right = np.linalg.svd(F.matricization(tensor, modes)[0].numpy(), full_matrices=False)
            errors = [
                np.mean((F.matricization(tensor, modes)[0].numpy() - (left[:, :r] * values[:r]) @ right[:r]) ** 2)
                for r in range(len(values) + 1)
            ]
            ranks.append(next(r for r, error in enumerate(errors) if error <= tolerance))
        assert F.cp_lower(tensor, tolerance).item() == max(ranks)


def test_component_norms_are_those_of_rank_one_tensors():
    random = np.random.default_rng(0)
    factors = [random.standard_normal((2, d, 5)) for d in (3, 4, 2)]
    weights = F.cp_weights([torch.from_numpy(f) for f in factors])
    for run in range(2):
        norms = [np.linalg.norm(reduce(np.multiply.outer, [f[run, :, r] for f in factors])) for r in range(5)]
        np.testing.assert_allclose(weights[run], sorted(norms, reverse=True), rtol=1e-12)


def test_columns_of_a_tensor_run():
    factors = [torch.randn(4, d, 3, dtype=torch.float64) for d in (2, 3, 2, 2)]
    truth = torch.randn(4, 2, 3, 2, 2, dtype=torch.float64)

    def product(parts):
        return torch.einsum("nai,nbi,nci,ndi->nabcd", *parts)

    metrics = {
        "norm": TensorNorm(), "error": ReconstructionError(), "share": ReconstructionError(True), "weights": ComponentNorms(2),
        "effective": MatricizationEffectiveRank(), "multilinear": MultilinearRank(), "cp": CPRank(1e-10),
    }  # fmt: skip
    columns = measure(metrics, factors, product, ground_truth=truth)
    tensor = product(factors)
    for name, expected in {
        "norm/frobenius": tensor.flatten(1).norm(dim=1),
        "error/reconstruction": (tensor - truth).flatten(1).norm(dim=1),
        "error/reconstruction_relative": (tensor - truth).flatten(1).norm(dim=1) / truth.flatten(1).norm(dim=1),
        "cp_weight/1": F.cp_weights(factors)[:, 1],
        "rank/effective_0_2": F.effective_ranks(tensor)[(0, 2)],
        "rank/multilinear_3": F.multilinear_rank(tensor)[:, 3],
        "rank/cp_upper": F.cp_rank(tensor, 1e-10).upper,
    }.items():
        torch.testing.assert_close(columns[name], expected, rtol=1e-12, atol=0)
    assert {"rank/cp_lower", "rank/cp_exact", "rank/effective_3", "cp_weight/0"} <= columns.keys()
    assert "cp_weight/2" not in columns
    for i in range(4):  # the same bits alone
        alone = measure(metrics, [f[i : i + 1] for f in factors], product, ground_truth=truth[i : i + 1])
        assert all(
            torch.equal(alone[name][0].nan_to_num(-1), columns[name][i].nan_to_num(-1))
            for name in columns
            if name != "rank/cp_exact"
        )


def test_the_summary_says_what_rank_0_means():
    assert "absolute; 0 means" in CPRank().notes()["rank/cp"]
    assert (
        "times the tensor's mean square" in CPRank(relative=True).notes()["rank/cp"]
        and "0 means" not in CPRank(relative=True).notes()["rank/cp"]
    )
