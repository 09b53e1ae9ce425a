"""Checks of single values; each raises a ConfigError that names the key."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from rankward.config.errors import ConfigError, nearest

GIB = 2**30
AXES = 25  # of a tensor: each has a letter in an Einstein sum
ENTRY_BYTES = 64  # of an entry of the observed array: truth, draw, noise, values and product, of 8 each, and masks
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
    """Two sizes of a matrix that fits into memory."""
    if len(dims) != 2 or min(dims) < least:
        raise ConfigError(key, list(dims), f"two integers of at least {least}")
    fits_memory(key, list(dims), ENTRY_BYTES * math.prod(dims))


def array_dims(key: str, dims: list[int]) -> None:
    """One or more sizes of an array that fits into memory."""
    if not 1 <= len(dims) <= AXES or min(dims) < 1:
        raise ConfigError(key, list(dims), f"one or more integers of at least 1, {AXES} at most")
    fits_memory(key, list(dims), ENTRY_BYTES * math.prod(dims))


def tensor_dims(key: str, dims: list[int]) -> None:
    """Two or more sizes of an array that fits into memory."""
    if not 2 <= len(dims) <= AXES or min(dims) < 1:
        raise ConfigError(key, list(dims), f"two or more integers of at least 1, {AXES} at most")
    fits_memory(key, list(dims), ENTRY_BYTES * math.prod(dims))


def enough_components(dims: Sequence[int]) -> int:
    """Outer products with which every tensor of these sizes can be made: the product of all but the largest.

    Example:
        >>> enough_components([8, 8, 8]), enough_components([4, 5])
        (64, 4)
    """
    return math.prod(dims) // max(dims)


def machine_memory() -> float:
    """Bytes of memory that this machine, the container, or a limit of the process (`ulimit -v`) allows.

    Infinity where none of them says.

    Example:
        >>> machine_memory() > 0
        True
    """
    physical = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else math.inf
    try:
        limit = float(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no control group of the second version, or "max"
        limit = math.inf
    try:
        from resource import RLIM_INFINITY, RLIMIT_AS, getrlimit

        address = getrlimit(RLIMIT_AS)[0]
        limit = limit if address == RLIM_INFINITY else min(limit, address)
    except ImportError:  # not on Windows
        pass
    return min(physical, limit)


def fits_memory(key: str, value: object, needed: float) -> None:
    """No more bytes than this machine has."""
    if why := too_much(needed):
        raise ConfigError(key, value, f"less: {why}")


def too_much(needed: float) -> str:
    """How many GiB something needs and how many this machine has, where these are fewer; else nothing.

    Example:
        >>> too_much(1), too_much(2**70)[:27]
        ('', 'it needs 1.1e+12 GiB, this ')
    """
    there = machine_memory()
    gib = min(needed, 10**300) / GIB
    shown = f"{gib:,.1f}" if gib < 1e9 else f"{gib:.2g}"
    return f"it needs {shown} GiB, this machine has {there / GIB:.1f} GiB" if needed > there else ""
