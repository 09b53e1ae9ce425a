"""Checks of single values; each raises a ConfigError that names the key."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from rankward.config.errors import ConfigError, nearest

GIB = 2**30
LARGEST = 2**63  # no integer of 64 bits is as large


def positive(key: str, value: float) -> None:
    """A positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(key, value, "a positive finite number")


def finite(key: str, value: float) -> None:
    """Neither NaN nor infinity."""
    if not math.isfinite(value):
        raise ConfigError(key, value, "a finite number")


def at_least(key: str, value: int, least: int) -> None:
    """An integer of at least `least` that 64 bits hold."""
    if value < least:
        raise ConfigError(key, value, f"an integer of at least {least}")
    if value >= LARGEST:
        raise ConfigError(key, value, "an integer below 2^63")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """One of the allowed names."""
    if value not in allowed:
        raise ConfigError(key, value, "one of " + ", ".join(allowed), nearest(value, allowed))


def matrix_dims(key: str, dims: list[int], least: int = 1) -> None:
    """Two sizes of a matrix."""
    if len(dims) != 2 or min(dims) < least:
        raise ConfigError(key, list(dims), f"two integers of at least {least}")


def tensor_dims(key: str, dims: list[int]) -> None:
    """Two or more sizes."""
    if len(dims) < 2 or min(dims) < 1:
        raise ConfigError(key, list(dims), "two or more integers of at least 1")


def enough_components(dims: Sequence[int]) -> int:
    """Outer products with which every tensor of these sizes can be made: the product of all but the largest.

    Example:
        >>> enough_components([8, 8, 8]), enough_components([4, 5])
        (64, 4)
    """
    return math.prod(dims) // max(dims)


def machine_memory() -> float:
    """Bytes of memory that this machine has; infinity where it does not tell.

    Example:
        >>> machine_memory() > 0
        True
    """
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf


def fits_memory(key: str, value: object, needed: float) -> None:
    """No more bytes than this machine has."""
    there = machine_memory()
    if needed > there:
        raise ConfigError(
            key,
            value,
            f"less than the {needed / GIB:,.1f} GiB it needs: this machine has {there / GIB:.1f} GiB",
        )
