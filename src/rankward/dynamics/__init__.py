"""How an ensemble moves: the reference engine, the compiled one, and those of a GPU; same numbers."""

from __future__ import annotations

from rankward.config import ConfigError
from rankward.dynamics.batched import BatchedEngine
from rankward.dynamics.cuda import CudaEngine
from rankward.dynamics.fused import FusedEngine
from rankward.dynamics.reference import ReferenceEngine
from rankward.dynamics.split import SplitEngine
from rankward.dynamics.state import Adaptive, Flow, Problem, Progress, Rows, Schedule, Status
from rankward.factorizations.base import Chain, Factorization

Engine = ReferenceEngine | FusedEngine | CudaEngine | BatchedEngine | SplitEngine

__all__ = [
    "Adaptive",
    "BatchedEngine",
    "CudaEngine",
    "Engine",
    "Flow",
    "FusedEngine",
    "Problem",
    "Progress",
    "ReferenceEngine",
    "Rows",
    "Schedule",
    "SplitEngine",
    "Status",
    "choose_engine",
]


def choose_engine(
    wanted: str,
    factorization: Factorization,
    schedule: Schedule,
    *,
    mask: bool,
    dynamics: str = "descent",
    accelerator: str = "cpu",
    threads: int | None = None,
) -> Engine:
    """The engine named `wanted`, or for `auto` the fastest that supports the run.

    That is on the processor the compiled one; on a GPU its kernel for small chains, batched products for other known
    structures, and the reference engine for what is left: flow, and factors of unknown structure.

    Raises:
        ConfigError: an engine that cannot do what is wanted.
    """
    structure, on_card = factorization.structure, accelerator == "gpu"
    serving = {
        "cuda": mask and CudaEngine.serves(structure, dynamics),
        "batched": structure is not None and dynamics != "flow",
        "fused": mask and structure is not None and not on_card,
        "reference": True,
    }
    if wanted == "auto":
        order = ("cuda", "batched", "reference") if on_card else ("fused", "reference")
        wanted = next(name for name in order if serving[name])
    if not serving[wanted]:
        others = ", ".join(name for name in ("auto", *serving) if serving.get(name, True))
        what = "sensing matrices" if not mask else "a GPU" if wanted == "fused" and on_card else "this factorization"
        what = "a flow" if dynamics == "flow" and wanted in ("cuda", "batched") else what
        raise ConfigError("engine", wanted, f"one of {others}: that engine does not run {what}")
    if wanted == "reference" or structure is None:
        return ReferenceEngine(factorization, schedule)
    if wanted == "cuda":
        assert isinstance(structure, Chain)
        return CudaEngine(structure, schedule)
    return BatchedEngine(structure, schedule) if wanted == "batched" else FusedEngine(structure, schedule, threads)
