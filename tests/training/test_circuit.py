"""Figure 3's network, trained by ordinary Lightning, is a second implementation of tensor factorization."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader

from rankward.dynamics import FusedEngine, Problem, Progress, Schedule
from rankward.factorizations import ConvolutionalArithmeticCircuit, TensorFactorization
from rankward.factorizations.initialisation import Gaussian
from rankward.observations import random_tensor
from rankward.training.circuit import CircuitModule, examples


def learned(observed, factors, batch, epochs, eta=0.1):
    """Factors that minibatch Lightning ends with."""
    circuit = ConvolutionalArithmeticCircuit(observed.dims, factors[0].shape[1]).double()
    with torch.no_grad():
        for operator, factor in zip(circuit.operators, factors, strict=True):
            operator.copy_(factor)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(CircuitModule(circuit, eta), DataLoader(examples(observed), batch_size=batch))
    return [operator.detach() for operator in circuit.operators]


@pytest.mark.parametrize("dims", [(3, 4, 2), (2, 3, 2, 2)])
def test_a_batch_of_everything_is_the_factorizations_step(dims):
    observed = random_tensor(dims, rank=1, count=12)
    made = TensorFactorization(dims)
    factors = made.start(Gaussian(0.5), 0)
    by_lightning = learned(observed, factors, batch=observed.count, epochs=50)
    one = torch.ones(1, dtype=torch.float64)
    problem = Problem(
        torch.from_numpy(observed.mask)[None].double(), torch.from_numpy(observed.values)[None], 0.1 * one, 0 * one,
        torch.tensor([50]), 2 / observed.count * one,
    )  # fmt: skip
    ours = [factor[None].clone() for factor in factors]
    FusedEngine(made, Schedule(stride=50)).advance(ours, problem, Progress.start(1), 50)
    for a, b, start in zip(by_lightning, ours, factors, strict=True):
        torch.testing.assert_close(a, b[0], rtol=1e-10, atol=1e-12)
        assert (a - start).abs().max() > 1e-3


def test_smaller_batches_learn_the_same_entries():
    observed = random_tensor((3, 3, 3), rank=1, count=20)
    factors = TensorFactorization((3, 3, 3)).start(Gaussian(0.3), 0)
    final = learned(observed, factors, batch=5, epochs=150, eta=0.5)
    tensor = TensorFactorization((3, 3, 3)).product(final)
    assert (
        tensor[torch.from_numpy(observed.mask)] - torch.from_numpy(observed.values[observed.mask])
    ).abs().max() < 0.02
