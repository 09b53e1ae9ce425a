"""The end of runs whose error on held-out entries no longer falls (`stop_heldout`), decided on recorded rows alone."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

FIELDS = ("least", "iteration")  # of the state: a run's least error so far, and the iteration of its row


def start(runs: int) -> dict[str, Tensor]:
    """The state of runs without rows: tensors [runs], which checkpoints keep."""
    least = torch.full((runs,), torch.inf, dtype=torch.float64)
    return {"least": least, "iteration": torch.zeros(runs, dtype=torch.int64)}


def stops(
    run: Int[np.ndarray, " rows"],
    iteration: Int[np.ndarray, " rows"],
    error: Float[np.ndarray, " rows"],
    patience: Int[np.ndarray, " runs"],
    state: Mapping[str, np.ndarray],
) -> tuple[Int[np.ndarray, " ended"], dict[str, np.ndarray]]:
    """The rows at which runs end, at most one a run, and the state after all rows.

    It is the first row that is `patience` or more iterations behind the row with the least error so far, the first of
    equal ones. An error that is not finite is never the least; a run without any finite one counts from iteration 0.

    Args:
        run, iteration: of each row; the rows of a run are in order and beside each other.
        error: on the held-out entries.
        patience: of each run, in iterations; 0 for a run that does not end so.
        state: as `start` makes it, as arrays.

    Example:
        >>> run, iteration = np.zeros(4, np.int64), np.array([0, 50, 100, 150])
        >>> state = {name: value.numpy() for name, value in start(1).items()}
        >>> rows, after = stops(run, iteration, np.array([2.0, 1.0, 1.5, np.nan]), np.array([100]), state)
        >>> rows.tolist(), after["least"].tolist(), after["iteration"].tolist()
        ([3], [1.0], [50])
    """
    first = np.flatnonzero(np.append(True, run[1:] != run[:-1]))
    counts = np.diff(np.append(first, len(run)))
    chosen, row = run[first], np.repeat(np.arange(len(first)), counts)
    place = np.arange(len(run)) - first[row]
    errors = np.full((len(first), counts.max(initial=0) + 1), np.inf)  # a column for the state, then the rows
    iterations = np.full(errors.shape, -1)
    errors[:, 0], iterations[:, 0] = state["least"][chosen], state["iteration"][chosen]
    errors[row, place + 1] = np.where(np.isfinite(error), error, np.inf)
    iterations[row, place + 1] = iteration
    least = np.minimum.accumulate(errors, axis=1)
    improved = np.append(np.ones((len(first), 1), bool), errors[:, 1:] < least[:, :-1], axis=1)
    best = np.maximum.accumulate(np.where(improved, iterations, -1), axis=1)
    limit = patience[chosen][:, None]
    over = (limit > 0) & (iterations - best >= limit)
    after = {name: np.array(value) for name, value in state.items()}
    after["least"][chosen], after["iteration"][chosen] = least[:, -1], best[:, -1]
    ended = over.any(1)
    return first[ended] + over.argmax(1)[ended] - 1, after
