"""Status of a sweep, read from its folder: the state of each run, and details of some runs. Nothing is written."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankward import results
from rankward.config import ConfigError
from rankward.config.overrides import unquoted
from rankward.sweeps.directory import SWEEP
from rankward.sweeps.execution.ensembles import failure_reason
from rankward.sweeps.execution.scheduler import SchedulerUnavailable, Tasks

# The rank that is shown is the first one that a run has. The CP rank is measured at the end only: it has no curve.
RANKS = ("rank/cp_upper", "rank/effective", "rank/effective_0", "rank/numerical")
RANK_CURVES = RANKS[1:]
DONE, RUNNING, PENDING, STOPPED = "done", "running", "pending", "stopped"
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class RunStatus:
    """Status of a run.

    Args:
        name: of its folder.
        state: `done` with a result, `running`, `pending` on a cluster, or `stopped`: neither done nor in work.
        overrides: of the run.
        status, iterations: from its summary; the last recorded iteration while it runs.
        loss, rank: of its recorded rows; of the last checkpoint while it runs.
        reason: of its failure, in a line.
    """

    name: str
    state: str
    overrides: str = ""
    status: str = ""
    iterations: int | None = None
    loss: tuple[float, ...] = ()
    rank: tuple[float, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class SweepStatus:
    """Status of a sweep at one moment.

    Args:
        counts: runs by state.
        ends: complete runs by status.
        runs: details of some runs, those in work first, then the last that ended.
        states: of the runs with a folder, by its name.
        tasks: of a cluster.
        live_tasks: id and state of those that wait or run.
        active: whether a process or a task is training the sweep.
        note: a sentence about the results, or empty.
        error: the scheduler does not report the states of its tasks, which are then unknown.
    """

    counts: Mapping[str, int]
    ends: Mapping[str, int]
    runs: Sequence[RunStatus]
    states: Mapping[str, str]
    tasks: Tasks
    live_tasks: Mapping[str, str]
    active: bool
    note: str = ""
    error: SchedulerUnavailable | None = None


@dataclass
class SweepMonitor:
    """Reads a sweep's status again and again; a complete run is read once.

    Args:
        sweep: the sweep's folder.
        command: that is named in the error.

    Raises:
        ConfigError: the folder is not that of a sweep.
    """

    sweep: Path
    command: str = "watch"
    _ended: dict[str, tuple[str, float]] = field(default_factory=dict)  # status and modification time of the summary
    _complete: dict[str, RunStatus] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.sweep / SWEEP).is_file():
            raise ConfigError(self.command, str(self.sweep), f"the folder of a sweep (with {SWEEP})")

    def look(self, max_runs: int = 20) -> SweepStatus:
        """Read the sweep's status, with details of at most `max_runs` runs.

        Raises:
            ResultsError: the list of tasks is torn.
        """
        held = results.is_held(self.sweep)
        if results.is_table(self.sweep):
            return self._look_at_table(held)
        tasks = Tasks.read(self.sweep)
        live: dict[str, str] = {}
        unavailable = None
        try:
            live = tasks.live()
        except SchedulerUnavailable as error:
            unavailable = error
        states = self._states(tasks, live, RUNNING if held else STOPPED)
        active = held or bool(live)
        counts = self._count(states.values(), active)
        ends = Counter(status for status, _ in self._ended.values())
        runs = self._details(states, max_runs)
        return SweepStatus(counts, ends, runs, states, tasks, live, active, error=unavailable)

    def _states(self, tasks: Tasks, live: Mapping[str, str], otherwise: str) -> dict[str, str]:
        """State of each run folder; `otherwise` if the run is neither done nor part of a live task."""
        in_tasks = {run: live[task] for task in live for run in tasks.runs[task]}
        states: dict[str, str] = {}
        for folder in results.run_folders(self.sweep):
            name = results.run_name(self.sweep, folder)
            self._note_end(name, folder)
            states[name] = DONE if name in self._ended else in_tasks.get(name, otherwise)
        return states

    def _count(self, states: Iterable[str], active: bool) -> dict[str, int]:
        """Number of runs by state; jobs without a folder are running while the sweep is active, else stopped."""
        counts = Counter(states)
        if missing := results.missing_jobs(self.sweep, counts.total()):
            counts[RUNNING if active else STOPPED] += missing
        return dict(counts)

    def _look_at_table(self, held: bool) -> SweepStatus:
        import polars as pl

        ends: dict[str, int] = {}
        if results.table_parts(self.sweep):
            with results.reading(self.sweep / results.RUNS):
                found = results.table_scan(self.sweep, results.RUNS).group_by("status").agg(pl.len()).collect()
            ends = dict(found.rows())
        counts = {DONE: 0} | self._count(itertools.repeat(DONE, sum(ends.values())), held)
        note = "The results are in a table; rankward report shows the runs one by one."
        return SweepStatus(counts, ends, (), {}, Tasks("local", self.sweep), {}, held, note)

    def _note_end(self, name: str, folder: Path) -> None:
        if name in self._ended or not (folder / results.SUMMARY).is_file():
            return
        try:
            status = str(results.read_summary(folder).get("status"))
            if results.is_complete(folder):
                self._ended[name] = status, (folder / results.SUMMARY).stat().st_mtime
        except (results.ResultsError, OSError):
            return  # being written, or torn: read again next time

    def _details(self, states: Mapping[str, str], max_runs: int) -> list[RunStatus]:
        order = {STOPPED: 0, RUNNING: 1, PENDING: 2}
        open_runs = sorted((name for name in states if states[name] != DONE), key=lambda name: order[states[name]])
        ended = sorted((name for name in states if states[name] == DONE), key=lambda name: -self._ended[name][1])
        half = max(max_runs - len(ended), max_runs // 2)
        picked = open_runs[:half]
        picked += ended[: max_runs - len(picked)]
        traces = _traces_in_checkpoints(self.sweep, [name for name in picked if states[name] != DONE])
        return [self._run(name, states[name], traces.get(name, {})) for name in picked]

    def _run(self, name: str, state: str, trace: Mapping[str, Sequence[float]]) -> RunStatus:
        if name in self._complete:
            return self._complete[name]
        folder = self.sweep / name
        try:
            overrides = " ".join(map(unquoted, results.read_overrides(folder)))
            if state != DONE:
                iterations = int(trace["iteration"][-1]) if trace else None
                reason = failure_reason(folder) if state == STOPPED else ""
                return RunStatus(name, state, overrides, "", iterations, *_curves(trace), reason)
            summary = results.read_summary(folder)
            trace = {key: column.to_list() for key, column in results.read_trace(folder).to_dict().items()}
        except results.ResultsError:
            return RunStatus(name, state)
        run = RunStatus(name, state, overrides, summary["status"], summary.get("iterations"), *_curves(trace))
        self._complete[name] = run
        return run


def _curves(trace: Mapping[str, Sequence[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    rank = next((name for name in RANK_CURVES if name in trace), None)
    return tuple(trace.get("loss", ())), tuple(trace[rank]) if rank else ()


def _traces_in_checkpoints(sweep: Path, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Recorded rows of runs that are not done, from the checkpoints of their ensembles."""
    from rankward.config import config_hash
    from rankward.training.checkpoints import HASHES, read_checkpoint
    from rankward.training.trace import read_rows

    found: dict[str, dict[str, list[float]]] = {}
    paths = results.run_checkpoints(sweep)
    if not paths or not names:
        return found
    by_digest = {}
    for name in names:
        try:
            by_digest[config_hash(results.read_config(sweep / name))] = name
        except results.ResultsError:
            continue
    for path in paths:
        content = read_checkpoint(path)
        digests = content.get(HASHES, [])
        if not any(digest in by_digest for digest in digests):
            continue
        trace = read_rows(results.rows_file(path), content, ("run", "iteration", "loss", *RANK_CURVES))
        for index, digest in enumerate(digests):
            if digest in by_digest and trace:
                rows = trace["run"] == index
                found[by_digest[digest]] = {key: trace[key][rows].tolist() for key in trace if key != "run"}
    return {name: rows for name, rows in found.items() if rows["iteration"]}


def sparkline(values: Sequence[float], width: int, log: bool = False) -> str:
    """Values as blocks of eight heights, at evenly spaced positions; values that are not finite are gaps.

    Args:
        values: of a curve.
        width: the largest number of blocks.
        log: whether to show logarithms; values that are not positive are then gaps too.

    Example:
        >>> sparkline([1.0, 2.0, 3.0, 8.0], 4), sparkline([1e-4, 1e-2, 1.0], 3, log=True), sparkline([2.0, 2.0], 2)
        ('▁▂▃█', '▁▅█', '▁▁')
    """
    step = max(1.0, len(values) / width)
    picked = [values[min(int((k + 1) * step) - 1, len(values) - 1)] for k in range(min(width, len(values)))]
    heights = [math.log(value) if log and value > 0 else math.nan if log else value for value in picked]
    finite = [value for value in heights if math.isfinite(value)]
    low, high = min(finite, default=0.0), max(finite, default=0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] if math.isfinite(value) else " " for value in heights)
