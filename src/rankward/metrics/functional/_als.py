"""Alternating least squares for one tensor, compiled: it holds no lock, so that tensors run side by side."""

from __future__ import annotations

import numba
import numpy as np

PATIENCE = 30  # sweeps that may stand still: alternating least squares crosses long plateaus


@numba.njit(cache=True, nogil=True, error_model="numpy")
def khatri_rao(factors: np.ndarray, dims: np.ndarray, without: int, out: np.ndarray, spare: np.ndarray) -> np.ndarray:
    """Column-wise Kronecker product of all factors but one, rows in row-major order of their modes."""
    components = factors.shape[1]
    rows = 1
    here, there = out, spare
    here[0] = 1.0
    at = 0
    for mode in range(dims.size):
        if mode != without:
            for i in range(rows):
                for j in range(dims[mode]):
                    for r in range(components):
                        there[i * dims[mode] + j, r] = here[i, r] * factors[at + j, r]
            rows *= dims[mode]
            here, there = there, here
        at += dims[mode]
    return here[:rows]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def fit(
    unfoldings: np.ndarray, dims: np.ndarray, factors: np.ndarray, target: float, sweeps: int, pace: float
) -> float:
    """Improve CP factors in place until the sum of squared errors is at most `target`, or it no longer falls.

    Args:
        unfoldings: [modes, entries], the matricization of each mode, row-major.
        dims: [modes].
        factors: [sum of dims, components], mode after mode.
        target: of the sum of squared errors.
        sweeps: at most.
        pace: relative decrease a sweep, below which it counts as standing still.

    Returns:
        The sum of squared errors of the factors, computed entry by entry.
    """
    modes, entries = unfoldings.shape
    components = factors.shape[1]
    widest = entries // dims.min()
    out, spare = np.empty((widest, components)), np.empty((widest, components))
    total = (unfoldings[0] * unfoldings[0]).sum()
    grams = np.ones((modes, components, components))
    at = 0
    for mode in range(modes):
        own = factors[at : at + dims[mode]]
        grams[mode] = np.dot(own.T, own)
        at += dims[mode]
    last, slow, error = np.inf, 0, np.inf
    for _ in range(sweeps):
        at = 0
        inner = 0.0
        for mode in range(modes):
            dim = dims[mode]
            gram = np.ones((components, components))
            for other in range(modes):
                if other != mode:
                    gram *= grams[other]
            # A proximal term keeps the solve sound where components are alike; its fixed points are those without.
            shift = 1e-10 * np.trace(gram) / components + 1e-300
            for r in range(components):
                gram[r, r] += shift
            others = khatri_rao(factors, dims, mode, out, spare)
            unfolded = unfoldings[mode].reshape(dim, entries // dim)
            projected = np.dot(unfolded, others)
            own = np.linalg.solve(gram, (projected + shift * factors[at : at + dim]).T.copy()).T
            factors[at : at + dim] = own
            grams[mode] = np.dot(own.T, np.ascontiguousarray(own))
            if mode == modes - 1:
                inner = (projected * own).sum()
            at += dim
        whole = np.ones((components, components))
        for mode in range(modes):
            whole *= grams[mode]
        error = total - 2 * inner + whole.sum()
        if not np.isfinite(error):
            return np.inf
        if error <= max(target, 1e-7 * total):  # too close for a difference of large numbers
            error = 0.0
            others = khatri_rao(factors, dims, 0, out, spare)
            difference = unfoldings[0].reshape(dims[0], entries // dims[0]) - np.dot(factors[: dims[0]], others.T)
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
