"""Gaussian measurements of tensors: gradients in closed form, and the recovery of a tensor of rank 1."""

import numpy as np
import pytest

from helpers.in_process import command_line
from rankward import results
from rankward.dynamics.tracing import trace
from rankward.factorizations import HierarchicalFactorization, TensorFactorization, TuckerFactorization
from rankward.observations import sensing

DIMS = (2, 3, 2, 2)
# The product of each factorization as an einsum of its factors.
PRODUCTS = {
    "tensor": (TensorFactorization(DIMS, 3), "az,bz,cz,dz->abcd"),
    "hierarchical": (HierarchicalFactorization(DIMS, widths=[2, 3]), "ar,br,cs,ds,rt,st,t->abcd"),
    "tucker": (TuckerFactorization(DIMS, (2, 2, 1, 2)), "wxyz,aw,bx,cy,dz->abcd"),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_loss_and_gradients_are_those_of_einsum(name):
    """The product is linear in each factor: its gradient contracts all others with the sum of residuals times A_i."""
    factorization, text = PRODUCTS[name]
    made = sensing(DIMS, rank=2, count=7, seed=1)
    random = np.random.default_rng(5)
    factors = [random.standard_normal(shape) for shape in factorization.shapes]
    graph = trace(factorization.product, factorization.shapes, made.matrices.shape, made.values.shape, "float64")
    half, *gradients = graph.evaluate(*factors, made.matrices, made.values)
    *inputs, out = text.replace("->", ",").split(",")
    residual = np.einsum("nabcd,abcd->n", made.matrices, np.einsum(text, *factors)) - made.values
    np.testing.assert_allclose(half, 0.5 * residual @ residual, rtol=1e-12)
    pull = np.einsum("n,nabcd->abcd", residual, made.matrices)
    for at, gradient in enumerate(gradients):
        others = ",".join([out, *inputs[:at], *inputs[at + 1 :]])
        expected = np.einsum(f"{others}->{inputs[at]}", pull, *factors[:at], *factors[at + 1 :])
        np.testing.assert_allclose(gradient.reshape(expected.shape), expected, rtol=1e-11, atol=1e-13)


@pytest.mark.slow
def test_a_tensor_of_rank_1_is_recovered_in_compiled_code(tmp_path):
    job = "observations=sensing observations.dims=[4,4,4] observations.rank=1 observations.count=40 metrics=tensor"
    for name, scale in (("tensor", "1e-2"), ("hierarchical", "0.1"), ("tucker", "0.1")):
        folder = tmp_path / name
        rest = [f"init.scale={scale}", "lr=adaptive", "max_iterations=20000", "logger=none", f"hydra.run.dir={folder}"]
        assert not command_line(f"factorization={name}", *job.split(), *rest, cwd=tmp_path, trains=True).code
        summary = results.read_summary(folder)
        assert summary["engine"] == "fused" and summary["metrics"]["rank/cp_upper"] == 1
        assert summary["metrics"]["error/reconstruction"] < 0.02  # a random start has an error of about 1
