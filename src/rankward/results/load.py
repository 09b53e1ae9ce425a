"""Results of a run or a sweep as polars frames and NumPy arrays: `rankward.load("multirun_outputs/...")`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rankward.config import nearest
from rankward.config.extras import require
from rankward.results import contract, plots
from rankward.results import partitions as in_parts
from rankward.results.atomic import NoResults, ResultsError
from rankward.results.columns import label
from rankward.results.curves import against, along, at_losses, by_setting, medians
from rankward.results.runs import MISSING, gather, read_runs

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import polars as pl
    from matplotlib.axes import Axes


class Run:
    """Results of one run, read on demand. Arrays have no runs axis.

    Args:
        folder: of the run.

    Raises:
        ResultsError: no such folder; from every attribute, if its file is missing or torn.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> folder = Path(tempfile.mkdtemp())
        >>> rows = {"iteration": np.array([0, 50]), "loss": np.array([1.0, 1e-5])}
        >>> ended = {"status": "converged", "iterations": 50, "metrics": {"loss": 1e-5}}
        >>> contract.write_run(folder, trace=rows, factors={"product": np.eye(2)}, summary=ended)
        >>> run = Run(folder)
        >>> run.summary["status"], run.trace["loss"].to_list(), run.product.shape
        ('converged', [1.0, 1e-05], (2, 2))
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = _existing(folder).absolute()

    def __repr__(self) -> str:
        try:
            summary = self.summary
        except ResultsError:
            return f"Run({str(self.folder)!r}, without a summary)"
        loss = summary["metrics"].get("loss", float("nan"))
        return f"Run({str(self.folder)!r}, {summary['status']} at iteration {summary['iterations']:,}, loss {loss:.3g})"

    @cached_property
    def summary(self) -> dict[str, Any]:
        """The contents of `summary.json`, with `status`, `iterations` and the last values of all `metrics`."""
        return contract.read_summary(self.folder)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The run's config as plain values."""
        return contract.read_config(self.folder)

    @cached_property
    def trace(self) -> pl.DataFrame:
        """A frame with a row per recorded iteration, and columns `iteration`, `loss` and one per metric."""
        return contract.read_trace(self.folder)

    @cached_property
    def factors(self) -> dict[str, np.ndarray]:
        """All arrays of `factors.safetensors` by name, as `initial.0`, `final.0`, `product` and `observations.mask`."""
        return contract.read_arrays(self.folder)

    @property
    def product(self) -> np.ndarray:
        """The product of the final factors, [*dims]."""
        return self.factors["product"]

    @cached_property
    def products(self) -> np.ndarray:
        """The product at each row of `trace`, [rows, *dims]; of a diverged run the last one may be infinite or NaN.

        Raises:
            ResultsError: the run was made without `record.product=true`.
        """
        if not (self.folder / contract.TRAJECTORY).is_file():
            why = "the run was made without record.product=true"
            raise ResultsError(f"{self.folder}: no {contract.TRAJECTORY}: {why}")
        return contract.read_arrays(self.folder, contract.TRAJECTORY)["product"]

    def to_pandas(self) -> pd.DataFrame:
        """`trace` as a frame of pandas.

        Raises:
            MissingPackage: pandas or pyarrow is not installed; `pip install 'rankward[pandas]'`.
        """
        require("pandas", "Run.to_pandas()")
        return self.trace.to_pandas()

    def plot(
        self,
        y: str | Sequence[str] = "loss",
        x: str = "iteration",
        absolute: bool = False,
        axis: Axes | None = None,
    ) -> Axes:
        """Draw columns of the trace, a line each.

        Args:
            y: one column or several, as `norm/nuclear`.
            x: the column on the horizontal axis: `iteration`, `time` of a flow, `loss` (which falls to the right), or
                any other.
            absolute: whether absolute values are drawn; the label is then `|entry/0_0|`.
            axis: to draw on; without one a figure is made.

        Raises:
            ResultsError: a column that the trace lacks.
        """
        names = [y] if isinstance(y, str) else list(y)
        for name in (x, *names):
            if name not in self.trace.columns:
                raise ResultsError(f"{self.folder}: no column {name!r} in its trace{nearest(name, self.trace.columns)}")
        return plots.rows(self.trace, names, x, absolute, axis)


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

    def run(self, name: str | int) -> Run:
        """One run, by its name in the column `run`, which is mostly its number.

        Raises:
            ResultsError: there is no such run, or the runs are in a table and have no folders.
        """
        if in_parts.is_table(self.folder):
            raise ResultsError(f"{self.folder}: its runs are in one table, without folders; runs and traces() read it")
        folders = {contract.run_name(self.folder, folder): folder for folder in contract.run_folders(self.folder)}
        if str(name) not in folders:
            raise ResultsError(f"{self.folder}: no run {str(name)!r}{nearest(str(name), folders)}")
        return Run(folders[str(name)])

    def to_pandas(self) -> pd.DataFrame:
        """`runs` as a frame of pandas.

        Raises:
            MissingPackage: pandas or pyarrow is not installed; `pip install 'rankward[pandas]'`.
        """
        require("pandas", "Sweep.to_pandas()")
        return self.runs.to_pandas()

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
            return traces.select(*dict.fromkeys(("run", "loss", *columns))).collect()

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
        y: str,
        by: str | Sequence[str] = (),
        axis: Axes | None = None,
        absolute: bool | None = None,
        *,
        x: str = "loss",
        facet: str | None = None,
    ) -> Axes | np.ndarray:
        """Draw medians over the runs (seeds) that agree in `by`, with a band between quartiles.

        Args:
            y: a metric, as `norm/nuclear`.
            by: columns of `runs`, as `init.name`; one or several. A line for each of their values.
            axis: to draw on; without one a figure is made, with the legend beside the axes.
            absolute: whether absolute values are drawn, and the axis is labelled `|entry/0_0|`; None draws absolute
                values of entries only.
            x: `loss`, at which the runs of a line are compared and which falls to the right; `iteration`, or `time` of
                flows, up to the end of a line's shortest run; or a column of `runs` with numbers, as `init.scale`: then
                the last values of `y` are drawn.
            facet: a column of `runs`; a panel for each of its values.

        Returns:
            The axes; with `facet` an array of them, one a panel.

        Raises:
            ResultsError: a column that no run has.
            ValueError: runs of a line without losses in common; an `x` that is no number; `axis` with `facet`.
        """
        by = [by] if isinstance(by, str) else list(by)
        keys = [*by, *([] if facet is None else [facet])]
        self._check(keys, self.runs.columns, "runs")
        if x == "loss":
            drawn = self.curves(y, keys, absolute=absolute)
        elif x in ("iteration", "time"):
            drawn = along(self._rows(x, y), self.runs, x, y, keys, absolute)
        else:
            self._check([x, y], self.runs.columns, "runs")
            drawn = against(self.runs, x, y, keys, absolute)
        return plots.bands(drawn, x, label(y, absolute), by, facet, axis, points=x not in ("loss", "iteration", "time"))

    def heat(
        self, metric: str, *, rows: str, columns: str, absolute: bool | None = None, axis: Axes | None = None
    ) -> Axes:
        """Draw the median of a metric's last values over all runs of a cell, a cell for each pair of two keys' values.

        Values of both signs get a scale of two colours with white at zero. A cell without runs is empty.

        Args:
            metric: a column of `runs`, as `entry/0_0`.
            rows, columns: columns of `runs`, as `init.scale`; their values are sorted.
            absolute: whether absolute values are taken before the median; None takes them of entries only.
            axis: to draw on; without one a figure is made.

        Raises:
            ResultsError: a column that the runs lack.
        """
        self._check([metric, rows, columns], self.runs.columns, "runs")
        return plots.cells(
            medians(self.runs, metric, rows, columns, absolute), rows, columns, label(metric, absolute), axis
        )


def load(folder: Any) -> Sweep:
    """The results of a sweep, or of a folder of sweeps' runs.

    Raises:
        ResultsError: no such folder.
    """
    path = _existing(folder)
    return Sweep(
        path.resolve() if (path / contract.TRACE).is_file() else path
    )  # a run is identified by the name of its folder


def _existing(folder: str | Path) -> Path:
    path = Path(folder)
    if not path.is_dir():
        raise ResultsError(f"cannot read {path}: no such folder")
    return path
