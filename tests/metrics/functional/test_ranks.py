"""Rank surrogates against their definitions, computed by SciPy and by hand."""

import numpy as np
import pytest
import scipy.stats
import torch

from rankward.metrics.functional import distance_to_infimal_rank, effective_rank, numerical_rank, stable_rank


@pytest.mark.parametrize("dims", [(2, 2), (4, 3)])
def test_effective_rank_is_the_exponential_of_scipys_entropy(dims):
    matrix = np.random.default_rng(0).standard_normal((20, *dims))
    values = np.linalg.svd(matrix, compute_uv=False)
    expected = np.exp(scipy.stats.entropy(values, axis=-1))
    np.testing.assert_allclose(effective_rank(torch.from_numpy(matrix)).numpy(), expected, rtol=1e-12)


def test_proposition_2_along_the_solution_set():
    """Effective rank falls from 2 to 1, and the distance to rank 1 to 0, as |W_11| grows (Proposition 2)."""
    x = torch.tensor([0.0, 1.0, 10.0, 1e3, 1e6], dtype=torch.float64)
    solutions = torch.stack([torch.tensor([[v, 1.0], [1.0, 0.0]], dtype=torch.float64) for v in x])
    ranks, distances = effective_rank(solutions), distance_to_infimal_rank(solutions, 1)
    assert ranks[0].item() == pytest.approx(2)
    assert (ranks.diff() < 0).all() and ranks[-1] - 1 < 1e-10
    # sigma_2 by hand: 2 / (x + sqrt(x^2 + 4))
    np.testing.assert_allclose(distances.numpy(), 2 / (x + (x * x + 4).sqrt()).numpy(), rtol=1e-13)


def test_stable_and_numerical_rank_by_hand():
    matrix = torch.diag(torch.tensor([2.0, 1.0, 1e-5], dtype=torch.float64))
    assert stable_rank(matrix).item() == pytest.approx(1.25)
    assert numerical_rank(matrix, 1e-3).item() == 2
    assert numerical_rank(matrix, 1e-6).item() == 3


def test_distance_is_that_of_the_truncated_svd():
    matrix = np.random.default_rng(3).standard_normal((5, 4))
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    for rank in range(5):
        best = (left[:, :rank] * values[:rank]) @ right[:rank]
        expected = np.linalg.norm(matrix - best)
        assert distance_to_infimal_rank(torch.from_numpy(matrix), rank).item() == pytest.approx(expected, abs=1e-12)


def test_the_zero_matrix_has_no_effective_rank():
    zero = torch.zeros(2, 2)
    assert torch.isnan(effective_rank(zero)) and torch.isnan(stable_rank(zero))
    assert numerical_rank(zero).item() == 0
    assert distance_to_infimal_rank(zero).item() == 0


def test_nan_stays_nan():
    bad = torch.full((2, 2), torch.nan)
    assert all(torch.isnan(f(bad)) for f in (effective_rank, stable_rank, numerical_rank, distance_to_infimal_rank))


def test_arguments_out_of_range_are_named():
    with pytest.raises(ValueError, match="^rtol:"):
        numerical_rank(torch.eye(2), 1.0)
    with pytest.raises(ValueError, match="^rank:"):
        distance_to_infimal_rank(torch.eye(2), -1)
