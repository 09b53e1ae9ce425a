"""Least-squares lines: one with its standard error, and one through the medians of cells with bootstrap intervals."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

BOOTSTRAP_DRAWS = 2000
KNOWN_SHARE = 0.75  # of a cell's runs must have departed, so that almost every resample has a known median


def fitted_slope(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The slope of the least-squares line and its standard error, from the residuals.

    `scipy.stats.linregress` computes the error from 1 - r^2, which is rounding where the points are nearly on a line.

    Example:
        >>> fitted_slope(np.array([0.0, 1.0, 2.0]), np.array([1.0, 3.0, 5.0]))
        (2.0, 0.0)
    """
    x, y = x - x.mean(), y - y.mean()
    spread = float((x * x).sum())
    slope = float((x * y).sum()) / spread
    residual = y - slope * x
    return slope, float(np.sqrt((residual * residual).sum() / (len(x) - 2) / spread))


@dataclass(frozen=True)
class Law:
    """The line y = intercept + slope x through the medians of cells.

    Args:
        interval: 95 % interval of the slope.
        cells: number of cells that the line goes through.
        ahead: exp of the difference in y between the median of the cell of smallest x and the line through the other
            cells, with its 95 % interval; None with fewer than three cells.
    """

    intercept: float
    slope: float
    interval: tuple[float, float]
    cells: int
    ahead: tuple[float, float, float] | None


def median_law(
    x: Float[np.ndarray, " runs"],
    y: Float[np.ndarray, " runs"],
    hidden: Bool[np.ndarray, " runs"],
    cell: Int[np.ndarray, " runs"],
    cluster: Int[np.ndarray, " runs"],
    seed: int = 0,
) -> Law | None:
    """The least-squares line through each cell's medians of x and y; None with fewer than two cells that are known.

    A run that has not departed is `hidden` (censored): its y is only known to be smaller than that of any other run of
    its cell, which is enough for a median. A cell with less than three quarters of known runs is left out. Intervals
    are percentiles of a bootstrap over clusters (seeds): all runs of a cluster are drawn together, since a start that
    is used at several scales is one draw. Clusters are drawn among those that are in the same cells.

    Example:
        >>> x = np.repeat([-3.0, -2.0, -1.0], 50)
        >>> y = 0.6 * x + np.tile(np.linspace(-1, 1, 50), 3)
        >>> law = median_law(x, y, np.zeros(150, bool), np.repeat([0, 1, 2], 50), np.arange(150))
        >>> round(law.slope, 6), law.interval[0] < 0.6 < law.interval[1], round(law.ahead[0], 6)
        (0.6, True, 1.0)
    """
    y = np.where(hidden, -np.inf, y)
    cells = [c for c in np.unique(cell) if (~hidden[cell == c]).mean() >= KNOWN_SHARE]
    used = np.isin(cell, cells)
    if len(cells) < 2:
        return None
    x, y, cell = x[used], y[used], cell[used]
    _, cluster = np.unique(cluster[used], return_inverse=True)
    counts = _resamples(cell, cluster, np.random.default_rng(seed))[:, cluster]
    medians = np.array([[_medians(v[cell == c], counts[:, cell == c]) for c in cells] for v in (x, y)])
    across, along = medians[:, np.argsort(medians[0, :, 0])]  # [cells, 1 + draws] each, from the least x
    intercept, slope = _line(across, along)
    low, high = np.nanpercentile(slope[1:], (2.5, 97.5))
    ahead = None
    if len(cells) > 2:
        level, tilt = _line(across[1:], along[1:])
        gap = along[0] - level - tilt * across[0]
        ahead = tuple(np.exp([gap[0], *np.nanpercentile(gap[1:], (2.5, 97.5))]).tolist())
    return Law(float(intercept[0]), float(slope[0]), (float(low), float(high)), len(cells), ahead)


def _resamples(cell: np.ndarray, cluster: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """[1 + draws, clusters] how often each cluster is drawn; once each in the first row, which is the sample itself."""
    cells_of: dict[int, set[int]] = defaultdict(set)
    for c, k in zip(cell.tolist(), cluster.tolist(), strict=True):
        cells_of[k].add(c)
    groups: dict[frozenset[int], list[int]] = defaultdict(list)  # clusters in the same cells
    for k, cells in cells_of.items():
        groups[frozenset(cells)].append(k)
    counts = np.ones((1 + BOOTSTRAP_DRAWS, len(cells_of)))
    for members in groups.values():
        n = len(members)
        counts[1:, members] = rng.multinomial(n, np.full(n, 1 / n), size=BOOTSTRAP_DRAWS)
    return counts


def _medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of `values`, each repeated `counts` [resamples, values] times; NaN for none or a hidden one."""
    order = np.argsort(values)
    reached = np.cumsum(counts[:, order], axis=1)
    total = reached[:, -1:]
    low, high = (reached > (total - 1) / 2).argmax(1), (reached > total / 2).argmax(1)
    ordered = values[order]
    middle = (ordered[low] + ordered[high]) / 2
    return np.where((total[:, 0] > 0) & np.isfinite(middle), middle, np.nan)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of least-squares lines, down the first axis."""
    centered = x - x.mean(0)
    slope = (centered * y).sum(0) / (centered * centered).sum(0)
    return y.mean(0) - slope * x.mean(0), slope
