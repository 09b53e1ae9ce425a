"""A sweep's runs as one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.results import files, table
from rankward.results.whole import ResultsError, write_whole

if TYPE_CHECKING:
    import polars as pl

LEFT_OUT = ("metrics.", "logger.", "hydra.", "figures", "results")
PLACES = ("job", "run", "overrides")  # columns that say where a run is, before its settings
MISSING = "missing"  # the status of a run whose three files do not all stand


Known = Mapping[str, tuple[Sequence[str], Mapping[str, Any]]]


def gather(sweep: Path, known: Known | None = None) -> pl.DataFrame:
    """One row a run, in job order: `job`, `run` (the folder), `overrides`, resolved group keys, and the summary.

    Group keys are named as on the command line (`depth.layers`, `lr.eta`, `init.name`, `seed`), metrics as in the
    trace. `job` is null where the folder's name is not a number. `engine` is the one that ran. A run that is torn or
    has not begun has status `missing`, and nulls for what it did not leave.

    Args:
        sweep: its folder.
        known: overrides and resolved config of runs by their folder's name, which then are not read again.

    Raises:
        ResultsError: no run in the folder.
    """
    known = known or {}
    if table.is_table(sweep):
        return table.runs(sweep)
    rows = [_row(folder, known.get(folder.name)) for folder in files.run_folders(sweep)]
    if not rows:
        raise ResultsError(f"cannot read {sweep}: no runs there")
    return frame_of(rows)


def _row(folder: Path, known: tuple[Sequence[str], Mapping[str, Any]] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"job": int(folder.name) if folder.name.isdigit() else None, "run": folder.name}
    try:
        overrides, resolved = known or (files.read_overrides(folder), files.read_config(folder))
        row["overrides"] = " ".join(overrides)
        config = files.flat(resolved)
    except ResultsError:
        config = {}  # torn while Hydra wrote it; the run is missing as well
    summary: dict[str, Any]
    try:
        summary = files.read_summary(folder) if files.is_whole(folder) else {"status": MISSING}
    except ResultsError:
        summary = {"status": MISSING}
    return row | row_of(config, summary)


def row_of(config: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """The columns of a run's flat config, and of its summary."""
    metrics = summary.pop("metrics", {})
    config = {key: value for key, value in config.items() if not key.startswith(LEFT_OUT) and "_target_" not in key}
    config.pop("engine", None)  # as asked for; the summary has the one that ran
    return config | files.flat(summary) | metrics


def varying(runs: pl.DataFrame) -> list[str]:
    """Settings (columns of `runs` before `status`) that differ between runs, one of those that say the same of each.

    Example:
        >>> import polars as pl
        >>> runs = {"job": [0, 1], "run": ["0", "1"], "overrides": ["", ""], "depth.name": ["2", "3"]}
        >>> varying(pl.DataFrame(runs | {"depth.layers": [2, 3], "seed": [0, 0], "status": ["converged"] * 2}))
        ['depth.name']
    """
    names = runs.columns
    settings = [name for name in names[: names.index("status")] if name not in PLACES]
    texts = {name: [str(value) for value in runs[name].to_list()] for name in settings}
    told = [name for name in settings if len(set(texts[name])) > 1]
    return [name for place, name in enumerate(told) if all(texts[name] != texts[other] for other in told[:place])]


def is_seed(key: str) -> bool:
    """Whether runs that differ in this key alone are draws of the same setting.

    Example:
        >>> is_seed("seed"), is_seed("observations.seed"), is_seed("lr.eta")
        (True, True, False)
    """
    return key == "seed" or key.endswith(".seed")


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Columns of one type each: numbers, truth values, or text where runs differ in kind."""
    import polars as pl

    columns: dict[str, pl.Series] = {}
    for name in dict.fromkeys(key for row in rows for key in row):
        values = [row.get(name) for row in rows]
        kinds = {type(value) for value in values if value is not None}
        if kinds == {int, float}:
            values = [None if value is None else float(value) for value in values]
        elif len(kinds) > 1:
            values = [None if value is None else str(value) for value in values]
        columns[name] = pl.Series(name, values)
    return pl.DataFrame(columns)


def write_runs(sweep: Path, known: Known | None = None) -> Path:
    """Write `runs.parquet` of a sweep and return its path; `known` as for `gather`.

    Raises:
        ResultsError: no run in the folder, or a table that cannot be written.
    """
    path = sweep / files.RUNS
    write_frame(path, gather(sweep, known))
    return path


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a table as parquet, whole or not at all; its bytes depend on the table alone.

    Raises:
        ResultsError: it cannot be written.
    """
    write_whole(path, lambda temporary: files.write_table(frame, temporary))
