"""The GPU kernel's assembly, made without a GPU."""

from __future__ import annotations

from unittest import mock

import torch

from rankward.dynamics.kernels.cuda_text import module, strict
from rankward.dynamics.layouts import GraphLayout, layout_of
from rankward.dynamics.state import Rule
from rankward.factorizations import Factorization
from rankward.optimizers import Optimizer


def ptx(
    factorization: Factorization,
    dtype: str,
    dynamics: str,
    capability: tuple[int, int],
    optimizer: Optimizer | None = None,
) -> str:
    """For a card of that compute capability, which device functions would ask the card for."""
    from numba import cuda, types
    from numba.cuda import dispatcher

    real = types.float64 if dtype == "float64" else types.float32
    arrays = [
        (real, 2),
        (real, 2),
        (types.int64, 2),
        (types.float64, 2),
        (types.int64, 2),
        (types.float64, 2),
        (real, 3),
    ]
    numbers = (types.int64, types.int64, types.int64, types.float64, types.float64, types.int64)
    signature = (*(types.Array(kind, axes, "C") for kind, axes in arrays), *numbers)
    dims = tuple(factorization.product([torch.zeros(shape) for shape in factorization.shapes]).shape)
    rule = None if optimizer is None else Rule(optimizer, torch.tensor([optimizer.numbers]))
    layout = layout_of(factorization, dims, dims, dtype, rule)
    assert isinstance(layout, GraphLayout)
    card = mock.Mock(compute_capability=capability)
    with strict(), mock.patch.object(dispatcher, "get_current_device", return_value=card):
        made, _ = cuda.compile_ptx(module(layout.graph, layout.name, dynamics).drive.py_func, signature, cc=capability)
    return str(made)
