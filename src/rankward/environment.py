"""Environment variables of launchers, schedulers and notebooks, hidden from libraries that would misread them.

Only the standard library is imported.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

# Lightning and torchmetrics read ranks when they are imported, and log nothing in a process whose rank is not 0.
# Lightning's Trainer takes arguments from PL_TRAINER_*. Rankward always trains in one process.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_", "JSM_", "PL_TRAINER_")


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Remove variables from the environment until the block ends, and restore them then.

    Args:
        names: of variables. A name that ends with an underscore is a prefix.

    Example:
        >>> os.environ |= {"SLURM_PROCID": "1", "RANK": "2", "RANKWARD_CACHE": "c"}
        >>> with hidden("RANK", "SLURM_"):
        ...     [name in os.environ for name in ("SLURM_PROCID", "RANK", "RANKWARD_CACHE")]
        [False, False, True]
        >>> os.environ["SLURM_PROCID"], os.environ["RANK"]
        ('1', '2')
        >>> for name in ("SLURM_PROCID", "RANK", "RANKWARD_CACHE"):
        ...     del os.environ[name]
    """
    prefixes = tuple(name for name in names if name.endswith("_"))
    found = [name for name in os.environ if name in names or (prefixes and name.startswith(prefixes))]
    removed = {name: os.environ.pop(name) for name in found}
    try:
        yield
    finally:
        os.environ.update(removed)


def import_matplotlib() -> None:
    """Import matplotlib, even if MPLBACKEND names a backend that is not installed, such as a notebook's.

    A backend that is installed is used as usual.
    """
    if "matplotlib" in sys.modules:
        return
    with hidden("MPLBACKEND"):
        import matplotlib
    if backend := os.environ.get("MPLBACKEND"):
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
