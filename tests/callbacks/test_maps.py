"""Ranks of input-output maps: of functions whose matrices are known, and of Figure 3's network."""

import numpy as np
import pytest
import torch
from torch import nn

from rankward.callbacks import MapRank
from rankward.metrics import EffectiveRank, MultilinearRank
from rankward.models import ConvolutionalArithmeticCircuit


def test_a_function_on_pairs_of_points():
    """sin(x + y) = sin x cos y + cos x sin y has rank 2; batches do not change it."""
    x, y = torch.linspace(0, 3, 7, dtype=torch.float64), torch.linspace(-1, 2, 5, dtype=torch.float64)
    expected = np.sin(x.numpy()[:, None] + y.numpy())
    callback = MapRank((x, y), batch_size=3, rtol=1e-9)
    tensor = callback.tensor(lambda inputs: torch.sin(inputs.sum(-1)))
    np.testing.assert_allclose(tensor, expected, rtol=1e-12)
    sizes = np.linalg.svd(expected, compute_uv=False)[:2]
    entropy = -(sizes / sizes.sum() * np.log(sizes / sizes.sum())).sum()
    columns = callback.columns(tensor)
    np.testing.assert_allclose([columns["map/rank/numerical"], columns["map/rank/effective"]], [2, np.exp(entropy)])


def test_index_tuples_and_several_outputs():
    torch.manual_seed(0)
    circuit = ConvolutionalArithmeticCircuit((3, 4, 5), channels=2)
    callback = MapRank((3, 4, 5), name="circuit")
    tensor = callback.tensor(circuit).detach()
    assert torch.equal(tensor, circuit.tensor())
    columns = callback.columns(tensor)
    assert [columns[f"circuit/rank/multilinear_{n}"].item() for n in range(3)] == [2, 2, 2]
    rows = np.linalg.svd(tensor.numpy().astype(np.float64).transpose(1, 0, 2).reshape(4, 15), compute_uv=False)
    shares = rows / rows.sum()
    np.testing.assert_allclose(columns["circuit/rank/effective_1"], np.exp(-(shares * np.log(shares)).sum()))
    points = (torch.randn(3, 2), torch.randn(4, 1))
    assert MapRank(points).tensor(nn.Linear(3, 6)).shape == (3, 4, 6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: MapRank((3,)), "grid: points of shapes [3] are not allowed; expected two modes or more"),
        (lambda: MapRank((3, 0)), "grid: points of shapes [3], [0] are not allowed"),
        (lambda: MapRank((3, 3), [EffectiveRank()], rtol=0.1), "rtol: 0.1 has no effect with metrics"),
        (lambda: MapRank((3, 3), rtol=2), "rtol: 2 is not allowed"),
        (lambda: MapRank((3, 3)).tensor(lambda inputs: inputs.sum()), "its output for 9 inputs has shape []"),
        (lambda: MapRank((3, 3, 3), [EffectiveRank()]).columns(torch.ones(3, 3, 3)), "EffectiveRank: it measures 'matrix'"),
    ],
)  # fmt: skip
def test_nothing_is_ignored(call, message):
    with pytest.raises(ValueError) as raised:
        call()
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_other_metrics_of_a_map():
    columns = MapRank((3, 4), [MultilinearRank()]).columns(torch.ones(3, 4))
    assert {name: value.item() for name, value in columns.items()} == {
        "map/rank/multilinear_0": 1, "map/rank/multilinear_1": 1
    }  # fmt: skip
