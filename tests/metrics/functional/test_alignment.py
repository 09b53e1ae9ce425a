"""Entries of the gradient in singular vectors, against NumPy and by hand; a run's columns, from its files."""

import numpy as np
import pytest
import torch

from helpers.in_process import rankward
from rankward import results
from rankward.metrics import functional as F


def by_numpy(product, gradient):
    left, _, right = np.linalg.svd(product, full_matrices=False)
    entries = np.abs(left.T @ gradient @ right.T)
    on = np.eye(len(entries), dtype=bool)
    return [entries[on].mean(), entries[on].std(ddof=1), entries[~on].mean(), entries[~on].std(ddof=1)]


@pytest.mark.parametrize("dims", [(2, 2), (3, 5), (7, 4)])
def test_the_four_numbers_are_numpys(dims):
    random = np.random.default_rng(3)
    products, gradients = random.standard_normal((2, 6, *dims))
    found = F.gradient_alignment(torch.from_numpy(products), torch.from_numpy(gradients))
    expected = [by_numpy(*pair) for pair in zip(products, gradients, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    assert torch.equal(found[4], F.gradient_alignment(torch.from_numpy(products[4]), torch.from_numpy(gradients[4])))


def test_gradients_in_the_singular_vectors_are_diagonal_and_what_has_none_is_nan():
    left, right = (np.linalg.qr(np.random.default_rng(seed).standard_normal((4, 4)))[0] for seed in (1, 2))
    product, gradient = (torch.from_numpy(left @ np.diag(d) @ right) for d in ([4.0, 3, 2, 1], [-1.0, 1, 1, -1]))
    found = F.gradient_alignment(product, gradient)
    np.testing.assert_allclose(found, [1, 0, 0, 0], atol=1e-14)
    nothing = torch.full((4, 4), torch.nan)
    for pair in ((0 * product, gradient), (nothing, gradient), (product, nothing)):
        assert F.gradient_alignment(*pair).isnan().all()
    assert F.gradient_alignment(torch.ones(1, 1), torch.ones(1, 1)).isnan().tolist() == [False, True, True, True]


@pytest.mark.slow
def test_a_run_has_the_columns(tmp_path):
    done = rankward(
        "observations=random_matrix", "observations.dims=[5,5]", "observations.count=15", "depth=2", "lr.eta=1e-2",
        "init.scale=1e-2", "max_iterations=100", "metrics=dynamics", "engine=reference", "logger=none", f"hydra.run.dir={tmp_path}/r",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    arrays, last = results.read_arrays(tmp_path / "r"), results.read_trace(tmp_path / "r").row(-1, named=True)
    slopes = arrays["observations.mask"] * (arrays["product"] - arrays["observations.values"])
    found = [last[f"alignment/{part}_{number}"] for part in ("diagonal", "off_diagonal") for number in ("mean", "std")]
    np.testing.assert_allclose(found, by_numpy(arrays["product"], slopes), rtol=1e-9)
