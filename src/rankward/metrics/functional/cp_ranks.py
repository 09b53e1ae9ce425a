"""The rank of a tensor, between two bounds: the smallest number of outer products whose sum is within a tolerance.

The rank itself is hard to compute in general. Below it stand the ranks of the tensor's matricizations, above it any sum
of outer products that is found to be close enough. Where the two meet, the rank is known exactly.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from threadpoolctl import threadpool_limits
from torch import Tensor
from tqdm import tqdm

from rankward.metrics.functional.matricizations import matricization, matricization_singular_values
from rankward.metrics.functional.norms import ordered_sum
from rankward.metrics.functional.scaling import in_range, times_power_of_two
from rankward.parallel import cores
from rankward.terminal import shows_progress

SWEEPS = 3000
MANY_COMPONENTS = 24  # from here on patience and random starts are expensive, and rarely save a component
PACE = 1e-6, 5e-5  # for few components, for many
ROUNDING = 8 * float(np.finfo(np.float64).eps)


class CPRank(NamedTuple):
    """Bounds on the rank within a tolerance, [runs] float64 each; `exact` is the rank where they meet, else NaN."""

    lower: Float[Tensor, " runs"]
    upper: Float[Tensor, " runs"]
    exact: Float[Tensor, " runs"]


def check_tolerance(tolerance: float) -> None:
    """Refuse, by a ValueError, a tolerance that is not a finite number of at least 0."""
    if not (np.isfinite(tolerance) and tolerance >= 0):
        raise ValueError(f"tolerance: {tolerance} is not allowed; expected a finite number of at least 0")


def allowed_error(
    tensor: Float[Tensor, "runs *dims"], tolerance: float, relative: bool
) -> tuple[Float[Tensor, "runs *dims"], Float[Tensor, " runs"]]:
    """The tensors in range (see `in_range`), and the sum of squared errors that a sum of outer products may have there.

    That is the tolerance, or the rounding of a decomposition where the tolerance is below it: a residual of `ROUNDING`
    times the tensor's norm and the root of its number of entries.
    """
    check_tolerance(tolerance)
    (scaled,), exponent = in_range([tensor])
    flat = scaled.flatten(1)
    squares = ordered_sum(flat * flat)
    if relative:
        target = tolerance * squares
    else:
        target = times_power_of_two(torch.full_like(squares, tolerance * flat.shape[1]), -2 * exponent)
    return scaled, torch.maximum(target, ROUNDING**2 * flat.shape[1] * squares)


def cp_lower(
    tensor: Float[Tensor, "runs *dims"], tolerance: float = 1e-6, relative: bool = False
) -> Float[Tensor, " runs"]:
    """The largest, over all matricizations, of the smallest rank whose truncation is within the tolerance.

    A sum of r outer products has matricizations of rank r at most, single modes and groups of modes alike, and none is
    closer to the tensor's than the truncated singular value decomposition: so no smaller r is within the tolerance.

    Args:
        tensor: [runs, *dims], order at least 2.
        tolerance: a mean squared error over all entries; absolute as in the paper, or with `relative` times the
            tensor's mean square. A tensor within the tolerance of zero has rank 0: near zero that says nothing of its
            form, unless the tolerance is relative. A decomposition in float64 resolves a mean squared error of 3.2e-30
            (64 times the squared machine epsilon) times the tensor's squared norm: a smaller tolerance, 0 too, is
            raised to that.
        relative: see `tolerance`.

    Returns:
        [runs]; NaN for a tensor with NaN or infinity.

    Raises:
        ValueError: a tolerance that is negative or not finite, or an order below 2.

    Example:
        >>> cp_lower(torch.eye(3, dtype=torch.float64)[None], tolerance=1e-12).item()
        3.0
    """
    return _lower(*allowed_error(tensor, tolerance, relative))


def _lower(tensor: Tensor, target: Tensor) -> Tensor:
    bounds = []
    for each in matricization_singular_values(tensor).values():
        # The squares beyond the first r, summed from the smallest up.
        tails = (each * each).flip(-1).cumsum(-1).flip(-1)
        bounds.append((tails > target[:, None]).sum(-1).double())
    lower = torch.stack(bounds).amax(0)
    finite = torch.isfinite(tensor).flatten(1).all(1)
    return torch.where(finite, lower, torch.nan)


def cp_rank(
    tensor: Float[Tensor, "runs *dims"],
    tolerance: float = 1e-6,
    relative: bool = False,
    starts: int = 3,
    seed: int = 0,
    threads: int | None = None,
) -> CPRank:
    """Bounds on the smallest number of outer products whose sum is within the tolerance of each tensor.

    The lower one is `cp_lower`. The upper one is the smallest r found whose fit by alternating least squares is within
    the tolerance, from the matricizations' singular vectors, from the best fit of fewer components, and from random
    starts; r grows from the lower bound in steps that double, and is then bisected. A better fit may exist: the bound
    holds all the same, since the sum that was found is one.

    Args:
        tensor, tolerance, relative: as for `cp_lower`.
        starts: random starts for every r that is tried.
        seed: of the random starts; each tensor's are its own, so its bounds do not depend on what is beside it.
        threads: tensors worked on at once; None for one a core.

    Raises:
        ValueError: as `cp_lower`.

    Example:
        >>> ones = torch.ones(1, 2, 2, 2, dtype=torch.float64)
        >>> [bound.item() for bound in cp_rank(ones)]
        [1.0, 1.0, 1.0]
    """
    scaled, target = allowed_error(tensor, tolerance, relative)
    lower = _lower(scaled, target)
    upper = _upper(scaled, target, lower, starts, seed, threads)
    return CPRank(lower, upper, torch.where(lower == upper, upper, torch.nan))


def _upper(tensor: Tensor, target: Tensor, lower: Tensor, starts: int, seed: int, threads: int | None = None) -> Tensor:
    """The upper bounds, [runs]: each tensor's own search, as many at once as there are threads; equal ones share it."""
    arrays, targets = tensor.detach().cpu().numpy(), target.tolist()
    asked = [(array.tobytes(), target) for array, target in zip(arrays, targets, strict=True)]
    first = {key: run for run, key in reversed(list(enumerate(asked)))}  # trials of the linear baseline are all alike

    def search(run: int) -> float:
        least = lower[run].item()
        return (
            least if not least > 0 else float(RankSearch(arrays[run], targets[run], starts, seed).smallest(int(least)))
        )

    # BLAS on one thread each: its bits depend on how many share a product.
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads or cores()) as pool:
        found = pool.map(search, first.values())
        shown = tqdm(found, "ranks", len(first), unit="tensor", leave=False, disable=not shows_progress())
        ranks = dict(zip(first, shown, strict=True))
        return torch.tensor([ranks[key] for key in asked], dtype=torch.float64)


