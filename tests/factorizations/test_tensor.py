"""CP factorizations: initial factors and sizes."""

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


def test_meaningless_values_are_refused():
    made = TensorFactorization((3, 3, 3))
    with pytest.raises(ConfigError, match="init: 'balanced'"):
        made.start(Balanced(1e-2), 0)
    with pytest.raises(ConfigError, match=r"init\.determinant"):
        made.start(Gaussian(1e-2, "positive"), 0)
    with pytest.raises(ConfigError, match="2 to 25 axes"):
        TensorFactorization((5,))
    with pytest.raises(ConfigError, match=r"factorization\.components: 0"):
        TensorFactorization((5, 5), components=0)
