"""The network of Figure 3, trained with minibatches in Lightning, is a second implementation of CP factorization."""

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import DataLoader, TensorDataset

from rankward.dynamics import FusedEngine, Problem, Progress, Schedule
from rankward.factorizations import HierarchicalFactorization, TensorFactorization
from rankward.factorizations.initialisation import Gaussian
from rankward.models import ConvolutionalArithmeticCircuit, DeepConvolutionalArithmeticCircuit
from rankward.observations import hierarchical_truth, random_tensor


class CircuitModule(pl.LightningModule):
    """Gradient descent on the mean squared error of a circuit's outputs over a batch."""

    def __init__(self, circuit, eta):
        super().__init__()
        self.circuit, self.eta = circuit, eta

    def training_step(self, batch, batch_idx):
        inputs, outputs = batch
        return torch.nn.functional.mse_loss(self.circuit(inputs), outputs)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.eta)


def learned(observed, factors, batch, epochs, eta=0.1):
    """The factors after training on the observed entries with minibatches."""
    return learned_by(
        ConvolutionalArithmeticCircuit(observed.dims, factors[0].shape[1]), observed, factors, batch, epochs, eta
    )


def learned_by(circuit, observed, factors, batch, epochs, eta=0.1):
    """The same by another circuit."""
    circuit = circuit.double()
    with torch.no_grad():
        for operator, factor in zip(circuit.factors, factors, strict=True):
            operator.copy_(factor)
    trainer = pl.Trainer(
        max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    mask = torch.from_numpy(observed.mask)
    examples = TensorDataset(mask.nonzero(), torch.from_numpy(observed.values)[mask])
    trainer.fit(CircuitModule(circuit, eta), DataLoader(examples, batch_size=batch))
    return [operator.detach() for operator in circuit.factors]


def descended(made, observed, factors):
    """Factors, with a runs axis, after 50 steps of the compiled engine."""
    one = torch.ones(1, dtype=torch.float64)
    problem = Problem(
        torch.from_numpy(observed.mask)[None].double(), torch.from_numpy(observed.values)[None], 0.1 * one, 0 * one,
        torch.tensor([50]), 2 / observed.count * one,
    )  # fmt: skip
    ours = [factor[None].clone() for factor in factors]
    FusedEngine(made, Schedule(stride=50)).advance(ours, problem, Progress.start(1), 50)
    return ours


@pytest.mark.parametrize("dims", [pytest.param((3, 4, 2), marks=pytest.mark.slow), (2, 3, 2, 2)])
def test_full_batch_step_is_the_step_of_the_factorization(dims):
    observed = random_tensor(dims, rank=1, count=12)
    made = TensorFactorization(dims)
    factors = made.start(Gaussian(0.5), 0)
    by_lightning = learned(observed, factors, batch=observed.count, epochs=50)
    for a, b, start in zip(by_lightning, descended(made, observed, factors), factors, strict=True):
        torch.testing.assert_close(a, b[0], rtol=1e-10, atol=1e-12)
        assert (a - start).abs().max() > 1e-3


def test_small_batches_fit_the_observed_entries():
    observed = random_tensor((3, 3, 3), rank=1, count=20)
    factors = TensorFactorization((3, 3, 3)).start(Gaussian(0.3), 0)
    final = learned(observed, factors, batch=5, epochs=150, eta=0.5)
    tensor = TensorFactorization((3, 3, 3)).product(final)
    assert (
        tensor[torch.from_numpy(observed.mask)] - torch.from_numpy(observed.values[observed.mask])
    ).abs().max() < 0.02


@pytest.mark.parametrize("dims", [(2, 3, 4), (3, 3), (2, 1, 3, 2)])
def test_circuit_outputs_are_the_factorized_tensor(dims):
    factorization = TensorFactorization(dims, 5)
    factors = factorization.start(Gaussian(1.0), 3)
    circuit = ConvolutionalArithmeticCircuit(dims, 5).double()
    with torch.no_grad():
        for operator, factor in zip(circuit.operators, factors, strict=True):
            operator.copy_(factor)
    torch.testing.assert_close(circuit.tensor(), factorization.product(factors))
    index = [dim - 1 for dim in dims]
    expected = sum(np.prod([factors[n][i, r].item() for n, i in enumerate(index)]) for r in range(5))
    assert circuit(torch.tensor([index])).item() == pytest.approx(expected)
    vectors = [torch.randn(2, dim, dtype=torch.float64) for dim in dims]
    contracted = torch.stack(
        [
            factorization.product([v[k][:, None].T @ f for v, f in zip(vectors, factors, strict=True)]).reshape(())
            for k in range(2)
        ]
    )
    torch.testing.assert_close(circuit(vectors), contracted)


def test_shared_operator_gives_a_symmetric_tensor():
    tensor = ConvolutionalArithmeticCircuit((3, 3, 3), 4, shared=True).tensor()
    for turned in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):
        torch.testing.assert_close(tensor, tensor.permute(turned))
    with pytest.raises(ValueError, match="shared"):
        ConvolutionalArithmeticCircuit((3, 4), 4, shared=True)
    with pytest.raises(ValueError, match="0 channels"):
        ConvolutionalArithmeticCircuit((3, 4), 0)


DEEP = [
    ((2, 3, 4), "neighbours", (3, 2)),
    ((2, 3, 2, 2), "halves", (2, 4)),
    ((2, 2, 3, 2, 2), [[4, 5], [[3, 1], 2]], (2, 3, 4)),
    ((3, 2, 2), [1, 2, 3], (4,)),
]


