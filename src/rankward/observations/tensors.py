"""Tensors of experiments, as the package tensorly ships them."""

from __future__ import annotations

import numpy as np

from rankward.config.extras import MissingPackage
from rankward.observations.measurement import EntryMask
from rankward.observations.reading import what_was_read

LOADERS = {"il2": "load_IL2data", "covid19": "load_covid19_serology", "kinetic": "load_kinetic"}  # of tensorly.datasets


def from_tensorly(dataset: str) -> EntryMask:
    """A data set of `tensorly.datasets` in its own units; entries that are NaN are not observed.

    Args:
        dataset: `il2`, the responses of cells to 13 ligands (ligand, time, dose, cell; 13x4x12x8, 192 entries missing);
            `covid19`, antibodies against SARS-CoV-2 (sample, antigen, receptor; 438x6x11); or `kinetic`, fluorescence
            spectra of a reaction (64x12x10x60).

    Raises:
        MissingPackage: tensorly is not installed.
        KeyError: another data set.

    Example:
        >>> seen = from_tensorly("il2")
        >>> seen.dims, seen.count
        ((13, 4, 12, 8), 4800)
    """
    loader = LOADERS[dataset]
    try:
        from tensorly import datasets  # a second of imports
    except ImportError as error:
        raise MissingPackage("observations=tensorly", "tensorly", "data", error) from error
    values = np.asarray(getattr(datasets, loader)().tensor, np.float64)
    mask = ~np.isnan(values)
    note = f"observations.dataset: {dataset!r}: {what_was_read(mask, values, listed=True)}"
    return EntryMask(mask, np.where(mask, values, 0.0), note=note)
