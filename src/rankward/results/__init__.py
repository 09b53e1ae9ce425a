"""The output contract: written whole, read back, gathered."""

from rankward.results.files import (
    CHECKPOINT,
    ENDED,
    FAILURE,
    FIGURES,
    REFINEMENT,
    RUNS,
    SUMMARY,
    TASKS,
    WANDB,
    complete_summary,
    flat,
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
from rankward.results.jobs import jobs_without, note_jobs, noted_keys, varying_keys
from rankward.results.lock import LOCK, Busy, claimed
from rankward.results.sweep import PLACES, Known, frame_of, gather, is_seed, row_of, varying, write_frame, write_runs
from rankward.results.table import digests as table_digests
from rankward.results.table import frames as table_frames
from rankward.results.table import is_table, write_part
from rankward.results.table import parts as table_parts
from rankward.results.table import scan as table_scan
from rankward.results.whole import ResultsError, failure, write_whole

__all__ = [
    "CHECKPOINT",
    "ENDED",
    "FAILURE",
    "FIGURES",
    "LOCK",
    "PLACES",
    "REFINEMENT",
    "RUNS",
    "SUMMARY",
    "TASKS",
    "WANDB",
    "Busy",
    "Known",
    "ResultsError",
    "claimed",
    "complete_summary",
    "failure",
    "flat",
    "frame_of",
    "gather",
    "is_complete",
    "is_seed",
    "is_table",
    "jobs_without",
    "note_jobs",
    "noted_keys",
    "read_arrays",
    "read_config",
    "read_factors",
    "read_overrides",
    "read_summary",
    "read_trace",
    "row_of",
    "run_folders",
    "table_digests",
    "table_frames",
    "table_parts",
    "table_scan",
    "varying",
    "varying_keys",
    "write_frame",
    "write_part",
    "write_run",
    "write_runs",
    "write_whole",
]
