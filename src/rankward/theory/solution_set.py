"""The solutions of a problem with one unobserved entry: a line of matrices, and what norms and ranks do along it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from rankward.metrics import functional
from rankward.metrics.functional.norms import check_p, schatten_norm_from_singular_values
from rankward.metrics.functional.ranks import (
    distance_to_rank_from_singular_values,
    effective_rank_from_singular_values,
)
from rankward.observations import EntryMask, IndexedEntries, Measurement, two_by_two

RANK_RTOL = 1e-12  # singular values beneath so much of the largest count as zero in exact statements
PIECES = 64  # of the line at first, each halved until it is known or ruled out
MAX_PIECES = 200_000  # at once; with more, the interval found so far is returned


@dataclass(frozen=True)
class Infimum:
    """An infimum that lies for certain in [lower, upper]; `at` is where `upper` is attained."""

    lower: float
    upper: float
    at: float


def infimal_rank(observed: Measurement) -> tuple[float, str]:
    """Definition 2's infimal rank of a matrix problem's solutions, and an empty string; or NaN, and why.

    It has a closed form where one entry is unobserved (see `SolutionSet.infimal_rank`), or none: the matrix's own rank.

    Example:
        >>> infimal_rank(two_by_two())
        (1.0, '')
    """
    if isinstance(observed, IndexedEntries):
        return np.nan, f"{observed.size - observed.count:,} unobserved entries"
    if not isinstance(observed, EntryMask):
        return np.nan, "measurements that are not single entries"
    unobserved = int((~observed.mask).sum())
    if unobserved == 0:
        return float(_rank(observed.values)), ""
    if unobserved == 1:
        return float(SolutionSet(observed.mask, observed.values).infimal_rank), ""
    return np.nan, f"{unobserved:,} unobserved entries"


class SolutionSet:
    """{W : W = values wherever mask}, for a matrix with one unobserved entry, as a line in that entry.

    Args:
        mask: [d, d'] true where an entry is observed.
        values: [d, d'] the observations.

    Raises:
        ValueError: not just one entry unobserved, or not a matrix.

    Example:
        >>> paper = SolutionSet.of_equation_6()
        >>> paper.infimal_rank, paper.schatten_norm(np.array([0.0]), p=1)
        (1, array([2.]))
    """

    def __init__(self, mask: Bool[np.ndarray, "rows cols"], values: Float[np.ndarray, "rows cols"]) -> None:
        missing = np.argwhere(~mask)
        if mask.ndim != 2 or len(missing) != 1:
            raise ValueError(f"mask: {len(missing)} unobserved entries of {mask.shape}; expected one, of a matrix")
        self.row, self.col = (int(i) for i in missing[0])
        self.values = np.where(mask, values, 0.0).astype(np.float64)

    @classmethod
    def of_equation_6(cls) -> SolutionSet:
        """The paper's (Equation 7)."""
        seen = two_by_two()
        return cls(seen.mask, seen.values)

    def at(self, entry: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n rows cols"]:
        """The solutions whose unobserved entry has these values."""
        matrices = np.repeat(self.values[None], len(entry), axis=0)
        matrices[:, self.row, self.col] = entry
        return matrices

    def singular_values(self, entry: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n values"]:
        """Singular values of each of these solutions, descending."""
        return functional.singular_values(torch.from_numpy(self.at(entry))).numpy()

    def schatten_norm(self, entry: Float[np.ndarray, " n"], p: float) -> Float[np.ndarray, " n"]:
        """Schatten-p (quasi-)norms of these solutions, p in (0, inf]."""
        return self._of_values(entry, lambda values: schatten_norm_from_singular_values(values, p))

    def effective_rank(self, entry: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Definition 1 of these solutions; NaN for the zero matrix."""
        return self._of_values(entry, effective_rank_from_singular_values)

    def distance_to_infimal_rank(self, entry: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
        """Definition 2 of these solutions."""
        rank = self.infimal_rank
        return self._of_values(entry, lambda values: distance_to_rank_from_singular_values(values, rank))

    def _of_values(self, entry: np.ndarray, measure: Callable[[torch.Tensor], torch.Tensor]) -> np.ndarray:
        return measure(functional.singular_values(torch.from_numpy(self.at(entry)))).numpy()

    @property
    def infimal_rank(self) -> int:
        """Definition 2's least r with solutions arbitrarily close to rank r, in closed form.

        With the unobserved entry at (1,1), r the rest of its row, c of its column, and B the remaining block: the least
        rank of a solution is rank [c B] + rank [r; B] - rank B (Woerdeman 1989); and as the entry grows to infinity all
        singular values but the first tend to those of B, so that rank 1 + rank B is approached.
        """
        block = np.delete(np.delete(self.values, self.row, 0), self.col, 1)
        beside, below = np.delete(self.values, self.row, 0), np.delete(self.values, self.col, 1)
        attained = _rank(beside) + _rank(below) - _rank(block)
        return min(attained, 1 + _rank(block))

    def least_norm(self, p: float, tolerance: float = 1e-6) -> Infimum:
        """The infimum over the set of a Schatten-p (quasi-)norm, in an interval that is certain.

        Branch and bound on the line. No solution with an entry beyond the norm found at 0 can be better, since the norm
        is at least the entry. Between two solutions that differ by h, the norm differs by at most h where p >= 1, its
        p-th power by at most h^p where p < 1, and every singular value by at most h (Weyl).

        Args:
            tolerance: of the interval's length, relative to the norm (absolute below 1).

        Raises:
            ValueError: p that is not above 0, or a tolerance that is not.
        """
        check_p(p)
        if not tolerance > 0:
            raise ValueError(f"tolerance: {tolerance} is not allowed; expected a number above 0")
        reach = float(self.schatten_norm(np.zeros(1), p)[0])
        best, where = reach, 0.0
        half = reach / PIECES
        centers = np.linspace(-reach + half, reach - half, PIECES)
        while True:
            values = self.singular_values(centers)
            norms = schatten_norm_from_singular_values(torch.from_numpy(values), p).numpy()
            if len(norms) and norms.min() < best:
                best, where = float(norms.min()), float(centers[norms.argmin()])
            below = lower_bounds(values, norms, half, p)
            slack = tolerance * max(1.0, best)
            open_ = below < best - slack
            if not open_.any() or 2 * open_.sum() > MAX_PIECES:
                lowest = float(below[open_].min()) if open_.any() else best - slack
                return Infimum(max(0.0, min(best, lowest)), best, where)
            half /= 2
            centers = np.concatenate([centers[open_] - half, centers[open_] + half])


def lower_bounds(values: np.ndarray, norms: np.ndarray, half: float, p: float) -> np.ndarray:
    """A lower bound of the norm within `half` of solutions with these singular values and norms."""
    shrunk = torch.from_numpy(np.maximum(values - half, 0.0))
    by_weyl = schatten_norm_from_singular_values(shrunk, p).numpy()
    if p >= 1:
        return np.maximum(by_weyl, norms - half)
    return np.maximum(by_weyl, np.maximum(norms**p - half**p, 0.0) ** (1 / p))


def _rank(matrix: np.ndarray) -> int:
    if not matrix.size:
        return 0
    values = np.linalg.svd(matrix, compute_uv=False)
    return int((values > RANK_RTOL * max(values[0], np.finfo(float).tiny)).sum())
