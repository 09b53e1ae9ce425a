"""How an ensemble moves: the reference engine and the compiled one, same numbers."""

from __future__ import annotations

from rankward.config import ConfigError
from rankward.dynamics.fused import FusedEngine
from rankward.dynamics.reference import ReferenceEngine
from rankward.dynamics.state import Adaptive, Flow, Problem, Progress, Rows, Schedule, Status
from rankward.factorizations.base import Factorization

Engine = ReferenceEngine | FusedEngine

__all__ = [
    "Adaptive",
    "Engine",
    "Flow",
    "FusedEngine",
    "Problem",
    "Progress",
    "ReferenceEngine",
    "Rows",
    "Schedule",
    "Status",
    "choose_engine",
]


def choose_engine(
    wanted: str,
    factorization: Factorization,
    schedule: Schedule,
    *,
    mask: bool,
    accelerator: str = "cpu",
    threads: int | None = None,
) -> Engine:
    """The engine named `wanted`, or for `auto` the fastest that supports the run (compiled, unless a GPU is asked for).

    Raises:
        ConfigError: `fused` wanted where it cannot run: sensing matrices, factors of unknown structure, a GPU.
    """
    if wanted == "reference":
        return ReferenceEngine(factorization, schedule)
    structure = factorization.structure
    if structure is None or not mask or accelerator == "gpu":
        if wanted == "auto":
            return ReferenceEngine(factorization, schedule)
        missing = "sensing matrices" if not mask else "a GPU" if accelerator == "gpu" else "this factorization"
        raise ConfigError("engine", wanted, f"auto or reference: the compiled engine does not run {missing}")
    return FusedEngine(structure, schedule, threads)
