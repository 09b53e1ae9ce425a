"""The paper's refinement protocol: decrease learning rate and initialisation, round by round, until curves agree.

"Runs were iteratively carried out, with both learning rate and standard deviation for initialization decreased after
each run, until further reduction did not yield a noticeable change" (Section 4.1).

A cell settles only on converged runs: two runs that end at `max_iterations` may agree up to there and differ later. Nor
does it settle on a run that ends at the edge of stability, with a sharpness within 2 % of 2 / learning rate: there the
size of the steps, and not the flow that they approximate, decides where the run goes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from rankward import results
from rankward.config import ConfigError, RunConfig, run_config
from rankward.results.curves import at_losses, common_losses
from rankward.sweeps.grid import GridSearch
from rankward.terminal import say


@dataclass
class Round:
    """A run of a cell and its results.

    Args:
        job: number of the job.
        change: of the watched curve since the previous round; None in the first round, NaN if one of them has no curve.
        status, loss: from the run's summary; None and NaN if there is none.
        sharpness: at the end; see `rankward.dynamics.sharpness`. NaN if it is not known.
        edge: 2 / learning rate: descent is stable if the sharpness is smaller. NaN if the learning rate varies.
    """

    job: int
    change: float | None = None
    status: str | None = None
    loss: float = np.nan
    sharpness: float = np.nan
    edge: float = np.nan

    @property
    def at_edge(self) -> bool:
        """Whether it ended at the edge of stability; False if that is not known."""
        from rankward.dynamics.sharpness import at_edge

        return at_edge(self.sharpness, self.edge)


@dataclass
class Cell:
    """A point of the grid, which is refined separately.

    Args:
        job: overrides, without those of the rounds.
        start: values of the refined keys in round 0.
        rounds: so far.
        settled: whether the last two rounds converged and differ by less than the tolerance, and the last one is not at
            the edge of stability.
        stuck: whether a round failed, so that there is no curve to compare.
    """

    job: list[str]
    start: dict[str, float]
    rounds: list[Round] = field(default_factory=list)
    settled: bool = False
    stuck: bool = False


class Refinement:
    """Implementation of the plugin `hydra/sweeper=refine`. A round of all cells is one launch.

    Args:
        grid: its jobs are the cells.
        factors: by which each refined key is multiplied from round to round.
        watch: column of the trace that is compared, by absolute value.
        tolerance: of the change, which is the largest difference of the two curves at common losses, divided by the
            largest value of the later curve.
        max_rounds: at least 2.

    Raises:
        ConfigError: a factor is not between 0 and 1, or another value is out of range.
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
            raise ConfigError("hydra.sweeper.refine.factors", "{}", "at least one key to decrease, as in lr.eta: 0.5")
        if not tolerance > 0:
            raise ConfigError("hydra.sweeper.refine.tolerance", tolerance, "a number above 0")
        if max_rounds < 2:
            raise ConfigError("hydra.sweeper.refine.max_rounds", max_rounds, "an integer of at least 2")

    def setup(self, hydra_context: Any, task_function: Any, config: DictConfig) -> None:
        """Receive Hydra's context, the function that runs a job, and the sweep's config."""
        self.grid.setup(hydra_context, task_function, config, needs_folders=True)

    def sweep(self, arguments: list[str]) -> list[Sequence[JobReturn]]:
        """Refine every cell until it has settled, and finish the sweep.

        Raises:
            SweepError: as `GridSearch.sweep`.
        """
        runner = self.grid.runner
        if not runner.config.hydra.launcher.get("wait", True):
            raise ConfigError("hydra.launcher.wait", False, "true: a round is compared with the one before it")
        jobs = self.grid.selected(arguments)
        runner.check(jobs)
        cells = [Cell(job, self._start(job)) for job in jobs]
        if runner.dry_run:
            runner.check(first := [self._job(cell, 0) for cell in cells])
            plan = runner.plan(first) + f"; that is the first of at most {self.max_rounds} rounds"
            say(*plan.split("\n"))
            return []
        returns: list[Sequence[JobReturn]] = []
        with runner.folder() as folder:
            for number in range(self.max_rounds):
                open_cells = [cell for cell in cells if not (cell.settled or cell.stuck)]
                if not open_cells:
                    break
                round_jobs = [self._job(cell, number) for cell in open_cells]
                runner.check(round_jobs)
                first_job = len(runner.jobs)
                returns.append(runner.launch(round_jobs))
                for index, (cell, job) in enumerate(zip(open_cells, round_jobs, strict=True)):
                    cell.rounds.append(self.read_round(first_job + index, folder, job))
                    self.compare(cell, folder)
                say(f"round {number}: {sum(cell.settled for cell in cells)} of {len(cells)} cells have settled")
            table = self.table(cells)
            results.write_frame(folder / results.REFINEMENT, table)
            say(*map(self.format_cell, cells))
            runner.finish(folder, {"refinement": table})
        return returns

    def _start(self, job: list[str]) -> dict[str, float]:
        config = self.grid.runner.composer.compose(job).config
        values: dict[str, float] = {}
        for key in self.factors:
            value = OmegaConf.select(config, key)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ConfigError(f"hydra.sweeper.refine.factors.{key}", value, "a key whose value is a number")
            values[key] = float(value)
        return values

    def _job(self, cell: Cell, number: int) -> list[str]:
        fixed = [override for override in cell.job if override.partition("=")[0] not in self.factors]
        return [*fixed, *(f"{key}={cell.start[key] * factor**number:.6g}" for key, factor in self.factors.items())]

    def read_round(self, number: int, folder: Path, job: Sequence[str]) -> Round:
        """Results of a job's run."""
        try:
            run = self.grid.runner.run_folder(folder, number)
            summary = results.read_summary(run)
            read = Round(number, status=summary["status"], loss=summary.get("metrics", {}).get("loss", np.nan))
        except results.ResultsError:
            return Round(number)
        if self.grid.runner.is_ours:
            config = run_config(self.grid.runner.composer.compose(job).config)
            read.sharpness, read.edge = _stability(config, run)
        return read

    def compare(self, cell: Cell, folder: Path) -> None:
        """Compare the cell's last round with the previous one."""
        last = cell.rounds[-1]
        curves = [self._curve(self.grid.runner.run_folder(folder, each.job)) for each in cell.rounds[-2:]]
        if any(curve is None for curve in curves):
            cell.stuck = True
            last.change = np.nan if len(curves) > 1 else None
            return
        if len(curves) < 2:
            return
        previous, current = (curve for curve in curves if curve is not None)
        try:
            losses = common_losses([previous, current])
        except ValueError:
            last.change = np.nan
            return
        old, new = at_losses(*previous, losses), at_losses(*current, losses)
        last.change = float(np.max(np.abs(new - old)) / np.max(np.abs(new)))
        converged = all(each.status == "converged" for each in cell.rounds[-2:])
        cell.settled = converged and last.change < self.tolerance and not last.at_edge

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

    def table(self, cells: Sequence[Cell]) -> pl.DataFrame:
        """A row for each round of each cell."""
        rows = [
            {
                "cell": number,
                "overrides": " ".join(cell.job),
                "round": index,
                "job": each.job,
                **{key: cell.start[key] * factor**index for key, factor in self.factors.items()},
                **{key: value for key, value in asdict(each).items() if key != "job"},
                "at_edge": each.at_edge,
                "settled": cell.settled,
            }
            for number, cell in enumerate(cells)
            for index, each in enumerate(cell.rounds)
        ]
        types = dict.fromkeys(("change", "loss", "sharpness", "edge"), pl.Float64) | {"status": pl.String}
        return pl.DataFrame(rows, schema_overrides=types)

    def format_cell(self, cell: Cell) -> str:
        """A line about a cell: its last values, the changes by round, and whether it has settled."""
        last = len(cell.rounds) - 1
        values = ", ".join(f"{key} {cell.start[key] * factor**last:.3g}" for key, factor in self.factors.items())
        changes = ", ".join(f"{each.change:.2g}" for each in cell.rounds if each.change is not None) or "none"
        verdict = f"settled in round {last}" if cell.settled else "a round failed" if cell.stuck else "has NOT settled"
        swept = " ".join(part for part in cell.job if not part.startswith(("experiment=", "logger=", "hydra.")))
        noted = [
            _format_round(number, each)
            for number, each in enumerate(cell.rounds)
            if each.status not in (None, "converged") or each.at_edge
        ]
        verdict = f"{swept or 'the default'}: {verdict} at {values}"
        return "; ".join([verdict, f"change a round: {changes}", *noted])


