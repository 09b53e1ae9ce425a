"""A sweep's results as polars frames: `rankward.load("multirun_outputs/...")`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.results import files, sweep
from rankward.results import table as in_parts
from rankward.results.curves import by_setting
from rankward.results.whole import ResultsError

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes


class Sweep:
    """What a sweep has left, read when it is asked for.

    Args:
        folder: of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def runs(self) -> pl.DataFrame:
        """One row a run: overrides, group keys, summary. From `runs.parquet`, or gathered where that is not there.

        Raises:
            ResultsError: no runs.
        """
        import polars as pl

        table = self.folder / files.RUNS
        return pl.read_parquet(table, glob=False) if table.is_file() else sweep.gather(self.folder)

    def traces(self) -> pl.LazyFrame:
        """All rows of all runs with a trace, lazily, the run's folder in `run`; null where a run has no such column.

        `sweep.traces().select("run", "loss", "norm/nuclear").collect()` reads those columns alone.

        Raises:
            ResultsError: no complete run.
        """
        import polars as pl

        if in_parts.is_table(self.folder):
            scan = in_parts.scan(self.folder, in_parts.TRACES)
            return scan.select(pl.exclude("job"), run=pl.col("job").cast(pl.String))
        kinds: dict[tuple[str, ...], list[Path]] = {}
        for folder in files.run_folders(self.folder):
            path = folder / files.TRACE
            if path.is_file():
                with path.open("rb") as file:  # a path would be read as a pattern
                    kinds.setdefault(tuple(pl.read_parquet_schema(file)), []).append(path)
        if not kinds:
            raise ResultsError(f"cannot read {self.folder}: no traces there")
        scans = [pl.scan_parquet(paths, glob=False, include_file_paths="run") for paths in kinds.values()]
        name = pl.col("run").str.replace_all("\\\\", "/", literal=True).str.split("/").list.get(-2)
        return pl.concat(scans, how="diagonal").with_columns(run=name)

    def curves(self, column: str, by: Sequence[str] = (), points: int = 100) -> pl.DataFrame:
        """Median and quartiles of a metric against the loss, over the runs (seeds) that agree in the keys `by`.

        Args:
            column: of the traces, as `norm/nuclear`.
            by: columns of `runs`, as `init.name`.
            points: losses at which the runs are compared.

        Returns:
            Columns `by`, `loss`, `median`, `low`, `high`, `runs`.

        Raises:
            ResultsError: a column that no run has.
            ValueError: runs of a setting without losses in common.
        """
        if missing := [key for key in by if key not in self.runs.columns]:
            raise ResultsError(f"{self.folder}: no column {missing[0]!r} in its runs")
        traces = self.traces()
        if column not in traces.collect_schema():
            raise ResultsError(f"{self.folder}: no column {column!r} in its traces")
        rows = traces.select("run", "loss", column).collect()
        return by_setting(rows, self.runs, column, by, points)

    def plot(self, column: str, by: Sequence[str] = (), axis: Axes | None = None) -> Axes:
        """Draw `curves`: a line of medians with a band between quartiles for each group; loss falls to the right."""
        import matplotlib.pyplot as plt

        axis = axis or plt.figure().add_subplot()
        for values, part in self.curves(column, by).group_by(list(by) or ["runs"], maintain_order=True):
            label = ", ".join(f"{key} {value}" for key, value in zip(by, values, strict=False)) or None
            (line,) = axis.plot(part["loss"], part["median"], label=label)
            axis.fill_between(part["loss"], part["low"], part["high"], color=line.get_color(), alpha=0.2, linewidth=0)
        axis.set(xscale="log", xlabel="loss", ylabel=column)
        axis.xaxis.set_inverted(True)
        if by:
            axis.legend()
        return axis


def load(folder: Any) -> Sweep:
    """The results of a sweep, or of a folder of sweeps' runs.

    Raises:
        ResultsError: no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ResultsError(f"cannot read {path}: no such folder")
    return Sweep(path.resolve() if (path / files.TRACE).is_file() else path)  # a run is told by its folder's name
