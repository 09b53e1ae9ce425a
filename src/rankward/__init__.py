"""Rankward: implicit regularization in matrix and tensor factorization.

`rankward.run` and `rankward.sweep` train, `rankward.load(folder)` reads a sweep.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rankward.from_python import run, sweep
    from rankward.results.load import Run, Sweep, load

__version__ = "0.1.0"
__all__ = ["Run", "Sweep", "load", "run", "sweep"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is asked for: the command line starts without all of them."""
    if name in ("run", "sweep"):
        from rankward import from_python as module
    elif name in ("Run", "Sweep", "load"):
        from rankward.results import load as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'rankward' has no attribute {name!r}")
    return getattr(module, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
