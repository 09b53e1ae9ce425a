"""Results of very many runs in partitioned tables, one part per ensemble, instead of one folder per run.

runs.parquet/0.parquet       one row per run, as in `runs.parquet` of a sweep of folders; written last
traces.parquet/0.parquet     one row per recorded iteration; the first column is `job`
factors/0.safetensors        arrays [runs, ...] by name, in the order of the part's runs; [1, ...] if equal in all
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rankward.results import contract
from rankward.results.atomic import NoResults, write_atomic_group

if TYPE_CHECKING:
    import numpy as np
    import polars as pl

TRACES, FACTORS = "traces.parquet", "factors"


def is_table(sweep: Path) -> bool:
    """Whether a sweep writes its results to a table."""
    return (sweep / contract.RUNS).is_dir()


def write_part(
    sweep: Path, number: int, *, runs: pl.DataFrame, traces: pl.DataFrame, factors: Mapping[str, np.ndarray]
) -> None:
    """Write the results of an ensemble; its file of runs is written last and marks the part as complete.

    Raises:
        ResultsError: the folder cannot be written, or the disk is full.
    """
    from safetensors.numpy import save_file

    arrays = {name: contract.plain_array(factors[name]) for name in sorted(factors)}
    write_atomic_group(
        {
            sweep / TRACES / f"{number}.parquet": lambda path: contract.write_table(traces, path),
            sweep / FACTORS / f"{number}.safetensors": lambda path: save_file(arrays, path),
            sweep / contract.RUNS / f"{number}.parquet": lambda path: contract.write_table(runs, path),
        }
    )


def parts(sweep: Path) -> list[int]:
    """Numbers of the complete parts."""
    return sorted(int(path.stem) for path in (sweep / contract.RUNS).glob("*.parquet") if path.stem.isdigit())


def digests(sweep: Path, part: int) -> list[tuple[int, str]]:
    """Number and config hash of each run of a part.

    Raises:
        ResultsError: a torn part.
    """
    import polars as pl

    path = sweep / contract.RUNS / f"{part}.parquet"
    with contract.reading(path):
        rows = pl.read_parquet(path, columns=["job", "config_hash"], glob=False)
    return list(zip(rows["job"].to_list(), rows["config_hash"].to_list(), strict=True))


def scan(sweep: Path, name: str) -> pl.LazyFrame:
    """The runs (`runs.parquet`) or traces of all complete parts, lazily; null if a run has no such column.

    Raises:
        ResultsError: no complete part, or a torn one.
    """
    import polars as pl

    found = [sweep / name / f"{number}.parquet" for number in parts(sweep)]
    if not found:
        raise NoResults(f"cannot read {sweep}: it has no complete part")
    scans = []
    for path in found:
        with contract.reading(path):
            scans.append(pl.scan_parquet(path, glob=False))
            scans[-1].collect_schema()
    return pl.concat(scans, how="diagonal_relaxed")


def frames(sweep: Path) -> Iterator[pl.DataFrame]:
    """Iterate over the runs, part by part.

    Raises:
        ResultsError: a torn part.
    """
    import polars as pl

    for number in parts(sweep):
        path = sweep / contract.RUNS / f"{number}.parquet"
        with contract.reading(path):
            frame = pl.read_parquet(path, glob=False)
        yield frame


def runs(sweep: Path) -> pl.DataFrame:
    """One row per run, in the order of the jobs.

    Raises:
        ResultsError: no complete part, or a torn one.
    """
    with contract.reading(sweep / contract.RUNS):
        return scan(sweep, contract.RUNS).sort("job").collect()
