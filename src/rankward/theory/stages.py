"""Stages of a run: the iterations at which components rise, and plateaus of its error."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

SHARE = 0.1  # of the largest norm: a component that never exceeds it does not count
HALF = 0.5  # of a component's maximum: it rises at the first row that reaches it
FLAT, LONG = 1.05, 1.1  # a plateau: the error stays within FLAT while the iteration grows by LONG
FAMILIES = ("cp_weight/", "local_component/", "singular_value/")  # beginnings of norms' names, the first found
ERRORS = ("error/reconstruction_relative", "error/reconstruction", "loss")


@dataclass(frozen=True)
class Stages:
    """Components that rise in a run, and plateaus of its error.

    Args:
        rises: the iteration at which each component rises, in order of the norms.
        plateaus: first and last iteration of each, in order.
        maybe_more: whether even the smallest recorded norm counts, so that more may have risen than are recorded.
    """

    rises: tuple[int, ...]
    plateaus: tuple[tuple[int, int], ...]
    maybe_more: bool

    def summary(self) -> dict[str, Any]:
        """The part of a run's summary."""
        return {
            "rises": list(self.rises),
            "plateaus": [list(each) for each in self.plateaus],
            "maybe_more": self.maybe_more,
        }


def stages(
    iteration: Int[np.ndarray, " rows"],
    norms: Float[np.ndarray, "components rows"],
    error: Float[np.ndarray, " rows"],
) -> Stages:
    """Find the stages of a run.

    The r-th component is the r-th largest norm of each row. It counts if it ever exceeds 10 % of the largest norm of
    any row, and it rises at the first row in which it has half of its maximum, unless that is the first row of all:
    it then starts large.

    A flat part is a longest run of rows in which the largest error is at most 1.05 times the smallest, and in which the
    iteration grows by a factor of at least 1.1 (from iteration 0: any number of iterations). They are looked for from
    the first row on, each from the last row of the one before. Those that share a row are one plateau: in it the error
    changes by at most 5 % over a factor of 1.1. Rows that are not finite are left out.

    Args:
        norms: of the largest components, descending in each row.
        error: not negative.

    Example:
        >>> norms = np.array([[1.0, 8.0, 8.0, 8.0], [0.1, 0.1, 0.1, 2.0]])
        >>> found = stages(np.array([0, 100, 200, 300]), norms, np.array([9.0, 2.0, 2.0, 1.0]))
        >>> found.rises, found.plateaus, found.maybe_more
        ((100, 300), ((100, 200),), True)
    """
    finite = np.isfinite(norms).all(0)
    rises, counts = [], np.zeros(1, dtype=bool)
    if finite.any():
        known, at = norms[:, finite], iteration[finite]
        highest = known.max(1)
        counts = highest > SHARE * highest.max()
        rows = (known >= HALF * highest[:, None]).argmax(1)
        rises = at[rows[counts & (rows > 0)]].tolist()
    shown = np.isfinite(error)
    return Stages(tuple(rises), _plateaus(iteration[shown], error[shown]), bool(counts[-1]))


def _plateaus(iteration: np.ndarray, error: np.ndarray) -> tuple[tuple[int, int], ...]:
    at, values = iteration.tolist(), error.tolist()
    found: list[tuple[int, int]] = []
    most, least = _Extreme(values, 1), _Extreme(values, -1)
    start = end = 0  # rows from `start` to before `end` are flat
    while start < len(values):
        while end < len(values) and most.with_row(end, start) <= FLAT * least.with_row(end, start):
            most.add(end)
            least.add(end)
            end += 1
        long = end - start > 1 and at[end - 1] >= LONG * at[start]
        if long and found and found[-1][1] == at[start]:
            found[-1] = found[-1][0], at[end - 1]
        elif long:
            found.append((at[start], at[end - 1]))
        start = end - 1 if long else start + 1
        end = max(start, end)
    return tuple(found)


class _Extreme:
    """The largest (`sign` 1) or smallest value of a window of rows that moves on."""

    def __init__(self, values: list[float], sign: int) -> None:
        self.values, self.sign = values, sign
        self.rows: deque[int] = deque()  # whose values descend (ascend)

    def add(self, row: int) -> None:
        while self.rows and self.sign * self.values[self.rows[-1]] <= self.sign * self.values[row]:
            self.rows.pop()
        self.rows.append(row)

    def with_row(self, row: int, start: int) -> float:
        """The extreme of the rows from `start` on, and of one more."""
        while self.rows and self.rows[0] < start:
            self.rows.popleft()
        own = self.values[row]
        return self.sign * max(self.sign * own, self.sign * self.values[self.rows[0]]) if self.rows else own


@dataclass(frozen=True)
class Staged:
    """The stages of a run, and the columns of its trace from which they follow.

    Args:
        norms: names of the columns of norms, the largest norm first.
        error: name of the column of the error.
    """

    norms: tuple[str, ...]
    error: str
    stages: Stages


def stages_of(trace: Mapping[str, np.ndarray]) -> Staged | None:
    """The stages of a run from its trace; None without norms of components, or without rows.

    The norms are those of `cp_weight/…`, or else `local_component/<node>/…`, or else `singular_value/…`: of the nodes
    of a tree, those of the one with the most rises, and of equal ones of the last in the trace, the nearest to the
    root. The error is the relative reconstruction error, or else the absolute one, or else the loss.

    Example:
        >>> rows = {"iteration": np.arange(2), "loss": np.ones(2), "singular_value/0": np.array([0.1, 1.0])}
        >>> found = stages_of(rows)
        >>> found.norms, found.error, found.stages.rises
        (('singular_value/0',), 'loss', (1,))
    """
    if not len(trace.get("iteration", ())):
        return None
    error = next(name for name in ERRORS if name in trace)
    found: list[Staged] = []
    for columns in _families(trace):
        norms = np.stack([np.asarray(trace[name], dtype=np.float64) for name in columns])
        of_node = stages(np.asarray(trace["iteration"]), norms, np.asarray(trace[error], dtype=np.float64))
        found.append(Staged(tuple(columns), error, of_node))
    return max(reversed(found), key=lambda each: len(each.stages.rises), default=None)


def _families(trace: Mapping[str, np.ndarray]) -> list[list[str]]:
    """Columns of the norms of a run's components, a list for each node of a tree."""
    for start in FAMILIES:
        named: dict[str, list[str]] = {}
        for name in trace:
            if name.startswith(start):
                named.setdefault(name.rpartition("/")[0], []).append(name)
        if named:
            return [sorted(names, key=lambda name: int(name.rpartition("/")[2])) for names in named.values()]
    return []
