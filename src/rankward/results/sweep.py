"""A sweep's runs as one table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.results import files

if TYPE_CHECKING:
    import polars as pl

LEFT_OUT = ("metrics.", "logger.", "hydra.", "figures")


def gather(sweep: Path) -> pl.DataFrame:
    """One row a run, in job order: overrides, resolved group keys, and the summary (`status` missing where torn).

    Raises:
        ResultsError: no run in the folder.
    """
    import polars as pl

    rows: list[dict[str, Any]] = []
    for folder in files.run_folders(sweep):
        config = files.flat(files.read_config(folder))
        row: dict[str, Any] = {"run": folder.name, "overrides": " ".join(files.read_overrides(folder))}
        row |= {k: v for k, v in config.items() if not k.startswith(LEFT_OUT) and not k.endswith("_target_")}
        try:
            summary = files.read_summary(folder)
        except files.ResultsError:
            summary = {"status": "missing", "metrics": {}}
        row |= files.flat({key: value for key, value in summary.items() if key != "metrics"})
        rows.append(row | summary.get("metrics", {}))
    if not rows:
        raise files.ResultsError(f"cannot read {sweep}: no runs there")
    return pl.DataFrame(rows, infer_schema_length=None, strict=False)


def write_runs(sweep: Path) -> Path:
    """Write `runs.parquet` of a sweep and return its path."""
    path = sweep / files.RUNS
    frame = gather(sweep)
    files.write_whole(path, lambda temporary: frame.write_parquet(temporary))
    return path
