"""A multiplication table, some of whose entries are observed."""

from __future__ import annotations

import numpy as np

from rankward.config import ConfigError
from rankward.observations.measurement import EntryMask
from rankward.seeding import generator


def multiplication_table(size: int, count: int, seed: int = 0) -> EntryMask:
    """`count` entries of v v^T with v = (0, 1, ..., size - 1) / size, drawn without replacement; rank 1.

    A larger `count` with the same seed sees the same entries and more.

    Raises:
        ConfigError: a size below 2, or a count that is not from 1 to the number of entries.

    Source: Lyu et al., "Dichotomy of Early and Late Phase Implicit Biases Can Provably Induce Grokking" (ICLR 2024),
    where the size is 97.

    Example:
        >>> multiplication_table(3, 9).values.round(2).tolist()
        [[0.0, 0.0, 0.0], [0.0, 0.11, 0.22], [0.0, 0.22, 0.44]]
    """
    if size < 2:
        raise ConfigError("observations.size", size, "an integer of at least 2")
    if not 1 <= count <= size**2:
        raise ConfigError("observations.count", count, f"an integer from 1 to {size**2}, the number of entries")
    factor = np.arange(size) / size
    truth = np.outer(factor, factor)
    mask = np.zeros(truth.size, dtype=bool)
    mask[generator(seed, "observed places").permutation(truth.size)[:count]] = True
    return EntryMask(mask.reshape(truth.shape), truth, truth)
