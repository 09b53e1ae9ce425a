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


def key_words(seed: int, purpose: str) -> tuple[int, int]:
    """Two words of 32 bits for a seed and a purpose: the key of numbers by counter.

    Example:
        >>> [word < 2**32 for word in key_words(0, "noise")], key_words(0, "noise") == key_words(1, "noise")
        ([True, True], False)
    """
    digest = hashlib.sha256(f"{purpose}:{seed}".encode()).digest()
    return int.from_bytes(digest[:4], "big"), int.from_bytes(digest[4:8], "big")
