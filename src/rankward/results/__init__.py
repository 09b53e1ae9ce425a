"""The output contract: written whole, read back, gathered."""

from rankward.results.files import (
    CHECKPOINT,
    FIGURES,
    REFINEMENT,
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
from rankward.results.sweep import gather, write_runs
from rankward.results.whole import ResultsError, failure, write_whole

__all__ = [
    "CHECKPOINT",
    "FIGURES",
    "LOCK",
    "REFINEMENT",
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
    "write_run",
    "write_runs",
    "write_whole",
]
