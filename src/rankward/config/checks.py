"""Checks of single values; each raises a ConfigError that names the key."""

from __future__ import annotations

import math

from rankward.config.errors import ConfigError, nearest


def positive(key: str, value: float) -> None:
    """A positive finite number."""
    if not (math.isfinite(value) and value > 0):
        raise ConfigError(key, value, "a positive finite number")


def finite(key: str, value: float) -> None:
    """Neither NaN nor infinity."""
    if not math.isfinite(value):
        raise ConfigError(key, value, "a finite number")


def at_least(key: str, value: int, least: int) -> None:
    """An integer of at least `least`."""
    if value < least:
        raise ConfigError(key, value, f"an integer of at least {least}")


def one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    """One of the allowed names."""
    if value not in allowed:
        raise ConfigError(key, value, "one of " + ", ".join(allowed), nearest(value, allowed))


def matrix_dims(key: str, dims: list[int], least: int = 1) -> None:
    """Two sizes of a matrix."""
    if len(dims) != 2 or min(dims) < least:
        raise ConfigError(key, list(dims), f"two integers of at least {least}")
