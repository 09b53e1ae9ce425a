"""Errors of simple predictions, recomputed with NumPy, by hand and with cvxpy's completion."""

import numpy as np
import pytest

from rankward.observations import EntryMask, hold_out, random_matrix, random_tensor
from rankward.theory import heldout
from rankward.theory.baselines import LeastNuclear
from rankward.theory.heldout import baseline_errors


def rmse(prediction, split):
    difference = (prediction - split.heldout.values)[split.heldout.mask]
    return np.sqrt(np.mean(difference**2))


def ratings(seed=0):
    """One to five stars of 40 users for 30 items, a third of them given."""
    draw = np.random.default_rng(seed)
    stars = draw.integers(1, 6, (40, 30)).astype(float)
    return hold_out(EntryMask(draw.random((40, 30)) < 0.3, stars), 0.2, seed)


def test_means_of_made_ratings():
    split = ratings()
    errors, note = baseline_errors(split)
    seen = np.where(split.mask, split.values, np.nan)
    assert note == "" and list(errors) == ["zero", "mean", "row_means", "column_means", "least_nuclear"]
    assert errors["zero"] == pytest.approx(rmse(0.0, split), rel=1e-12)
    assert errors["mean"] == pytest.approx(rmse(np.nanmean(seen), split), rel=1e-12)
    assert errors["row_means"] == pytest.approx(rmse(np.nanmean(seen, 1, keepdims=True), split), rel=1e-12)
    assert errors["column_means"] == pytest.approx(rmse(np.nanmean(seen, 0, keepdims=True), split), rel=1e-12)


def test_a_row_without_an_entry_takes_the_mean_of_all():
    held = EntryMask(np.array([[True, True], [False, False]]), np.array([[10.0, 20.0], [0, 0]]))
    seen = EntryMask(np.array([[False, False], [True, True]]), np.array([[0.0, 0.0], [1.0, 3.0]]), heldout=held)
    errors, _ = baseline_errors(seen)
    assert errors["row_means"] == pytest.approx(np.sqrt((8**2 + 18**2) / 2), rel=1e-12)
    assert errors["column_means"] == pytest.approx(np.sqrt((9**2 + 17**2) / 2), rel=1e-12)


def test_tensors_have_means_of_each_axis_and_vectors_of_none():
    split = hold_out(random_tensor((4, 3, 5), 2, 40), 10)
    errors, _ = baseline_errors(split)
    assert list(errors) == ["zero", "mean", "axis_0_means", "axis_1_means", "axis_2_means"]
    seen = np.where(split.mask, split.values, np.nan)
    for axis in range(3):
        means = np.nanmean(seen, tuple(other for other in range(3) if other != axis), keepdims=True)
        assert errors[f"axis_{axis}_means"] == pytest.approx(rmse(means, split), rel=1e-12)
    vector = hold_out(EntryMask(np.ones(6, dtype=bool), np.arange(6.0)), 2)
    assert list(baseline_errors(vector)[0]) == ["zero", "mean"]


def test_least_nuclear_norm_is_cvxpys():
    cvxpy = pytest.importorskip("cvxpy")
    split = hold_out(random_matrix((8, 8), 1, 50, seed=1), 8)
    matrix = cvxpy.Variable((8, 8))
    fits = [matrix[i, j] == split.values[i, j] for i, j in np.argwhere(split.mask)]
    cvxpy.Problem(cvxpy.Minimize(cvxpy.normNuc(matrix)), fits).solve(solver="CLARABEL")
    assert baseline_errors(split)[0]["least_nuclear"] == pytest.approx(rmse(matrix.value, split), abs=1e-4)


def test_least_nuclear_norm_is_nan_with_a_reason_where_it_is_not_computed(monkeypatch):
    wide = np.ones((101, 100), dtype=bool)
    errors, note = baseline_errors(hold_out(EntryMask(wide, np.ones(wide.shape)), 5))
    assert np.isnan(errors["least_nuclear"]) and errors["mean"] == 0
    assert note == "NaN: computed for at most 10,000 entries, these are 10,100"
    unsolved = LeastNuclear(np.ones((1, 4, 4)), np.ones(1), np.array([0.01]))
    monkeypatch.setattr(heldout, "nuclear_completion", lambda *_, **__: unsolved)
    errors, note = baseline_errors(hold_out(random_matrix((4, 4), 1, 9), 2))
    assert np.isnan(errors["least_nuclear"]) and note == "NaN: the relative duality gap stayed at 0.01"


def test_they_are_computed_once_for_each_object(monkeypatch):
    split = ratings(1)
    first = baseline_errors(split)
    monkeypatch.setattr(heldout, "nuclear_completion", None)
    assert baseline_errors(split) is first


@pytest.mark.parametrize("size", [1e308, 1e-300])
def test_large_and_small_values_stay_in_range(size):
    values = np.random.default_rng(0).uniform(0.5, 1.0, (5, 4))
    full = [EntryMask(np.ones((5, 4), dtype=bool), values * scale) for scale in (1.0, size)]
    one, scaled = (baseline_errors(hold_out(each, 3))[0] for each in full)
    assert {name: error / size for name, error in scaled.items()} == pytest.approx(one, rel=1e-5)
    assert scaled["mean"] / size == pytest.approx(one["mean"], rel=1e-12)


def test_observations_of_zeros_are_no_division_by_zero():
    errors, note = baseline_errors(hold_out(EntryMask(np.ones((3, 3), dtype=bool), np.zeros((3, 3))), 2))
    assert note == "" and set(errors.values()) == {0.0}


def test_observations_without_held_out_entries_have_none():
    with pytest.raises(ValueError, match="no held-out entries"):
        baseline_errors(random_matrix((3, 3), 1, 5))
