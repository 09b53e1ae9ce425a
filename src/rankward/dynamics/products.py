"""Products of recorded factors in float64, with bits that do not depend on the other rows of a batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from rankward.dynamics.cp import Plan
from rankward.dynamics.graph import Graph
from rankward.dynamics.kernels import blocked, cache
from rankward.dynamics.layouts import fits_lanes
from rankward.dynamics.tracing import Untraceable, trace_product
from rankward.factorizations.base import Chain, Components, Factorization, Spectral
from rankward.factorizations.singular import product_of_coordinates
from rankward.linalg import product_matrix
from rankward.parallel import cores, side_by_side

Product = Callable[[Sequence[Tensor]], Tensor]


def product_of(factorization: Factorization) -> Product:
    """Return a function from factors [rows, *shape] to their products [rows, *dims], float64.

    Sums have the same order for any number of rows and threads. A factorization that cannot be traced is evaluated row
    by row.
    """
    form = factorization.form
    if isinstance(form, Components):
        return lambda factors: cp_tensors(form, factors)
    if isinstance(form, Spectral):
        return product_of_coordinates
    if isinstance(form, Chain):
        return product_matrix if len(form.sizes) > 2 else lambda factors: factors[0].double()
    try:
        graph = trace_product(factorization.product, factorization.shapes)
    except Untraceable:
        return lambda factors: _row_by_row(factorization, factors)
    return _evaluating(graph)


def _row_by_row(factorization: Factorization, factors: Sequence[Tensor]) -> Tensor:
    rows = [factorization.product([f[row].double() for f in factors]) for row in range(len(factors[0]))]
    if rows:
        return torch.stack(rows)
    made = factorization.product([torch.zeros(shape, dtype=torch.float64) for shape in factorization.shapes])
    return made.new_empty(0, *made.shape)


def _evaluating(graph: Graph) -> Product:
    """Return a function that evaluates a graph for every row of factors."""
    single, array = not fits_lanes(graph), graph.outputs[0]
    encoded = blocked.encoded_product(graph, single)

    def evaluated(factors: Sequence[Tensor]) -> Tensor:
        flat = [factor.detach().cpu().double().flatten(1).numpy() for factor in factors]
        packed = np.concatenate(flat, axis=1)
        out = np.empty((len(packed), array.size))
        evaluate = cache.blocked_kernels("single" if single else "lanes", "float64", "descent").evaluate
        threads = max(1, min(cores(), len(packed) // 8))
        side_by_side(threads, evaluate, np.zeros(1, np.int64), encoded, packed, out)
        return torch.from_numpy(out).reshape(len(out), *array.shape)

    return evaluated


def cp_tensors(form: Components, factors: Sequence[Tensor]) -> Tensor:
    """The tensors [rows, *dims] of CP factors [rows, d_n, R] (Equation 12), float64.

    Example:
        >>> cp_tensors(Components((2, 2), 1), [torch.ones(3, 2, 1), 2 * torch.ones(3, 2, 1)]).shape
        torch.Size([3, 2, 2])
    """
    plan = Plan(form.dims, form.components, "float64")
    packed = plan.packed([factor.detach().cpu().double().numpy() for factor in factors])
    tiles = np.empty((len(packed), plan.entries))
    tensors = cache.cp_kernels(plan.vectors, "float64", "descent").tensors
    threads = max(1, min(cores(), len(packed)))
    side_by_side(threads, tensors, np.zeros(1, np.int64), plan.sizes, packed, tiles)
    return torch.from_numpy(plan.untiled(tiles))
