"""Engines that train an ensemble: the reference engine, the compiled engine, and two for a GPU; same numbers."""

from __future__ import annotations

from rankward.config import ConfigError
from rankward.dynamics.batched import BatchedEngine
from rankward.dynamics.cuda import CudaEngine
from rankward.dynamics.fused import FusedEngine
from rankward.dynamics.indexed import IndexedEngine, entries_at
from rankward.dynamics.layouts import layout_of
from rankward.dynamics.reference import ReferenceEngine
from rankward.dynamics.split import SplitEngine
from rankward.dynamics.state import (
    Adaptive,
    Entries,
    Flow,
    Noise,
    Plateau,
    Problem,
    Progress,
    Rows,
    Rule,
    Schedule,
    Status,
)
from rankward.dynamics.tracing import Untraceable
from rankward.factorizations.base import Factorization, Spectral
from rankward.losses import Loss
from rankward.optimizers import Optimizer

Engine = ReferenceEngine | FusedEngine | IndexedEngine | CudaEngine | BatchedEngine | SplitEngine

__all__ = [
    "Adaptive",
    "BatchedEngine",
    "CudaEngine",
    "Engine",
    "Entries",
    "Flow",
    "FusedEngine",
    "IndexedEngine",
    "Loss",
    "Noise",
    "Optimizer",
    "Plateau",
    "Problem",
    "Progress",
    "ReferenceEngine",
    "Rows",
    "Rule",
    "Schedule",
    "SplitEngine",
    "Status",
    "choose_engine",
    "entries_at",
]


def choose_engine(
    engine: str,
    factorization: Factorization,
    schedule: Schedule,
    *,
    problem: Problem,
    accelerator: str = "cpu",
    threads: int | None = None,
) -> Engine:
    """Choose an engine by name; `auto` is the fastest one that can train the run. Its `note` warns if it is slow.

    Observations by index have a separate engine. For others `auto` is the compiled engine on a processor. On a GPU
    it is the CUDA kernel for small factorizations and batched products for others. The reference engine trains the
    rest: flow on a GPU, and factorizations that cannot be traced.

    Raises:
        ConfigError: the engine cannot train the run.
    """
    if problem.entries is not None:
        return IndexedEngine(factorization, schedule, threads)
    if isinstance(factorization.form, Spectral):
        if accelerator == "gpu":
            raise ConfigError("trainer", accelerator, "cpu: lr.coordinates=singular has no kernel for a GPU")
        return FusedEngine(factorization, schedule, threads)
    on_card, dynamics, flow = accelerator == "gpu", problem.dynamics, problem.flow is not None
    layout, why, subject = None, "", "this factorization"
    try:
        dtype = str(problem.eta.dtype).removeprefix("torch.")
        shapes = problem.operator.shape[1:], problem.values.shape[1:]
        layout = layout_of(factorization, *shapes, dtype, problem.rule, problem.loss)
    except Untraceable as error:
        why, subject = str(error), error.subject
    serving = {
        "cuda": CudaEngine.serves(layout, dynamics),
        "batched": layout is not None and not flow,
        "fused": layout is not None and not on_card,
        "reference": True,
    }
    note = ""
    if engine == "auto":
        order = ("cuda", "batched", "reference") if on_card else ("fused", "reference")
        engine = next(name for name in order if serving[name])
        if why:
            note = f"reference, which is slow: {subject} cannot be compiled ({why})"
    if not serving[engine]:
        others = ", ".join(name for name in ("auto", *serving) if serving.get(name, True))
        what = "a GPU" if engine == "fused" and on_card else f"{subject} ({why or 'it is too large'})"
        noisy = problem.rule is not None and problem.rule.kinds
        what = "steps with a random part" if noisy and engine == "cuda" else what
        what = "a flow" if flow and engine in ("cuda", "batched") else what
        raise ConfigError("engine", engine, f"one of {others}: that engine does not run {what}")
    if engine == "reference":
        return ReferenceEngine(factorization, schedule, note)
    if engine == "fused":
        return FusedEngine(factorization, schedule, threads)
    return (CudaEngine if engine == "cuda" else BatchedEngine)(factorization, schedule)
