"""Table of a sweep's runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.results import contract, partitions
from rankward.results.atomic import ResultsError, write_atomic
from rankward.terminal import say

if TYPE_CHECKING:
    import polars as pl

LEFT_OUT = ("metrics.", "logger.", "hydra.", "figures", "results", "max_seconds")
LOCATION_COLUMNS = ("job", "run", "overrides")  # columns that identify a run, before its settings
MISSING = "missing"  # status of a run that lacks one of its files, or whose summary belongs to another config
IDENTITY = ("status", "iterations", "seconds", "config_hash")  # keys that distinguish a summary from another


KnownRuns = Mapping[str, tuple[Sequence[str], Mapping[str, Any]]]


def gather(sweep: Path, known: KnownRuns | None = None) -> pl.DataFrame:
    """One row per run, in job order: `job`, `run` (the folder), `overrides`, resolved group keys, and the summary.

    Group keys are named as on the command line (`depth.layers`, `lr.eta`, `init.name`, `seed`), metrics as in the
    trace. `run` is the folder's path from the sweep's, `job` is null if that is not a number. `engine` is the one that
    ran. A run that is torn or has not begun has status `missing`, and nulls in columns without a value. The same holds
    for a run whose summary belongs to another config than the one beside it. Lines on standard error name such runs,
    and files that cannot be read.

    Args:
        sweep: its folder.
        known: overrides and resolved configs by the name of the run's folder; they are not read again.

    Raises:
        ResultsError: no run in the folder.
    """
    known = known or {}
    if partitions.is_table(sweep):
        return partitions.runs(sweep)
    folders = {contract.run_name(sweep, folder): folder for folder in contract.run_folders(sweep)}
    rows = [_row(name, folder, known.get(name)) for name, folder in folders.items()]
    if not rows:
        raise ResultsError(f"cannot read {sweep}: it has no runs")
    return frame_of(rows)


def _row(name: str, folder: Path, known: tuple[Sequence[str], Mapping[str, Any]] | None) -> dict[str, Any]:
    row: dict[str, Any] = {"job": int(name) if name.isdigit() else None, "run": name}
    if known is not None:
        overrides, resolved = known
        return row | {"overrides": " ".join(overrides)} | row_of(contract.flat(resolved), _summary(folder))
    try:
        row["overrides"] = " ".join(contract.read_overrides(folder))
    except ResultsError as error:  # killed while Hydra wrote it; the run is missing, too
        say(f"rankward: {error}: its overrides are left out", error=True)
    return row | row_of(*_config_and_summary(folder, print_error=True))


def _config_and_summary(folder: Path, print_error: bool = False) -> tuple[dict[str, Any], dict[str, Any]]:
    """A run's flat config, empty if it cannot be read, and its summary; neither if they belong to different runs."""
    try:
        config = contract.flat(contract.read_config(folder))
    except contract.MixedError as error:
        say(f"rankward: {error}: this run is left out", error=True)
        return {}, {"status": MISSING}
    except ResultsError as error:
        if print_error:
            say(f"rankward: {error}: its settings are left out", error=True)
        config = {}
    return config, _summary(folder)


def _summary(folder: Path) -> dict[str, Any]:
    try:
        return contract.read_summary(folder) if contract.has_all_files(folder) else {"status": MISSING}
    except ResultsError:
        return {"status": MISSING}


def read_runs(sweep: Path) -> pl.DataFrame | None:
    """`runs.parquet` of a sweep of folders if it is up to date, else None.

    A run is compared by the status, iterations, seconds and config hash of its summary. Rows of runs whose folders
    do not exist (any more) are kept.

    Raises:
        ResultsError: a torn table.
    """
    import polars as pl

    table = sweep / contract.RUNS
    if not table.is_file():
        return None
    runs = contract.read_frame(table)
    if "run" not in runs.columns:
        return None
    names = runs["run"].cast(pl.String).to_list()
    rows = dict(zip(names, runs.select(key for key in IDENTITY if key in runs.columns).to_dicts(), strict=True))

    def matches(folder: Path, summary: Mapping[str, Any]) -> bool:
        row = rows.get(contract.run_name(sweep, folder))
        return row is not None and all(row.get(key) == summary.get(key) for key in IDENTITY)

    for folder in contract.run_folders(sweep):
        if not matches(folder, _summary(folder)) and not matches(folder, _config_and_summary(folder)[1]):
            return None
    return runs


def row_of(config: dict[str, Any], summary: dict[str, Any]) -> dict[str, Any]:
    """The row of a run, from its flat config and its summary."""
    metrics = summary.pop("metrics", {})
    config = {key: value for key, value in config.items() if not key.startswith(LEFT_OUT) and "_target_" not in key}
    config.pop("engine", None)  # of the config; the summary has the one that ran
    return config | contract.flat(summary) | metrics


def varying(runs: pl.DataFrame) -> list[str]:
    """Settings (columns of `runs` before `status`) that differ between runs; of equal columns, the first.

    Example:
        >>> import polars as pl
        >>> runs = {"job": [0, 1], "run": ["0", "1"], "overrides": ["", ""], "depth.name": ["2", "3"]}
        >>> varying(pl.DataFrame(runs | {"depth.layers": [2, 3], "seed": [0, 0], "status": ["converged"] * 2}))
        ['depth.name']
    """
    names = runs.columns
    settings = [name for name in names[: names.index("status")] if name not in LOCATION_COLUMNS]
    texts = {name: [str(value) for value in runs[name].to_list()] for name in settings}
    differ = [name for name in settings if len(set(texts[name])) > 1]
    return [name for i, name in enumerate(differ) if all(texts[name] != texts[other] for other in differ[:i])]


def is_seed(key: str) -> bool:
    """Whether runs that differ only in this key are draws of the same setting.

    Example:
        >>> is_seed("seed"), is_seed("observations.seed"), is_seed("observations.holdout_seed"), is_seed("lr.eta")
        (True, True, True, False)
    """
    return key == "seed" or key.endswith((".seed", ".holdout_seed"))


def frame_of(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """A table with one type per column: numbers, booleans, or text if the values of runs have different types."""
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


def write_runs(sweep: Path, known: KnownRuns | None = None) -> Path:
    """Write `runs.parquet` of a sweep and return its path; `known` as for `gather`.

    Raises:
        ResultsError: no run in the folder, or a table that cannot be written.
    """
    path = sweep / contract.RUNS
    write_frame(path, gather(sweep, known))
    return path


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a table as Parquet atomically; its bytes depend only on the table.

    Raises:
        ResultsError: it cannot be written.
    """
    write_atomic(path, lambda temporary: contract.write_table(frame, temporary))
