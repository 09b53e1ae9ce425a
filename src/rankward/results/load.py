"""A sweep's results as polars frames: `rankward.load("multirun_outputs/...")`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.config import nearest
from rankward.environment import import_matplotlib
from rankward.results import contract
from rankward.results import partitions as in_parts
from rankward.results.atomic import NoResults, ResultsError
from rankward.results.columns import label
from rankward.results.curves import at_losses, by_setting
from rankward.results.runs import MISSING, gather, read_runs

if TYPE_CHECKING:
    import polars as pl
    from matplotlib.axes import Axes


class Sweep:
    """Results of a sweep, read on demand.

    Args:
        folder: of the sweep.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __repr__(self) -> str:
        return f"Sweep({str(self.folder)!r}, {self.runs.height:,} runs)"

    @cached_property
    def runs(self) -> pl.DataFrame:
        """One row per run: overrides, group keys, summary; from `runs.parquet` if that is up to date, else gathered.

        A run whose summary belongs to another config than the one beside it has status `missing`; a line on standard
        error says so.

        Raises:
            ResultsError: no runs, or a torn table.
        """
        runs = None if in_parts.is_table(self.folder) else read_runs(self.folder)
        return gather(self.folder) if runs is None else runs

    def mixed(self) -> list[str]:
        """One sentence for each run whose summary belongs to another config than the one in its folder."""
        import polars as pl

        if in_parts.is_table(self.folder):
            return []
        missing = set(self.runs.filter(pl.col("status") == MISSING)["run"])
        found = []
        for folder in contract.run_folders(self.folder):
            if contract.run_name(self.folder, folder) in missing:
                try:
                    contract.read_config(folder)
                except contract.MixedError as error:
                    found.append(f"{error}: this run is left out.")
                except ResultsError:
                    continue
        return found

    def traces(self) -> pl.LazyFrame:
        """Rows of all runs that are not missing, lazily, with the folder in `run`; null if a run has no such column.

        `sweep.traces().select("run", "loss", "norm/nuclear").collect()` reads only those columns.

        Raises:
            ResultsError: no complete run, or a torn trace.
        """
        import polars as pl

        if in_parts.is_table(self.folder):
            scan = in_parts.scan(self.folder, in_parts.TRACES)
            return scan.select(pl.exclude("job"), run=pl.col("job").cast(pl.String))
        kinds: dict[tuple[str, ...], list[Path]] = {}
        folders = contract.run_folders(self.folder)
        missing = set(self.runs.filter(pl.col("status") == MISSING)["run"]) if folders else set()
        for folder in folders:
            path = folder / contract.TRACE
            if contract.run_name(self.folder, folder) not in missing and path.is_file():
                with contract.reading(path), path.open("rb") as file:  # polars would read a path as a pattern
                    kinds.setdefault(tuple(pl.read_parquet_schema(file)), []).append(path)
        if not kinds:
            raise NoResults(f"cannot read {self.folder}: it has no traces")
        scans = [pl.scan_parquet(paths, glob=False, include_file_paths="run") for paths in kinds.values()]
        start = "" if folders == [self.folder] else f"{self.folder.as_posix()}/"
        name = pl.col("run").str.replace_all("\\\\", "/", literal=True).str.strip_suffix(f"/{contract.TRACE}")
        name = name.str.strip_prefix(start) if start else name.str.split("/").list.get(-1)
        return pl.concat(scans, how="diagonal").with_columns(run=name)

    def at(self, loss: float, *columns: str) -> pl.DataFrame:
        """`runs` with metrics at the point where the loss of each run first falls to `loss`.

        Values are interpolated between rows, linearly in the logarithm of the loss.

        Args:
            loss: positive.
            columns: of the traces, as `rank/effective`; each is added as `rank/effective at 0.001`, entries with their
                signs.

        Returns:
            `runs` and the columns; NaN if a run never reaches the loss or has no such column.

        Raises:
            ResultsError: a column that no run has.
            ValueError: a loss that is not positive.
        """
        import numpy as np
        import polars as pl

        if not loss > 0:
            raise ValueError(f"loss: {loss} is not allowed; expected a positive number")
        rows = self._rows(*columns)
        parts = {str(run): part for (run,), part in rows.partition_by("run", as_dict=True).items()}

        def value(run: str, column: str) -> float:
            if run not in parts:
                return float("nan")
            values = parts[run][column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            return float(at_losses(parts[run]["loss"].to_numpy(), values, np.array([loss]))[0])

        names = self.runs["run"].cast(pl.String).to_list()
        return self.runs.with_columns(
            pl.Series(f"{column} at {loss:g}", [value(run, column) for run in names], pl.Float64) for column in columns
        )

    def _rows(self, *columns: str) -> pl.DataFrame:
        """`run`, `loss` and these columns of all traces."""
        traces = self.traces()
        self._check(columns, traces.collect_schema().names(), "traces")
        with contract.reading(self.folder):
            return traces.select("run", "loss", *columns).collect()

    def _check(self, columns: Sequence[str], known: Sequence[str], where: str) -> None:
        """Raise a ResultsError for the first column that is not known."""
        for column in columns:
            if column not in known:
                raise ResultsError(f"{self.folder}: no column {column!r} in its {where}{nearest(column, known)}")

    def curves(
        self, column: str, by: str | Sequence[str] = (), points: int = 100, absolute: bool | None = None
    ) -> pl.DataFrame:
        """Median and quartiles of a metric against the loss, over the runs (seeds) that agree in the keys `by`.

        Args:
            column: of the traces, as `norm/nuclear`.
            by: columns of `runs`, as `init.name`; one or several.
            points: losses at which the runs are compared.
            absolute: whether absolute values are aggregated; None aggregates absolute values of entries only.

        Returns:
            Columns `by`, `loss`, `median`, `low`, `high`, `runs`.

        Raises:
            ResultsError: a column that no run has.
            ValueError: runs of a setting without losses in common.
        """
        by = [by] if isinstance(by, str) else by
        self._check(by, self.runs.columns, "runs")
        return by_setting(self._rows(column), self.runs, column, by, points, absolute=absolute)

    def plot(
        self,
        column: str,
        by: str | Sequence[str] = (),
        axis: Axes | None = None,
        absolute: bool | None = None,
    ) -> Axes:
        """Draw `curves`: a line of medians with a band between quartiles for each group; loss falls to the right.

        Args:
            column, by, absolute: as of `curves`; the axis is labelled `|entry/0_0|` where absolute values are drawn.
            axis: to draw on; without one a figure is made, with the legend beside the axes.

        Raises:
            ResultsError, ValueError: as `curves`.
        """
        import_matplotlib()
        import matplotlib.pyplot as plt

        by = [by] if isinstance(by, str) else by
        groups = list(self.curves(column, by, absolute=absolute).group_by(list(by) or ["runs"], maintain_order=True))
        new_figure = axis is None
        axis = plt.figure(layout="constrained").add_subplot() if axis is None else axis
        many = plt.get_cmap("viridis")  # the default cycle has only ten colours
        for index, (values, part) in enumerate(groups):
            name = ", ".join(f"{key} {value}" for key, value in zip(by, values, strict=False)) or None
            color = many(index / len(groups)) if len(groups) > 10 else None
            (line,) = axis.plot(part["loss"], part["median"], label=name, color=color)
            axis.fill_between(part["loss"], part["low"], part["high"], color=line.get_color(), alpha=0.2, linewidth=0)
        axis.set(xscale="log", xlabel="loss", ylabel=label(column, absolute))
        axis.xaxis.set_inverted(True)
        if by:
            axis.legend(**({"loc": "upper left", "bbox_to_anchor": (1, 1)} if new_figure else {}))
        return axis


def load(folder: Any) -> Sweep:
    """The results of a sweep, or of a folder of sweeps' runs.

    Raises:
        ResultsError: no such folder.
    """
    path = Path(folder)
    if not path.is_dir():
        raise ResultsError(f"cannot read {path}: no such folder")
    return Sweep(
        path.resolve() if (path / contract.TRACE).is_file() else path
    )  # a run is identified by the name of its folder