def _format_round(number: int, ended: Round) -> str:
    text = f"round {number} ended with status {ended.status} at loss {ended.loss:.3g}"
    known = np.isfinite(ended.sharpness) and np.isfinite(ended.edge)
    edge = "at the edge of stability: " if ended.at_edge else ""
    return text + f" ({edge}sharpness {ended.sharpness:.4g}, 2/lr {ended.edge:.4g})" * bool(known)


def _stability(config: RunConfig, run: Path) -> tuple[float, float]:
    """Sharpness at the end of a run, and 2 / learning rate; NaN if the rate varies or a file cannot be read."""
    from rankward.dynamics.sharpness import sharpness
    from rankward.training.ensemble import Ensemble

    ensemble = Ensemble.of([config])
    try:
        arrays = results.read_factors(run)
    except results.ResultsError:
        return float("nan"), float("nan")
    problem = ensemble.problem
    factors = [arrays[f"final.{index}"][None] for index in range(len(ensemble.factors))]
    eta = float(problem.eta[0]) if problem.dynamics == "descent" else 0.0
    product = ensemble.factorization.product
    data = problem.operator, problem.values, problem.loss_scale
    value = float(sharpness(product, factors, *data, problem.loss)[0])
    return value, 2 / eta if eta > 0 else float("nan")
