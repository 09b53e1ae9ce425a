"""Entries and norms of vectors."""

import numpy as np
import pytest
import torch

from rankward.metrics import VectorEntries, VectorNorm

VECTORS = np.array([[3.0, -4.0, 0.0], [0.0, 0.0, 0.0], [1e-200, -1e-200, 2e-200], [1e200, 1e200, -1e200]])


def test_norms_are_those_of_numpy():
    ps = [0.5, 1, 2, 3, np.inf]
    metric = VectorNorm(p=ps)
    metric.update(torch.from_numpy(VECTORS))
    columns = metric.columns()
    assert list(columns) == ["norm/l0.5", "norm/l1", "norm/l2", "norm/l3", "norm/linf"]
    for p, values in zip(ps, columns.values(), strict=True):
        size = np.abs(VECTORS).max(1)
        expected = size * [np.linalg.norm(row / (np.abs(row).max() or 1), p) for row in VECTORS]
        np.testing.assert_allclose(values.numpy(), expected, rtol=1e-13)


def test_a_row_has_the_same_bits_alone_and_in_company():
    vectors = torch.from_numpy(np.random.default_rng(0).standard_normal((50, 200)))
    metric, alone = VectorNorm(p=[0.5, 1, 2]), VectorNorm(p=[0.5, 1, 2])
    metric.update(vectors)
    alone.update(vectors[7:8])
    assert torch.equal(metric.gathered()[7], alone.gathered()[0])


def test_not_a_number_stays_one():
    metric = VectorNorm(p=[1, 2])
    metric.update(torch.tensor([[1.0, torch.nan]]))
    assert metric.gathered().isnan().all()


def test_as_many_entries_as_asked_for():
    metric = VectorEntries(largest=2)
    metric.update(torch.from_numpy(VECTORS))
    assert {name: values.tolist() for name, values in metric.columns().items()} == {
        "entry/0": VECTORS[:, 0].tolist(),
        "entry/1": VECTORS[:, 1].tolist(),
    }
    with pytest.raises(ValueError, match="largest"):
        VectorEntries(largest=0)
    with pytest.raises(ValueError, match="p: 0"):
        VectorNorm(p=0)
