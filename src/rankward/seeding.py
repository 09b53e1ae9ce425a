"""Random generators that depend on a seed and a purpose alone, and never on earlier draws."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, purpose: str) -> np.random.Generator:
    """Independent NumPy generator for a seed and a purpose.

    Example:
        >>> a, b = generator(0, "init"), generator(0, "init")
        >>> float(a.standard_normal()) == float(b.standard_normal())
        True
        >>> float(generator(0, "observations").standard_normal()) == float(generator(0, "init").standard_normal())
        False
    """
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(list(digest))))
