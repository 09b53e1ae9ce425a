"""Errors of simple predictions of held-out entries, with which the errors of runs are compared."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Bool, Float

from rankward.metrics.functional.norms import root_of_squares
from rankward.observations import EntryMask, IndexedEntries
from rankward.theory.baselines import nuclear_completion

LARGEST = 10_000  # entries of a matrix whose completion of least nuclear norm is computed: 100 x 100
AXES = 25  # of a tensor whose means along each axis are computed
GAP = 1e-5  # relative duality gap of that completion
MAX_ITERATIONS = 2_000  # of its solver, which take a few seconds at most


def baseline_errors(measurement: EntryMask | IndexedEntries) -> tuple[dict[str, float], str]:
    """Root-mean-square errors on the held-out entries, by prediction, and why one of them is NaN, or an empty text.

    They are computed once for each object, float64, in the units of the data:

    - `zero`: every entry is 0;
    - `mean`: every entry is the mean of the observed ones;
    - `row_means`, `column_means` of a matrix, `axis_<n>_means` of a tensor: an entry is the mean of the observed
      entries with the same index of that axis, and the mean of all where there are none;
    - `least_nuclear`: the completion of a matrix with minimum nuclear norm (Conjecture 1), of all observed entries. NaN
      for more than `LARGEST` entries, for entries by index, and where the solver has not reached the gap `GAP` in
      `MAX_ITERATIONS`.

    Raises:
        ValueError: observations without held-out entries.

    Example:
        >>> heldout = EntryMask(np.array([[True, False], [False, False]]), np.array([[4.0, 0.0], [0.0, 0.0]]))
        >>> seen = EntryMask(~heldout.mask, np.array([[0.0, 1.0], [2.0, 3.0]]), heldout=heldout)
        >>> {name: round(error, 3) for name, error in baseline_errors(seen)[0].items()}
        {'zero': 4.0, 'mean': 2.0, 'row_means': 3.0, 'column_means': 2.0, 'least_nuclear': 3.333}
    """
    if measurement not in _computed:
        _computed[measurement] = _errors(measurement)
    return _computed[measurement]


_computed: WeakKeyDictionary[EntryMask | IndexedEntries, tuple[dict[str, float], str]] = WeakKeyDictionary()


def _errors(measurement: EntryMask | IndexedEntries) -> tuple[dict[str, float], str]:
    if isinstance(measurement, IndexedEntries):
        return _errors_of_list(measurement)
    heldout = measurement.heldout
    if heldout is None:
        raise ValueError("these observations have no held-out entries")
    places, axes = heldout.mask.nonzero(), len(measurement.dims)
    # The errors scale with the values. A power of two, which is exact, brings the largest below 1: no sum overflows.
    exponent = int(np.frexp(max(np.abs(measurement.values).max(), np.abs(heldout.values).max()))[1])
    values, targets = np.ldexp(measurement.values, -exponent), np.ldexp(heldout.values[places], -exponent)
    mean = float(values[measurement.mask].mean())
    predictions = {"zero": np.zeros_like(targets), "mean": np.full_like(targets, mean)}
    for axis in range(axes if axes > 1 else 0):
        name = ("row_means", "column_means")[axis] if axes == 2 else f"axis_{axis}_means"
        predictions[name] = _means(measurement.mask, values, axis, mean)[places[axis]]
    note = ""
    if axes == 2:
        completion, note = _least_nuclear(measurement.mask, values)
        predictions["least_nuclear"] = completion[places]
    differences = torch.from_numpy(np.stack([prediction - targets for prediction in predictions.values()]))
    errors = np.ldexp(root_of_squares(differences).numpy() / math.sqrt(len(targets)), exponent)
    return dict(zip(predictions, errors.tolist(), strict=True)), note


def _errors_of_list(measurement: IndexedEntries) -> tuple[dict[str, float], str]:
    heldout, order = measurement.heldout, measurement.order
    if heldout is None:
        raise ValueError("these observations have no held-out entries")
    exponent = int(np.frexp(max(np.abs(measurement.values).max(), np.abs(heldout.values).max()))[1])
    values, targets = np.ldexp(measurement.values, -exponent), np.ldexp(heldout.values, -exponent)
    mean = float(values.mean())
    predictions = {"zero": np.zeros_like(targets), "mean": np.full_like(targets, mean)}
    for axis in range(order if order <= AXES else 0):
        name = ("row_means", "column_means")[axis] if order == 2 else f"axis_{axis}_means"
        own, size = measurement.index[:, axis], measurement.dims[axis]
        counts, sums = np.bincount(own, minlength=size), np.bincount(own, weights=values, minlength=size)
        predictions[name] = np.where(counts > 0, sums / np.maximum(counts, 1), mean)[heldout.index[:, axis]]
    differences = torch.from_numpy(np.stack([prediction - targets for prediction in predictions.values()]))
    errors = np.ldexp(root_of_squares(differences).numpy() / math.sqrt(len(targets)), exponent)
    found = dict(zip(predictions, errors.tolist(), strict=True))
    if order != 2:
        return found, ""
    why = f"NaN: computed for at most {LARGEST:,} entries, these are {measurement.size:,}"
    return found | {"least_nuclear": math.nan}, why


def _means(
    mask: Bool[np.ndarray, "*dims"], values: Float[np.ndarray, "*dims"], axis: int, otherwise: float
) -> Float[np.ndarray, " size"]:
    """Means of the observed entries by their index of an axis."""
    others = tuple(other for other in range(mask.ndim) if other != axis)
    counts = mask.sum(others)
    sums = values.sum(others)  # values are zero where nothing is observed
    return np.where(counts > 0, sums / np.maximum(counts, 1), otherwise)


def _least_nuclear(
    mask: Bool[np.ndarray, "rows cols"], values: Float[np.ndarray, "rows cols"]
) -> tuple[Float[np.ndarray, "rows cols"], str]:
    """The completion and an empty text, or NaN and the reason."""
    unknown = np.full(mask.shape, np.nan)
    if mask.size > LARGEST:
        return unknown, f"NaN: computed for at most {LARGEST:,} entries, these are {mask.size:,}"
    found = nuclear_completion(mask[None], values[None], tolerance=GAP, max_iterations=MAX_ITERATIONS)
    if not found.gap[0] <= GAP:
        return unknown, f"NaN: the relative duality gap stayed at {found.gap[0]:.3g}"
    return found.matrix[0], ""
