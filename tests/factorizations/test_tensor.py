"""CP factorizations: starts, sizes, and the circuit of Figure 3 that they are."""

import numpy as np
import pytest
import torch

from rankward.config import ConfigError
from rankward.factorizations import TensorFactorization
from rankward.factorizations.initialisation import Balanced, Gaussian


def test_components_make_every_tensor_by_default():
    assert TensorFactorization((8, 8, 8)).components == 64
    assert TensorFactorization((3, 9, 2)).components == 6
    assert TensorFactorization((4, 5), components=2).shapes == [(4, 2), (5, 2)]


def test_a_start_has_the_scale_asked_for_and_depends_on_the_seed_alone():
    made = TensorFactorization((20, 30, 10))
    one, again, other = (made.start(Gaussian(1e-2), seed) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one[0], other[0])
    for factor in one:
        assert factor.std().item() == pytest.approx(1e-2, rel=0.05) and abs(factor.mean().item()) < 1e-3


def test_what_has_no_meaning_is_refused():
    made = TensorFactorization((3, 3, 3))
    with pytest.raises(ConfigError, match="init: 'balanced'"):
        made.start(Balanced(1e-2), 0)
    with pytest.raises(ConfigError, match=r"init\.determinant"):
        made.start(Gaussian(1e-2, "positive"), 0)
    with pytest.raises(ConfigError, match="2 to 25 axes"):
        TensorFactorization((5,))
    with pytest.raises(ConfigError, match=r"factorization\.components: 0"):
        TensorFactorization((5, 5), components=0)


@pytest.mark.parametrize("dims", [(2, 3, 4), (3, 3), (2, 1, 3, 2)])
def test_the_circuit_is_the_factorization(dims):
    made = TensorFactorization(dims, 5)
    factors = made.start(Gaussian(1.0), 3)
    circuit = ConvolutionalArithmeticCircuit(dims, 5).double()
    with torch.no_grad():
        for operator, factor in zip(circuit.operators, factors, strict=True):
            operator.copy_(factor)
    torch.testing.assert_close(circuit.tensor(), made.product(factors))
    index = [dim - 1 for dim in dims]
    by_hand = sum(np.prod([factors[n][i, r].item() for n, i in enumerate(index)]) for r in range(5))
    assert circuit(torch.tensor([index])).item() == pytest.approx(by_hand)
    vectors = [torch.randn(2, dim, dtype=torch.float64) for dim in dims]
    whole = torch.stack(
        [
            made.product([v[k][:, None].T @ f for v, f in zip(vectors, factors, strict=True)]).reshape(())
            for k in range(2)
        ]
    )
    torch.testing.assert_close(circuit(vectors), whole)


def test_a_shared_operator_makes_a_symmetric_tensor():
    tensor = ConvolutionalArithmeticCircuit((3, 3, 3), 4, shared=True).tensor()
    for turned in ((1, 0, 2), (0, 2, 1), (2, 1, 0)):
        torch.testing.assert_close(tensor, tensor.permute(turned))
    with pytest.raises(ValueError, match="shared"):
        ConvolutionalArithmeticCircuit((3, 4), 4, shared=True)
    with pytest.raises(ValueError, match="0 channels"):
        ConvolutionalArithmeticCircuit((3, 4), 0)
