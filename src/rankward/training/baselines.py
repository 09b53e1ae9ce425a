"""Baseline solutions of an ensemble's problems, for the metrics that compare runs with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from rankward.config import DataError
from rankward.linalg import one_thread
from rankward.metrics.baselines import BASELINES
from rankward.metrics.functional import effective_rank, nuclear_norm, reconstruction_error
from rankward.observations import EntryMask, IndexedEntries, Measurement, Sensing, Units
from rankward.observations.arrays import read_npy
from rankward.parallel import cores
from rankward.theory import baselines
from rankward.theory.heldout import baseline_errors

Solution = Mapping[str, Tensor]
Found = TypeVar("Found")


def check(name: str, measurements: Sequence[Measurement]) -> None:
    """Refuse, before training, a baseline solution that does not exist or cannot be read.

    Raises:
        DataError: measurements that no matrix satisfies, or a file that cannot be read or has another shape.
    """
    for measurement in {id(m): m for m in measurements}.values():
        if name in BASELINES and isinstance(measurement, Sensing):
            try:
                baselines.independent(measurement.matrices, measurement.values)
            except ValueError as error:
                raise DataError(f"observations: {error}; there is no solution of least {name} norm") from error
        if name not in BASELINES:
            _read(Path(name), measurement)


def solution(name: str, measurements: Sequence[Measurement]) -> Solution:
    """Baseline solution of each run, [runs, d, d'], with its nuclear norm and effective rank, [runs] each.

    If the ground truths are known, `error` has the reconstruction errors, [runs]. Runs that share observations share
    one solution. Each problem is solved separately, so that its bits do not depend on the other runs.

    Args:
        name: `nuclear` or `frobenius`, the norm that is minimised, or the path of a file with a matrix.
        measurements: observations of each run.

    Raises:
        DataError: as `check`.
    """
    matrix = torch.from_numpy(np.stack(_for_each(lambda m: _solve(name, m), measurements)))
    baseline = {"matrix": matrix, "nuclear_norm": nuclear_norm(matrix), "effective_rank": effective_rank(matrix)}
    truths = [m.ground_truth for m in measurements if m.ground_truth is not None]
    if len(truths) == len(measurements):
        scales = [1.0 if (units := _units(m)) is None else units.scale for m in measurements]
        errors = reconstruction_error(matrix, torch.from_numpy(np.stack(truths)))
        baseline["error"] = errors * torch.tensor(scales, dtype=torch.float64)
    return baseline


def heldout_errors(measurements: Sequence[EntryMask | IndexedEntries]) -> list[tuple[dict[str, float], str]]:
    """`baseline_errors` of the observations of each run, which have held-out entries."""
    return _for_each(lambda m: baseline_errors(m if m.units is None else m.units.own), measurements)


def _for_each(compute: Callable[[Any], Found], measurements: Sequence[Measurement]) -> list[Found]:
    """A result for each run; runs that share observations share one. Each is computed on one thread."""
    distinct = {id(m): m for m in measurements}
    with one_thread(), ThreadPoolExecutor(cores()) as pool:
        found = dict(zip(distinct, pool.map(compute, distinct.values()), strict=True))
    return [found[id(m)] for m in measurements]


def _solve(name: str, measurement: Measurement) -> np.ndarray:
    if name not in BASELINES:
        return _read(Path(name), measurement)
    assert not isinstance(measurement, IndexedEntries)  # such metrics are left out
    if isinstance(measurement, EntryMask):
        if name == "frobenius":
            return measurement.values
        return np.asarray(baselines.nuclear_completion(measurement.mask[None], measurement.values[None]).matrix[0])
    if name == "nuclear":
        return np.asarray(baselines.nuclear_sensing(measurement.matrices, measurement.values).matrix[0])
    rows, values = baselines.independent(measurement.matrices, measurement.values)
    return np.asarray((values @ rows).reshape(measurement.dims))


def _units(measurement: Measurement) -> Units | None:
    return None if isinstance(measurement, Sensing) else measurement.units


def _read(path: Path, measurement: Measurement) -> np.ndarray:
    """A solution that is given in the data's own units, in those of the observations."""
    dims, units = measurement.dims, _units(measurement)
    try:
        matrix = read_npy(path) if path.suffix == ".npy" else np.loadtxt(path, delimiter=",", ndmin=2)
    except (OSError, ValueError, DataError) as error:
        raise DataError(f"metrics: cannot read the solution {path}: {error}") from error
    if matrix.shape != dims or not np.isfinite(matrix).all():
        raise DataError(f"metrics: the solution {path} is {matrix.shape}; expected finite numbers, {dims}")
    matrix = np.asarray(matrix, dtype=np.float64)
    return matrix if units is None else units.applied(matrix)
