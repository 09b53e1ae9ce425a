"""Baseline solutions of minimum nuclear norm (Conjecture 1), by ADMM with a duality gap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

GAP_INTERVAL = 10  # iterations between two evaluations of the gap
RELAXATION = 1.7  # over-relaxation of ADMM
MAX_PENALTY_ITERATION = 150  # penalties are fixed afterwards, which guarantees convergence
FEASIBILITY_TOLERANCE = 1e-9  # relative to the norm of the values
RANK_TOLERANCE = 1e-12  # relative to the largest singular value of the measurements, each scaled to norm 1


@dataclass(frozen=True)
class LeastNuclear:
    """Solutions of minimum nuclear norm with their duality gap.

    Args:
        matrix: [problems, d, d'], which agrees with the observations.
        norm: [problems] nuclear norm of `matrix`.
        gap: [problems] relative duality gap: no solution has a norm below (1 - gap) norm, by weak duality with a
            feasible dual point.
    """

    matrix: Float[np.ndarray, "problems rows cols"]
    norm: Float[np.ndarray, " problems"]
    gap: Float[np.ndarray, " problems"]


def nuclear_completion(
    mask: Bool[np.ndarray, "problems rows cols"],
    values: Float[np.ndarray, "problems rows cols"],
    tolerance: float = 1e-7,
    max_iterations: int = 20_000,
) -> LeastNuclear:
    """Complete matrices from observed entries with minimum nuclear norm; many problems at once.

    ADMM on |X|_* + indicator of {Z : Z = values on the mask}, X = Z: one step thresholds singular values, the other
    restores the observed entries. Each problem has its penalty, adapted to its residuals, and its stopping time.

    Args:
        mask: true where an entry is observed.
        values: observed values; other entries are ignored.
        tolerance: relative duality gap at which a problem stops.
        max_iterations: afterwards the best point so far is returned, with its gap.

    Example:
        >>> mask = np.array([[[False, True], [True, True]]])
        >>> found = nuclear_completion(mask, np.array([[[0.0, 1.0], [1.0, 0.0]]]))
        >>> found.norm.round(6).tolist(), found.matrix.round(4)[0, 0].tolist()
        ([2.0], [0.0, 1.0])
    """
    seen, given = torch.from_numpy(mask), torch.from_numpy(np.where(mask, values, 0.0))

    def feasible(matrix: Tensor, at: Tensor) -> Tensor:
        return torch.where(seen[at], given[at], matrix)

    def supported(dual: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        observed = torch.where(seen[at], dual, 0.0)
        return observed, (observed * given[at]).sum((1, 2))

    return _solve(feasible, supported, given.shape, tolerance, max_iterations)


def nuclear_sensing(
    matrices: Float[np.ndarray, "count rows cols"],
    values: Float[np.ndarray, " count"],
    tolerance: float = 1e-7,
    max_iterations: int = 20_000,
) -> LeastNuclear:
    """The matrix of least nuclear norm among those with <A_i, W> = y_i: one problem, of any linear measurements.

    Raises:
        ValueError: no matrix meets the measurements.
    """
    rows, targets = (torch.from_numpy(array) for array in independent(matrices, values))

    def feasible(matrix: Tensor, at: Tensor) -> Tensor:
        flat = matrix.flatten(1)
        return (flat + (targets - flat @ rows.T) @ rows).reshape(matrix.shape)

    def supported(dual: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        part = dual.flatten(1) @ rows.T
        return (part @ rows).reshape(dual.shape), part @ targets

    return _solve(feasible, supported, (1, *matrices.shape[1:]), tolerance, max_iterations)


def independent(
    matrices: Float[np.ndarray, "count rows cols"], values: Float[np.ndarray, " count"]
) -> tuple[Float[np.ndarray, "rank entries"], Float[np.ndarray, " rank"]]:
    """The same measurements as orthonormal rows, and their values.

    Each measurement is divided by the norm of its A_i first, so none is lost because its scale is small. Combinations
    of these that are below `RANK_TOLERANCE` count as zero.

    Raises:
        ValueError: no matrix meets the measurements.

    Example:
        >>> rows, values = independent(np.array([[[1.0, 0.0]], [[0.0, 1e-13]]]), np.array([1.0, 2e-13]))
        >>> (values @ rows).round(9).tolist()
        [1.0, 2.0]
    """
    flat = matrices.reshape(len(matrices), -1)
    size = np.abs(flat).max(1, initial=0.0)
    size = np.where(size > 0, size, 1.0)
    norm = np.maximum(1.0, np.linalg.norm(flat / size[:, None], axis=1))  # 1 for a matrix of zeros alone
    flat, scaled = flat / size[:, None] / norm[:, None], values / size / norm
    left, sizes, right = np.linalg.svd(flat, full_matrices=False)
    independent_rows = sizes > RANK_TOLERANCE * sizes[0]
    basis = left[:, independent_rows]
    inner = basis.T @ scaled
    missed = float(np.linalg.norm(basis @ inner - scaled))
    if not missed <= FEASIBILITY_TOLERANCE * float(np.linalg.norm(scaled)):
        raise ValueError(
            f"no matrix meets these {len(values)} measurements: divided by the norms of the A_i, they are missed by "
            f"{missed:.3g} at least"
        )
    return right[independent_rows], inner / sizes[independent_rows]


def _solve(
    feasible: Callable[[Tensor, Tensor], Tensor],
    supported: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    shape: Sequence[int],
    tolerance: float,
    max_iterations: int,
) -> LeastNuclear:
    """ADMM from the feasible points nearest to zero, of problems of that shape [problems, d, d'].

    `feasible(matrix, at)` is the nearest feasible matrix to each, of the problems `at`; `supported(dual, at)` the part
    of a dual point that measurements can see, and its value.
    """
    start = feasible(torch.zeros(*shape, dtype=torch.float64), torch.arange(shape[0]))
    done, norms = start.clone(), torch.linalg.svdvals(start).sum(1)
    gaps = torch.full_like(norms, torch.inf)
    gaps[norms == 0] = 0.0
    at = torch.nonzero(norms > 0).flatten()
    z, u = start[at], torch.zeros_like(start[at])
    step = torch.linalg.svdvals(z)[:, 0] / 4  # 1 / penalty
    for iteration in range(1, max_iterations + 1):
        if not len(at):
            break
        x, clipped = _threshold(z - u, step)
        relaxed = RELAXATION * x + (1 - RELAXATION) * z
        before = z
        z = feasible(relaxed + u, at)
        u = u + relaxed - z
        if iteration % GAP_INTERVAL and iteration != max_iterations:
            continue
        dual, value = supported(clipped / step[:, None, None], at)
        bound = value / torch.linalg.matrix_norm(dual, 2).clamp(min=1.0)
        norm = torch.linalg.svdvals(z).sum(1)
        gap = ((norm - bound) / norm).clamp(min=0.0)
        better = gap < gaps[at]
        done[at[better]], norms[at[better]], gaps[at[better]] = z[better], norm[better], gap[better]
        primal, moved = (x - z).flatten(1).norm(dim=1), (z - before).flatten(1).norm(dim=1)
        scale = torch.where(primal > 4 * moved, 0.6, torch.where(moved > 4 * primal, 1.6, 1.0))
        scale = scale if iteration <= MAX_PENALTY_ITERATION else torch.ones_like(scale)
        step, u = step * scale, u * scale[:, None, None]
        going = gap > tolerance
        at, z, u, step = at[going], z[going], u[going], step[going]
    return LeastNuclear(done.numpy(), norms.numpy(), gaps.numpy())


def _threshold(matrix: Tensor, by: Tensor) -> tuple[Tensor, Tensor]:
    """Soft-threshold the singular values by `by`; also return the part removed, of spectral norm at most `by`.

    It uses the eigenvectors of the smaller Gram matrix, which takes a third of the time of an SVD.
    """
    wide = matrix.shape[-2] < matrix.shape[-1]
    tall = matrix.mT if wide else matrix
    squares, vectors = torch.linalg.eigh(tall.mT @ tall)
    sizes = squares.clamp(min=0).sqrt()
    factors = torch.where(sizes > by[:, None], 1 - by[:, None] / sizes, 0.0)
    shrunk = tall @ (vectors * factors[:, None, :]) @ vectors.mT
    shrunk = shrunk.mT if wide else shrunk
    return shrunk, matrix - shrunk
