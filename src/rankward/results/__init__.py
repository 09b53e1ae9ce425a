"""The output contract: written whole, read back, gathered."""

from rankward.results.files import (
    CHECKPOINT,
    ENDED,
    FIGURES,
    REFINEMENT,
    RUNS,
    SUMMARY,
    TASKS,
    WANDB,
    is_complete,
    read_arrays,
    read_config,
    read_factors,
    read_overrides,
    read_summary,
    read_trace,
    run_folders,
    write_run,
)
from rankward.results.lock import LOCK, Busy, claimed
from rankward.results.sweep import gather, write_frame, write_runs
from rankward.results.whole import ResultsError, failure, write_whole

__all__ = [
    "CHECKPOINT",
    "ENDED",
    "FIGURES",
    "LOCK",
    "REFINEMENT",
    "RUNS",
    "SUMMARY",
    "TASKS",
    "WANDB",
    "Busy",
    "ResultsError",
    "claimed",
    "failure",
    "gather",
    "is_complete",
    "read_arrays",
    "read_config",
    "read_factors",
    "read_overrides",
    "read_summary",
    "read_trace",
    "run_folders",
    "write_frame",
    "write_run",
    "write_runs",
    "write_whole",
]
