"""A RunContext and rows of a run that follows the theory, made by hand."""

import numpy as np

from rankward.theory import RunContext


def facts(**changes):
    """Those of one balanced flow of depth 3 on Equation 6."""
    mask, values = np.array([[[False, True], [True, True]]]), np.array([[[0.0, 1.0], [1.0, 0.0]]])
    kept = {
        "depth": 3, "dynamics": "flow", "mask": mask, "values": values, "determinant": np.ones(1),
        "unbalancedness": np.zeros(1), "product": 1e-2 * np.eye(2)[None], "tolerance": np.full(1, 1e-10),
    }  # fmt: skip
    return RunContext(**{**kept, **changes})


def sharp_trace(rows=200):
    """What a run that follows the theory would leave: W_12 = W_21 = 1 - s, the rest of the loss in W_22."""
    loss = np.geomspace(0.1, 2e-5, rows)
    w_22 = np.sqrt(2 * loss)
    w_11 = 1.001 / w_22
    product = np.stack([np.stack([w_11, np.ones(rows)], 1), np.stack([np.ones(rows), w_22], 1)], 1)
    values = np.linalg.svd(product, compute_uv=False)
    shares = values / values.sum(1, keepdims=True)
    return {
        "run": np.zeros(rows, int), "iteration": 50 * np.arange(rows), "loss": loss, "entry/0_0": w_11,
        "entry/0_1": np.ones(rows), "entry/1_0": np.ones(rows), "entry/1_1": w_22, "determinant/sign": np.ones(rows),
        "norm/nuclear": values.sum(1), "norm/spectral": values[:, 0], "norm/schatten_0.5": (values**0.5).sum(1) ** 2,
        "rank/effective": np.exp(-(shares * np.log(shares)).sum(1)), "rank/distance_to_infimal": values[:, 1],
        "balance/drift": np.full(rows, 1e-13),
    }  # fmt: skip