class RankSearch:
    """The smallest number of components with which one tensor could be fit."""

    def __init__(self, tensor: np.ndarray, target: float, starts: int, seed: int) -> None:
        self.dims = np.array(tensor.shape)
        self.target, self.starts, self.seed = target, starts, seed
        batch = torch.from_numpy(tensor)[None]
        rows = [matricization(batch, (mode,))[0].numpy() for mode in range(tensor.ndim)]
        self.tensor = np.ascontiguousarray(tensor).reshape(-1)
        self.vectors = [np.linalg.svd(row, full_matrices=True)[0] for row in rows]
        self.scale = np.linalg.norm(tensor) ** (1 / tensor.ndim)
        self.best: dict[int, np.ndarray] = {}  # the closest factors of every r that was tried

    def smallest(self, least: int) -> int:
        """Steps that double until a fit is found, then bisection between the last failure and the success."""
        most = int(self.dims.prod() // self.dims.max())  # every tensor is a sum of so many outer products
        failed, r, step = least - 1, least, 1
        while r < most and not self._fits(r):
            failed, r, step = r, r + step, 2 * step
        found = min(r, most)
        while found - failed > 1:
            middle = (found + failed) // 2
            if self._fits(middle):
                found = middle
            else:
                failed = middle
        return found

    def _fits(self, components: int) -> bool:
        from rankward.metrics.functional._als import fit

        lowest = np.inf
        for factors in self._starts(components):
            error = fit(self.tensor, self.dims, factors, self.target, SWEEPS, PACE[components >= MANY_COMPONENTS])
            if error < lowest:
                lowest, self.best[components] = error, factors
            if error <= self.target:
                return True
        return False

    def _starts(self, components: int):  # type: ignore[no-untyped-def]
        random = np.random.default_rng([self.seed, components])
        drawn = self.scale * random.standard_normal((int(self.dims.sum()), components))
        yield self._leading(drawn.copy())
        fewer = max((r for r in self.best if r < components), default=0)
        if fewer:
            more = 0.1 * drawn
            more[:, :fewer] = self.best[fewer]
            yield more
        yield drawn
        for _ in range(1, min(self.starts, 2) if components >= MANY_COMPONENTS else self.starts):
            yield self.scale * random.standard_normal(drawn.shape)

    def _leading(self, factors: np.ndarray) -> np.ndarray:
        """The matricizations' leading singular vectors, as many as there are."""
        at = 0
        for dim, vectors in zip(self.dims, self.vectors, strict=True):
            count = min(factors.shape[1], dim)
            factors[at : at + dim, :count] = self.scale * vectors[:, :count]
            at += dim
        return factors