@pytest.mark.parametrize(("dims", "tree", "widths"), DEEP)
def test_a_deep_circuit_is_the_hierarchical_factorization_on_all_index_tuples(dims, tree, widths):
    factorization = HierarchicalFactorization(dims, tree, widths=widths)
    factors = factorization.start(Gaussian(1.0), 3)
    circuit = DeepConvolutionalArithmeticCircuit(dims, widths, tree).double()
    with torch.no_grad():
        for weight, factor in zip(circuit.factors, factors, strict=True):
            weight.copy_(factor)
    torch.testing.assert_close(circuit.tensor(), factorization.product(factors))
    vectors = [torch.randn(2, dim, dtype=torch.float64) for dim in dims]
    modes = "abcde"[: len(dims)]
    contracted = torch.einsum(
        f"{modes},{','.join(f'n{mode}' for mode in modes)}->n", factorization.product(factors), *vectors
    )
    torch.testing.assert_close(circuit(vectors), contracted)


def test_a_deep_circuit_with_one_level_and_ones_at_its_root_is_the_shallow_one():
    deep, shallow = (
        DeepConvolutionalArithmeticCircuit((2, 3, 2), (4,), arity=3),
        ConvolutionalArithmeticCircuit((2, 3, 2), 4),
    )
    with torch.no_grad():
        deep.factors[-1].fill_(1)
        for weight, operator in zip(deep.factors, shallow.operators, strict=False):
            operator.copy_(weight)
    torch.testing.assert_close(deep.tensor(), shallow.tensor())


def test_full_batch_step_of_a_deep_circuit_is_the_step_of_the_factorization():
    dims, widths, tree = (2, 2, 2, 2), (2, 2), "halves"
    observed = hierarchical_truth(dims, 1, count=12)
    made = HierarchicalFactorization(dims, tree, widths=widths)
    factors = made.start(Gaussian(0.7), 0)
    circuit = DeepConvolutionalArithmeticCircuit(dims, widths, tree)
    by_lightning = learned_by(circuit, observed, factors, batch=observed.count, epochs=50)
    for a, b, start in zip(by_lightning, descended(made, observed, factors), factors, strict=True):
        torch.testing.assert_close(a, b[0], rtol=1e-10, atol=1e-12)
        assert (a - start).abs().max() > 1e-3


def test_small_batches_of_a_deep_circuit_fit_the_observed_entries():
    dims, widths = (2, 2, 2, 2), (3, 3)
    observed = hierarchical_truth(dims, 1, count=10)
    made = HierarchicalFactorization(dims, widths=widths)
    circuit = DeepConvolutionalArithmeticCircuit(dims, widths)
    final = learned_by(circuit, observed, made.start(Gaussian(0.5), 0), batch=5, epochs=150, eta=0.5)
    residual = made.product(final).numpy() - observed.values
    assert np.abs(residual[observed.mask]).max() < 0.02


def test_a_step_of_shared_operators_sums_the_gradients_of_their_nodes():
    dims, widths = (2, 2, 2, 2), (3, 2)
    observed = hierarchical_truth(dims, 1, count=12)
    circuit = DeepConvolutionalArithmeticCircuit(dims, widths, scale=0.7, shared=True)
    leaf, inner, root = (each.detach().double() for each in circuit.parameters())
    nodes = [leaf] * 4 + [inner] * 2 + [root]
    tensor = HierarchicalFactorization(dims, widths=widths).product(nodes)
    torch.testing.assert_close(tensor, tensor.permute(1, 0, 3, 2).permute(2, 3, 0, 1))
    stepped = learned_by(circuit, observed, nodes, batch=observed.count, epochs=1)
    variables = [node.clone().requires_grad_() for node in nodes]
    residual = HierarchicalFactorization(dims, widths=widths).product(variables) - torch.from_numpy(observed.values)
    (residual[torch.from_numpy(observed.mask)] ** 2).mean().backward()
    for group in ([0, 1, 2, 3], [4, 5], [6]):
        expected = nodes[group[0]] - 0.1 * sum(variables[number].grad for number in group)
        for number in group:
            torch.testing.assert_close(stepped[number], expected, rtol=1e-12, atol=1e-14)
    assert (stepped[0] - leaf).abs().max() > 1e-4


def test_full_batch_is_one_step_to_twelve_digits():
    dims, widths = (2, 3, 2), (2, 2)
    observed, made = hierarchical_truth(dims, 1, count=9), HierarchicalFactorization(dims, widths=widths)
    factors = [factor.requires_grad_() for factor in made.start(Gaussian(0.7), 0)]
    circuit = DeepConvolutionalArithmeticCircuit(dims, widths)
    stepped = learned_by(circuit, observed, factors, batch=observed.count, epochs=1)
    residual = made.product(factors) - torch.from_numpy(observed.values)
    (residual[torch.from_numpy(observed.mask)] ** 2).mean().backward()
    for operator, factor in zip(stepped, factors, strict=True):
        torch.testing.assert_close(operator, factor.detach() - 0.1 * factor.grad, rtol=1e-12, atol=1e-14)


def test_a_deep_circuit_refuses_what_has_no_tensor():
    for arguments, why in (
        (((2, 2, 2), (2,)), "widths: .* expected 2 of them"),
        (((2, 3), (2,), "neighbours", None, 1.0, True), "shared: True .* one shape at each level"),
        (((2, 2), (0,)), "at least 1 of each"),
        (((2,), (2,)), "at least 2 modes, not 1"),
        (((2, 2, 2), (2,), [[1, 2], 2]), "mode 2 is there 2 times"),
    ):
        with pytest.raises(ValueError, match=why):
            DeepConvolutionalArithmeticCircuit(*arguments)
