"""The paper's protocol: smaller learning rates and initialisations, round after round, until nothing changes any more.

"Runs were iteratively carried out, with both learning rate and standard deviation for initialization decreased after
each run, until further reduction did not yield a noticeable change" (Section 4.1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from rankward import results
from rankward.config import ConfigError
from rankward.results.curves import at_losses, common_losses
from rankward.sweeps.grid import GridSearch
from rankward.terminal import say


@dataclass
class Cell:
    """One point of the grid, refined by itself.

    Args:
        job: its overrides, without those of the rounds.
        start: values of the refined keys in round 0.
        numbers: of its jobs, round by round.
        changes: of the watched curve from each round to the next; NaN where a round left no curve.
    """

    job: list[str]
    start: dict[str, float]
    numbers: list[int] = field(default_factory=list)
    changes: list[float] = field(default_factory=list)
    settled: bool = False
    stuck: bool = False  # a round failed, so there is nothing to compare


class Refinement:
    """What `hydra/sweeper=refine` does, apart from being a plugin. Rounds of all cells are launched together.

    Args:
        grid: whose jobs are the cells.
        factors: of each refined key from round to round.
        watch: the trace's column that is compared, by absolute value.
        tolerance: of the change: the largest difference of the two curves at common losses, over the later one's
            largest value.
        max_rounds: at least 2.

    Raises:
        ConfigError: factors that do not make a key smaller, or another value out of range.
    """

    def __init__(
        self, grid: GridSearch, factors: Mapping[str, float], watch: str, tolerance: float, max_rounds: int
    ) -> None:
        self.grid, self.factors, self.watch = grid, dict(factors), watch
        self.tolerance, self.max_rounds = tolerance, max_rounds
        for key, factor in self.factors.items():
            if not 0 < factor < 1:
                raise ConfigError(f"hydra.sweeper.refine.factors.{key}", factor, "a number between 0 and 1")
        if not self.factors:
            raise ConfigError("hydra.sweeper.refine.factors", "{}", "at least one key to make smaller, as lr.eta: 0.5")
        if not tolerance > 0:
            raise ConfigError("hydra.sweeper.refine.tolerance", tolerance, "a number above 0")
        if max_rounds < 2:
            raise ConfigError("hydra.sweeper.refine.max_rounds", max_rounds, "an integer of at least 2")

    def setup(self, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Take what Hydra hands to a sweeper."""
        self.grid.setup(hydra_context, task_function, config)
        self.grid.launching.folders_only = True

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Refine every cell until it has settled, and gather what all rounds left.

        Raises:
            SweepError: as the grid's sweep.
        """
        launching = self.grid.launching
        if not launching.config.hydra.launcher.get("wait", True):
            raise ConfigError("hydra.launcher.wait", False, "true: a round is compared with the one before it")
        jobs = self.grid.jobs(arguments)
        launching.check(jobs)
        cells = [Cell(job, self._start(job)) for job in jobs]
        if launching.dry_run:
            launching.check(first := [self._job(cell, 0) for cell in cells])
            plan = launching.plan(first) + f"; that is the first of at most {self.max_rounds} rounds"
            say(*plan.split("\n"))
            return []
        returns: list[Sequence[JobReturn]] = []
        with launching.folder() as folder:
            for number in range(self.max_rounds):
                open_cells = [cell for cell in cells if not (cell.settled or cell.stuck)]
                if not open_cells:
                    break
                round_jobs = [self._job(cell, number) for cell in open_cells]
                launching.check(round_jobs)
                first_job = len(launching.jobs)
                returns.append(launching.launch(round_jobs))
                for place, cell in enumerate(open_cells):
                    cell.numbers.append(first_job + place)
                    self._compare(cell, folder)
                say(f"round {number}: {sum(cell.settled for cell in cells)} of {len(cells)} cells have settled")
            table = self._table(cells)
            results.write_frame(folder / results.REFINEMENT, table)
            say(*map(self._told, cells))
            launching.finish(folder, {"refinement": table})
        return returns

    def _start(self, job: list[str]) -> dict[str, float]:
        config = self.grid.launching.composer.compose(job).own
        values: dict[str, float] = {}
        for key in self.factors:
            value = OmegaConf.select(config, key)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ConfigError(f"hydra.sweeper.refine.factors.{key}", value, "a key whose value is a number")
            values[key] = float(value)
        return values

    def _job(self, cell: Cell, number: int) -> list[str]:
        kept = [override for override in cell.job if override.partition("=")[0] not in self.factors]
        return [*kept, *(f"{key}={cell.start[key] * factor**number:.6g}" for key, factor in self.factors.items())]

    def _compare(self, cell: Cell, folder: Path) -> None:
        """The change of the cell's last round from the one before."""
        curves = [self._curve(folder / str(number)) for number in cell.numbers[-2:]]
        if any(curve is None for curve in curves):
            cell.stuck = True
            cell.changes.append(np.nan)
            return
        if len(curves) < 2:
            return
        before, after = (curve for curve in curves if curve is not None)
        try:
            grid = common_losses([before, after])
        except ValueError:
            cell.changes.append(np.nan)
            return
        old, new = at_losses(*before, grid), at_losses(*after, grid)
        cell.changes.append(float(np.max(np.abs(new - old)) / np.max(np.abs(new))))
        cell.settled = cell.changes[-1] < self.tolerance

    def _curve(self, run: Path) -> tuple[np.ndarray, np.ndarray] | None:
        try:
            if results.read_summary(run)["status"] not in results.ENDED:
                return None
            trace = results.read_trace(run)
            return trace["loss"].to_numpy(), np.abs(trace[self.watch].to_numpy())
        except results.ResultsError:
            return None
        except pl.exceptions.ColumnNotFoundError as error:
            known = ", ".join(name for name in trace.columns if "/" in name)
            raise ConfigError("hydra.sweeper.refine.watch", self.watch, f"a column of the trace: {known}") from error

    def _table(self, cells: Sequence[Cell]) -> pl.DataFrame:
        """A row for each round of each cell."""
        rows = [
            {
                "cell": number,
                "overrides": " ".join(cell.job),
                "round": round_number,
                "job": job,
                **{key: cell.start[key] * factor**round_number for key, factor in self.factors.items()},
                "change": cell.changes[round_number - 1] if 0 < round_number <= len(cell.changes) else None,
                "settled": cell.settled,
            }
            for number, cell in enumerate(cells)
            for round_number, job in enumerate(cell.numbers)
        ]
        return pl.DataFrame(rows, schema_overrides={"change": pl.Float64})

    def _told(self, cell: Cell) -> str:
        last = len(cell.numbers) - 1
        values = ", ".join(f"{key} {cell.start[key] * factor**last:.3g}" for key, factor in self.factors.items())
        changes = ", ".join(f"{change:.2g}" for change in cell.changes) or "none"
        verdict = f"settled in round {last}" if cell.settled else "a round failed" if cell.stuck else "has NOT settled"
        swept = " ".join(part for part in cell.job if not part.startswith(("experiment=", "logger=", "hydra.")))
        return f"{swept or 'the default'}: {verdict} at {values}; change a round: {changes}"
