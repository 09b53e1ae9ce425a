"""Tensor observations: made and read."""

from pathlib import Path

import numpy as np
import pytest
import torch

from rankward.config import DataError
from rankward.observations import from_file, random_tensor

AUTHORS = Path(__file__).parents[3] / "shared" / "data" / "tensor_rank_1_fro_1_order_3_dim_8.pt"


@pytest.mark.parametrize(("dims", "rank"), [((8, 8, 8), 1), ((3, 4, 2, 5), 3), ((6, 7), 2)])
def test_a_ground_truth_has_the_rank_and_norm_asked_for(dims, rank):
    made = random_tensor(dims, rank, count=10, seed=4)
    assert np.linalg.norm(made.ground_truth) == pytest.approx(1.0)
    rows = [np.moveaxis(made.ground_truth, n, 0).reshape(d, -1) for n, d in enumerate(dims)]
    assert [np.linalg.matrix_rank(row, tol=1e-10) for row in rows] == [min(rank, d) for d in dims]
    np.testing.assert_array_equal(made.values[made.mask], made.ground_truth[made.mask])
    assert (made.values[~made.mask] == 0).all()


def test_more_observations_of_a_seed_are_the_same_and_more():
    few, many, other = (
        random_tensor((4, 4, 4), 1, 10),
        random_tensor((4, 4, 4), 1, 30),
        random_tensor((4, 4, 4), 1, 10, seed=1),
    )
    assert (many.mask >= few.mask).all() and few.count == 10 and many.count == 30
    np.testing.assert_array_equal(few.ground_truth, many.ground_truth)
    assert not np.array_equal(few.ground_truth, other.ground_truth)


def test_noise_is_on_observations_and_not_on_the_truth():
    clean, noisy = (random_tensor((10, 10, 10), 1, 1000, noise=noise) for noise in (0.0, 0.1))
    np.testing.assert_array_equal(clean.ground_truth, noisy.ground_truth)
    assert np.std(noisy.values - clean.values) == pytest.approx(0.1, rel=0.1)


def saved(path, tensor, order):
    torch.save({"target_tensor": torch.from_numpy(tensor), "target_cp_rank": 1, "train_indices_order": order}, path)
    return str(path)


def test_the_authors_format(tmp_path):
    tensor = np.arange(24.0).reshape(2, 3, 4)
    order = [5, 0, 23, 7]
    made = from_file(saved(tmp_path / "t.pt", tensor, order), count=3)
    assert made.dims == (2, 3, 4) and made.count == 3
    assert made.mask[0, 1, 1] and made.mask[0, 0, 0] and made.mask[1, 2, 3]
    np.testing.assert_array_equal(made.ground_truth, tensor)
    assert from_file(saved(tmp_path / "t.pt", tensor, order)).count == 4
    with pytest.raises(DataError, match="5 is more than the 4"):
        from_file(saved(tmp_path / "t.pt", tensor, order), count=5)
    with pytest.raises(DataError, match="24 lies outside of a 2x3x4"):
        from_file(saved(tmp_path / "t.pt", tensor, [24]))
    with pytest.raises(DataError, match="5 is observed twice|twice"):
        from_file(saved(tmp_path / "t.pt", tensor, [5, 5]))


@pytest.mark.skipif(not AUTHORS.is_file(), reason="the authors' data is not here")
def test_the_authors_file():
    made = from_file(str(AUTHORS), count=100)
    assert made.dims == (8, 8, 8) and made.count == 100
    assert np.linalg.norm(made.ground_truth) == pytest.approx(1.0, rel=1e-5)


def test_masks_of_any_order_and_csv_with_more_indices(tmp_path):
    mask, values = np.zeros((2, 3, 2), dtype=bool), np.zeros((2, 3, 2))
    mask[0, 2, 1], values[0, 2, 1] = True, 4.0
    np.savez(tmp_path / "m.npz", mask=mask, values=values)
    (tmp_path / "t.csv").write_text("i,j,k,value\n0,2,1,4.0\n")
    read = from_file(str(tmp_path / "m.npz")), from_file(str(tmp_path / "t.csv"), dims=[2, 3, 2])
    for made in read:
        np.testing.assert_array_equal(made.mask, mask)
        np.testing.assert_array_equal(made.values, values)
    with pytest.raises(DataError, match=r"entry \(0, 2, 1\) lies outside of a 2x2x2 tensor"):
        from_file(str(tmp_path / "t.csv"), dims=[2, 2, 2])
    with pytest.raises(DataError, match="3 axes"):
        from_file(str(tmp_path / "t.csv"), dims=[2, 3])
    (tmp_path / "t.csv").write_text("0,2,1,4.0\n0,1,2.0\n")
    with pytest.raises(DataError, match="line 2 is not `3 indices and a value`"):
        from_file(str(tmp_path / "t.csv"))
