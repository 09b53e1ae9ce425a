"""Figure 3's network trained by ordinary minibatch Lightning: tensor completion as learning from examples."""

from __future__ import annotations

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from rankward.factorizations import ConvolutionalArithmeticCircuit
from rankward.observations import EntryMask


class CircuitModule(pl.LightningModule):
    """Plain gradient descent on the mean squared error of a circuit's outputs over a batch.

    With all observed entries in one batch a step is that of the tensor factorization with `lr=constant`.

    Args:
        circuit: what is trained.
        eta: learning rate.
    """

    def __init__(self, circuit: ConvolutionalArithmeticCircuit, eta: float) -> None:
        super().__init__()
        self.circuit = circuit
        self.eta = eta

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """The batch's mean squared error."""
        inputs, outputs = batch
        return torch.nn.functional.mse_loss(self.circuit(inputs), outputs)

    def configure_optimizers(self) -> Any:
        """Gradient descent with a fixed step."""
        return torch.optim.SGD(self.parameters(), lr=self.eta)


def examples(observed: EntryMask) -> TensorDataset:
    """Index tuples and values of the observed entries, float64, in row-major order.

    Example:
        >>> from rankward.observations import random_tensor
        >>> len(examples(random_tensor((2, 3, 4), rank=1, count=5)))
        5
    """
    mask = torch.from_numpy(observed.mask)
    return TensorDataset(mask.nonzero(), torch.from_numpy(observed.values)[mask])
