"""Rankward: implicit regularization in matrix and tensor factorization. `rankward.load(folder)` reads a sweep."""

from typing import Any

__version__ = "0.1.0"
__all__ = ["load"]


def __getattr__(name: str) -> Any:
    """`load`, imported when it is asked for: the command line starts without it."""
    if name == "load":
        from rankward.results.load import load

        return load
    raise AttributeError(f"module 'rankward' has no attribute {name!r}")
