"""Where a run leaves the region to which flow from a balanced start is confined, and a law for it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

DRAWS = 2000  # of the bootstrap
KNOWN = 0.75  # share of a cell's runs that must have departed: then hardly a resample's median is unknown


def departure(
    loss: Float[np.ndarray, " rows"], entry: Float[np.ndarray, " rows"], bound: Float[np.ndarray, " rows"]
) -> tuple[float, int]:
    """The loss at which |entry| falls below its bound for good, and the first row that lies below.

    Flow from a balanced start with the forcing sign keeps the determinant's sign, and with it |W_11| above the bound
    (Theorem 2): a run that lies below has left that flow's envelope. The loss is interpolated, linearly on log axes in
    the ratio of entry and bound, between the last row above and the next.

    Args:
        loss, entry, bound: of a run's rows, in order; bound is NaN where it says nothing, which counts as above.

    Returns:
        NaN and -1 for a run that ends above its bound, or has no finite row. A run that is below from its first row on
        departs at that row's loss.

    Example:
        >>> loss = np.array([1.0, 0.01, 0.0001])
        >>> departure(loss, np.array([1.0, 8.0, 8.0]), np.array([np.nan, 4.0, 64.0]))
        (0.003162277660168382, 2)
    """
    finite = np.flatnonzero(np.isfinite(loss) & (loss > 0) & np.isfinite(entry))
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.log(np.abs(entry[finite]) / bound[finite])
    above = ~(ratio < 0)
    if not len(finite) or above[-1]:
        return float("nan"), -1
    if not above.any():
        return float(loss[finite[0]]), int(finite[0])
    last = int(np.flatnonzero(above)[-1])
    first, second = np.log(loss[finite[last : last + 2]])
    high, low = ratio[last : last + 2]
    share = high / (high - low) if np.isfinite(high) else 1.0
    return float(np.exp(first + share * (second - first))), int(finite[last + 1])


def turning(loss: Float[np.ndarray, " rows"], forced: Bool[np.ndarray, " rows"]) -> float:
    """The loss at which the determinant's sign turns for good: the geometric mean of the two rows around it.

    Args:
        loss: of a run's rows, in order, positive.
        forced: whether the determinant has the sign from which the bound follows.

    Returns:
        NaN for a run that ends with that sign; the first row's loss for one that never has it.

    Example:
        >>> turning(np.array([1.0, 0.04, 0.01]), np.array([True, True, False]))
        0.02
    """
    if not len(loss) or forced[-1]:
        return float("nan")
    if not forced.any():
        return float(loss[0])
    last = int(np.flatnonzero(forced)[-1])
    return float(np.sqrt(loss[last] * loss[last + 1]))


@dataclass(frozen=True)
class Law:
    """y = intercept + slope x through the medians of cells.

    Args:
        interval: of the slope, 95 %.
        cells: how many the line goes through.
        ahead: the median of the cell of least x over what the line through the others says there (as exp of the
            difference in y), with its 95 % interval; None with fewer than three cells.
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

    A run that has not departed is `hidden`: its y is known to be smaller than that of any other run of its cell. A
    median does not ask by how much, nor is it moved by a few runs that depart elsewhere. A cell of which less than
    three quarters are known is left out. Intervals are percentiles of a bootstrap that draws clusters (seeds), all runs
    of a cluster together, so that one draw of a start that was used at several scales counts as one. Clusters are drawn
    among those that are in the same cells.

    Example:
        >>> x = np.repeat([-3.0, -2.0, -1.0], 50)
        >>> y = 0.6 * x + np.tile(np.linspace(-1, 1, 50), 3)
        >>> law = median_law(x, y, np.zeros(150, bool), np.repeat([0, 1, 2], 50), np.arange(150))
        >>> round(law.slope, 6), law.interval[0] < 0.6 < law.interval[1], round(law.ahead[0], 6)
        (0.6, True, 1.0)
    """
    y = np.where(hidden, -np.inf, y)
    cells = [c for c in np.unique(cell) if (~hidden[cell == c]).mean() >= KNOWN]
    kept = np.isin(cell, cells)
    if len(cells) < 2:
        return None
    x, y, cell = x[kept], y[kept], cell[kept]
    _, cluster = np.unique(cluster[kept], return_inverse=True)
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
    """[1 + draws, clusters] how often each cluster is drawn; first each once."""
    where: dict[int, set[int]] = defaultdict(set)
    for c, k in zip(cell.tolist(), cluster.tolist(), strict=True):
        where[k].add(c)
    alike: dict[frozenset[int], list[int]] = defaultdict(list)
    for k, of in where.items():
        alike[frozenset(of)].append(k)
    counts = np.ones((1 + DRAWS, len(where)))
    for members in alike.values():
        n = len(members)
        counts[1:, members] = rng.multinomial(n, np.full(n, 1 / n), size=DRAWS)
    return counts


def _medians(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """The median of `values`, each as often as `counts` [resamples, values] says; NaN where it is hidden, or none."""
    order = np.argsort(values)
    reached = np.cumsum(counts[:, order], axis=1)
    total = reached[:, -1:]
    low, high = (reached > (total - 1) / 2).argmax(1), (reached > total / 2).argmax(1)
    ordered = values[order]
    middle = (ordered[low] + ordered[high]) / 2
    return np.where((total[:, 0] > 0) & np.isfinite(middle), middle, np.nan)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intercept and slope of least-squares lines, down the first axis."""
    around = x - x.mean(0)
    slope = (around * y).sum(0) / (around * around).sum(0)
    return y.mean(0) - slope * x.mean(0), slope


def predicted_exponent(depth: int) -> float:
    """The b of departure ~ unbalancedness^b that a scaling argument gives: L (L - 2) / (L + 2).

    On the flow's curve |W_11| = x, W_22 = 1 / x, and the loss is 1 / (2 x^2). There x' = L x^(-1 - 2/L), and a factor's
    small singular value obeys s' = -s^(L - 1) / x, so that for L > 2 it falls like s^-(L - 2) ~ x^(1 + 2/L). Layers
    differ in s^2 by what flow conserves, c: where s^2 has come down to c one of them can turn its sign. That makes
    x ~ c^(-L (L - 2) / (2 (L + 2))). For L = 2 the fall is exponential, s ~ exp(-x^2 / 4), and there is no power.
    It is a limit: of one start made smaller and smaller, whose sign has not turned before it comes to the curve.

    Example:
        >>> [round(predicted_exponent(depth), 3) for depth in (2, 3, 4)]
        [0.0, 0.6, 1.333]
    """
    return depth * (depth - 2) / (depth + 2)
