"""Alternating least squares for one tensor, compiled without the GIL, so that tensors are fitted in parallel."""

from __future__ import annotations

import sys

import numba
import numpy as np

from rankward.numba_cache import forgive

PATIENCE = 30  # sweeps that may stand still: alternating least squares crosses long plateaus


@numba.njit(cache=True, nogil=True, error_model="numpy")
def khatri_rao(factors: np.ndarray, dims: np.ndarray, first: int, end: int) -> np.ndarray:
    """Column-wise Kronecker product of the factors of modes first, ..., end - 1, rows in row-major order."""
    components = factors.shape[1]
    at = dims[:first].sum()
    rows = factors[at : at + dims[first]]
    for mode in range(first + 1, end):
        at += dims[mode - 1]
        product = np.empty((len(rows) * dims[mode], components))
        for i in range(len(rows)):
            for j in range(dims[mode]):
                for r in range(components):
                    product[i * dims[mode] + j, r] = rows[i, r] * factors[at + j, r]
        rows = product
    return rows


@numba.njit(cache=True, nogil=True, error_model="numpy")
def contracted(half: np.ndarray, factors: np.ndarray, dims: np.ndarray, first: int, end: int, mode: int) -> np.ndarray:
    """[dims[mode], components]: `half`, with rows of modes first, ..., end - 1, times all factors of these but one."""
    components = factors.shape[1]
    out, term = np.zeros((dims[mode], components)), np.empty(components)
    for row in range(len(half)):
        term[:] = half[row]
        remaining, index, at = row, 0, dims[:end].sum()
        for other in range(end - 1, first - 1, -1):
            at -= dims[other]
            i = remaining % dims[other]
            remaining //= dims[other]
            if other == mode:
                index = i
            else:
                for r in range(components):
                    term[r] *= factors[at + i, r]
        for r in range(components):
            out[index, r] += term[r]
    return out


@numba.njit(cache=True, nogil=True, error_model="numpy")
def fit(tensor: np.ndarray, dims: np.ndarray, factors: np.ndarray, target: float, sweeps: int, pace: float) -> float:
    """Improve CP factors in place until the sum of squared errors is at most `target`, or it no longer falls.

    The modes are cut in two halves: what the factors of one make of the tensor serves every mode of the other.

    Args:
        tensor: [entries], row-major.
        dims: [modes].
        factors: [sum of dims, components], mode after mode.
        target: of the sum of squared errors.
        sweeps: at most.
        pace: relative decrease a sweep, below which it counts as standing still.

    Returns:
        The sum of squared errors of the factors, computed entry by entry.
    """
    modes, components = dims.size, factors.shape[1]
    cut = middle(dims)
    matrix = tensor.reshape(dims[:cut].prod(), dims[cut:].prod())
    total = (tensor * tensor).sum()
    grams = np.ones((modes, components, components))
    at = 0
    for mode in range(modes):
        factor = factors[at : at + dims[mode]]
        grams[mode] = np.dot(factor.T, factor)
        at += dims[mode]
    last, slow, error = np.inf, 0, np.inf
    for _ in range(sweeps):
        at = 0
        inner = 0.0
        half = np.dot(matrix, khatri_rao(factors, dims, cut, modes))
        for mode in range(modes):
            dim = dims[mode]
            if mode == cut:
                half = np.dot(matrix.T, khatri_rao(factors, dims, 0, cut))
            gram = np.ones((components, components))
            for other in range(modes):
                if other != mode:
                    gram *= grams[other]
            # A proximal term keeps the solve sound where components are alike; its fixed points are those without.
            shift = 1e-10 * np.trace(gram) / components + 1e-300
            for r in range(components):
                gram[r, r] += shift
            first, end = (0, cut) if mode < cut else (cut, modes)
            projected = contracted(half, factors, dims, first, end, mode)
            solution = np.linalg.solve(gram, (projected + shift * factors[at : at + dim]).T.copy()).T
            factors[at : at + dim] = solution
            grams[mode] = np.dot(solution.T, np.ascontiguousarray(solution))
            if mode == modes - 1:
                inner = (projected * solution).sum()
            at += dim
        whole = np.ones((components, components))
        for mode in range(modes):
            whole *= grams[mode]
        error = total - 2 * inner + whole.sum()
        if not np.isfinite(error):
            return np.inf
        if error <= max(target, 1e-7 * total):  # too close for a difference of large numbers
            left, right = khatri_rao(factors, dims, 0, cut), khatri_rao(factors, dims, cut, modes)
            difference = matrix - np.dot(left, right.T)
            error = (difference * difference).sum()
            if error <= target:
                return error
        slow = slow + 1 if error > last * (1 - pace) else 0
        if slow >= PATIENCE:
            return error
        last = error
        balance(factors, dims, grams)
    return error


@numba.njit(cache=True, nogil=True, error_model="numpy")
def middle(dims: np.ndarray) -> int:
    """The number of modes in the first of two halves, chosen so that both are small."""
    best, least = 1, np.inf
    for cut in range(1, dims.size):
        size = dims[:cut].prod() + dims[cut:].prod()
        if size < least:
            best, least = cut, size
    return best


@numba.njit(cache=True, nogil=True, error_model="numpy")
def balance(factors: np.ndarray, dims: np.ndarray, grams: np.ndarray) -> None:
    """Give every vector of a component the same norm."""
    modes, components = dims.size, factors.shape[1]
    for r in range(components):
        product = 1.0
        for mode in range(modes):
            product *= grams[mode, r, r]
        if not (product > 0 and np.isfinite(product)):
            continue
        common = product ** (0.5 / modes)
        at = 0
        for mode in range(modes):
            ratio = common / np.sqrt(grams[mode, r, r])
            factors[at : at + dims[mode], r] *= ratio
            grams[mode, r, :] *= ratio
            grams[mode, :, r] *= ratio
            at += dims[mode]


forgive(sys.modules[__name__])
