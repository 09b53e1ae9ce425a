"""The environment that launchers, schedulers and notebooks leave, hidden from libraries that would misread it.

It starts with the standard library alone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

# Lightning and torchmetrics read ranks as they are imported, and log nothing in a process of another rank than 0;
# Lightning's Trainer takes arguments from PL_TRAINER_*. Rankward trains in one process, whatever has started it.
RANKS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "SLURM_", "JSM_", "PL_TRAINER_")


@contextlib.contextmanager
def hidden(*names: str) -> Iterator[None]:
    """Variables of these names are not in the environment until the block ends; then they are as they were.

    Args:
        names: of variables; one that ends with an underscore is a prefix.

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
    taken = {name: os.environ[name] for name in os.environ if name in names or (prefixes and name.startswith(prefixes))}
    for name in taken:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(taken)


def import_matplotlib() -> None:
    """Import matplotlib, which fails by itself where MPLBACKEND names a backend that is not installed, as a notebook's.

    A backend that is installed is used, as without this.
    """
    if "matplotlib" in sys.modules:
        return
    with hidden("MPLBACKEND"):
        import matplotlib
    if backend := os.environ.get("MPLBACKEND"):
        with contextlib.suppress(ValueError):
            matplotlib.rcParams["backend"] = backend
