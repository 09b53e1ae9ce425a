"""Metrics of features against NumPy's SVD of the outputs that a forward pass returns."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from rankward.callbacks import FeatureMetrics
from rankward.metrics import EffectiveRank, NuclearNorm


@pytest.fixture(scope="module")
def trainer():
    return pl.Trainer(accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False)


class Network(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.conv, self.drop, self.twice, self.idle = nn.Conv1d(2, 3, 2), nn.Dropout(), nn.Identity(), nn.Identity()
        self.attn = nn.MultiheadAttention(4, 1)

    def forward(self, batch):
        hidden = self.drop(self.conv(batch["images"]))
        self.attn(hidden, hidden, hidden)
        return self.twice(self.twice(hidden))


@pytest.mark.parametrize("flatten", ["example,rest", "rest,channel", "rest,last"])
@pytest.mark.parametrize("center", [False, True])
def test_outputs_are_matrices(flatten, center, trainer):
    torch.manual_seed(0)
    model, probe = Network().train(), {"images": torch.randn(6, 2, 5)}
    output = model.conv(probe["images"]).detach().numpy().astype(np.float64)  # [6, 3, 4]
    matrix = {
        "example,rest": output.reshape(6, 12),
        "rest,channel": output.transpose(0, 2, 1).reshape(24, 3),
        "rest,last": output.reshape(18, 4),
    }[flatten]
    sizes = np.linalg.svd(matrix - center * matrix.mean(0), compute_uv=False)
    callback = FeatureMetrics([NuclearNorm()], probe, "drop", flatten=flatten, center=center)
    with torch.no_grad():
        measured = callback.measured(trainer, model)
    np.testing.assert_allclose(measured["drop/norm/nuclear"], sizes.sum(), rtol=1e-9)
    assert model.training and model.drop.training and not model.conv._forward_hooks


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layers": "con"}, "layers: 'con' matches no module; there are conv (Conv1d)"),
        ({"layers": "twice"}, "layers: 'twice' runs 2 times on the probe batch; expected once"),
        ({"layers": "idle"}, "layers: 'idle' runs 0 times"),
        ({"layers": "attn"}, "layers: 'attn' returns tuple; expected a tensor of two axes or more"),
        ({"network": "body"}, "network: 'body' is not a module of the model; there are conv (Conv1d)"),
        ({"flatten": "out,rest"}, "flatten: 'out,rest' is not allowed"),
    ],
)
def test_nothing_is_ignored(arguments, message, trainer):
    with pytest.raises(ValueError) as raised:
        arguments = {
            "metrics": [EffectiveRank()],
            "probe": {"images": torch.ones(2, 2, 5)},
            "layers": "conv",
            **arguments,
        }
        FeatureMetrics(**arguments).measured(trainer, Network())
    assert message in str(raised.value) and "\n" not in str(raised.value)
