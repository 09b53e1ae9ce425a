"""Errors of samples against NumPy."""

import numpy as np
import pytest
import torch

from rankward.metrics import SampleErrors


def test_errors_are_those_of_numpy_with_a_clamp_on_held_out_entries_and_in_the_datas_units():
    random = np.random.default_rng(0)
    product, values, observed = *random.standard_normal((2, 3, 7)), random.random((3, 7)) < 0.6
    metric = SampleErrors(scale=2.0, clamp=1.5)
    given = [torch.from_numpy(each) for each in (product, values, observed, ~observed)]
    unit = torch.tensor([1.0, 2.0, 0.5], dtype=torch.float64)
    metric.update(*given, unit=unit)
    squares = ((product - values) * unit.numpy()[:, None]) ** 2
    columns = {name: column.numpy() for name, column in metric.columns().items()}
    for name, mask, largest in (("observed", observed, np.inf), ("heldout", ~observed, 1.5)):
        expected = [np.minimum(row[at], largest).mean() / 2 for row, at in zip(squares, mask, strict=True)]
        np.testing.assert_allclose(columns[f"error/{name}_scaled_mse"], expected, rtol=1e-14)
        rmse = [row[at].mean() ** 0.5 for row, at in zip(squares, mask, strict=True)]
        np.testing.assert_allclose(columns[f"error/{name}_rmse"], rmse, rtol=1e-14)


def test_infinite_errors_are_clamped_and_nan_is_not_hidden():
    metric, seen = SampleErrors(), torch.tensor([[True, False]] * 2)
    metric.update(torch.tensor([[1.0, torch.inf], [1.0, torch.nan]]), torch.zeros(2, 2), seen, ~seen)
    columns = metric.columns()
    assert columns["error/heldout_scaled_mse"].nan_to_num(-1).tolist() == [1, -1]
    assert columns["error/observed_scaled_mse"].tolist() == [0.25, 0.25]


@pytest.mark.parametrize("wrong", [{"scale": 0.0}, {"clamp": -1.0}])
def test_numbers_that_are_not_positive_are_refused(wrong):
    with pytest.raises(ValueError, match="expected a positive number"):
        SampleErrors(**wrong)
