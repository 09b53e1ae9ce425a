"""A look at a sweep's folder that leaves no trace there: which runs are done, and what is known of the others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rankward import results
from rankward.config import ConfigError
from rankward.config.overrides import unquoted
from rankward.sweeps.directory import SWEEP
from rankward.sweeps.execution.ensembles import failure
from rankward.sweeps.execution.scheduler import SchedulerUnavailable, Tasks

RANKS = ("rank/effective", "rank/effective_0", "rank/numerical")  # the first that a run has is shown
DONE, RUNNING, PENDING, STOPPED = "done", "running", "pending", "stopped"
BLOCKS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True)
class Run:
    """What is known of a run.

    Args:
        name: of its folder.
        state: `done` with a result, `running`, `pending` on a cluster, or `stopped`: not done, and nobody is at work.
        overrides: that made it.
        status, iterations: of its summary; the last recorded iteration while it runs.
        loss, rank: of its recorded rows; of the last checkpoint while it runs.
        why: it has failed, in a line.
    """

    name: str
    state: str
    overrides: str = ""
    status: str = ""
    iterations: int | None = None
    loss: tuple[float, ...] = ()
    rank: tuple[float, ...] = ()
    why: str = ""


@dataclass(frozen=True)
class SweepStatus:
    """A sweep at one moment.

    Args:
        counts: runs by state.
        ends: complete runs by status.
        shown: some of the runs, those at work first, then the last that ended.
        tasks: of a cluster, id and state.
        said: sentences, as where a scheduler does not answer.
        live: whether anybody is at work.
    """

    counts: Mapping[str, int]
    ends: Mapping[str, int]
    shown: Sequence[Run]
    tasks: Mapping[str, str]
    said: Sequence[str]
    live: bool


@dataclass
class SweepMonitor:
    """Looks at a sweep again and again; what is complete is read once.

    Args:
        sweep: its folder.

    Raises:
        ConfigError: no sweep's folder.
    """

    sweep: Path
    _ended: dict[str, tuple[str, float]] = field(default_factory=dict)  # status, and when it was written
    _curves: dict[str, Run] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.sweep / SWEEP).is_file():
            raise ConfigError("watch", str(self.sweep), f"the folder of a sweep (with {SWEEP})")

    def look(self, most: int = 20) -> SweepStatus:
        """How the sweep stands now, with at most so many runs in detail."""
        if results.is_table(self.sweep):
            return self._look_at_table()
        said: list[str] = []
        tasks = Tasks.read(self.sweep)
        try:
            live = tasks.live()
        except SchedulerUnavailable as error:
            live = {}
            said.append(str(error))
        held = results.is_held(self.sweep)
        states = self.states(tasks, live, held)
        ends = Counter(status for status, _ in self._ended.values())
        counts = Counter(states.values())
        if absent := results.missing_jobs(self.sweep, len(states)):
            counts[RUNNING if held or live else STOPPED] += absent
        return SweepStatus(counts, ends, self._details(states, most), live, said, held or bool(live))

    def states(self, tasks: Tasks, live: Mapping[str, str], held: bool) -> dict[str, str]:
        """Each run folder's state.

        Args:
            tasks: of the sweep.
            live: those that still live, and their states.
            held: whether a process of no cluster holds the sweep: what is not done is then its to do.
        """
        busy = {run: live[task] for task in live for run in tasks.runs[task]}
        rest = RUNNING if held else STOPPED
        states: dict[str, str] = {}
        for folder in results.run_folders(self.sweep):
            name = results.run_name(self.sweep, folder)
            self._note(name, folder)
            states[name] = DONE if name in self._ended else busy.get(name, rest)
        return states

    def _look_at_table(self) -> SweepStatus:
        import polars as pl

        held = results.is_held(self.sweep)
        ends: dict[str, int] = {}
        if results.table_parts(self.sweep):
            with results.reading(self.sweep / results.RUNS):
                found = results.table_scan(self.sweep, results.RUNS).group_by("status").agg(pl.len()).collect()
            ends = dict(found.rows())
        said = ["Its runs stand in a table: rankward report shows them one by one."]
        counts = {DONE: sum(ends.values())}
        if absent := results.missing_jobs(self.sweep, counts[DONE]):
            counts[RUNNING if held else STOPPED] = absent
        return SweepStatus(counts, ends, (), {}, said, held)

    def _note(self, name: str, folder: Path) -> None:
        """A run that is complete stays so."""
        if name in self._ended or not (folder / results.SUMMARY).is_file():
            return
        try:
            status = str(results.read_summary(folder).get("status"))
            if results.is_complete(folder):
                self._ended[name] = status, (folder / results.SUMMARY).stat().st_mtime
        except (results.ResultsError, OSError):
            return  # being written, or torn: looked at again

    def _details(self, states: Mapping[str, str], most: int) -> list[Run]:
        order = {STOPPED: 0, RUNNING: 1, PENDING: 2}
        open_runs = sorted((name for name in states if states[name] != DONE), key=lambda name: order[states[name]])
        ended = sorted((name for name in states if states[name] == DONE), key=lambda name: -self._ended[name][1])
        half = max(most - len(ended), most // 2)
        picked = open_runs[:half]
        picked += ended[: most - len(picked)]
        traces = _in_checkpoints(self.sweep, [name for name in picked if states[name] != DONE])
        return [self._run(name, states[name], traces) for name in picked]

    def _run(self, name: str, state: str, traces: Mapping[str, Mapping[str, Sequence[float]]]) -> Run:
        if name in self._curves:
            return self._curves[name]
        folder = self.sweep / name
        try:
            overrides = " ".join(map(unquoted, results.read_overrides(folder)))
            if state != DONE:
                trace = traces.get(name, {})
                iterations = int(trace["iteration"][-1]) if trace else None
                why = failure(folder) if state == STOPPED else ""
                return Run(name, state, overrides, "", iterations, *_curves(trace), why)
            summary = results.read_summary(folder)
            trace = {key: column.to_list() for key, column in results.read_trace(folder).to_dict().items()}
        except results.ResultsError:
            return Run(name, state)
        run = Run(name, state, overrides, summary["status"], summary.get("iterations"), *_curves(trace))
        self._curves[name] = run
        return run


def _curves(trace: Mapping[str, Sequence[float]]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    rank = next((name for name in RANKS if name in trace), None)
    return tuple(trace.get("loss", ())), tuple(trace[rank]) if rank else ()


def _in_checkpoints(sweep: Path, names: Sequence[str]) -> dict[str, dict[str, list[float]]]:
    """Rows so far of runs that are not done, from the checkpoints of the ensembles they train in."""
    from rankward.config import config_hash
    from rankward.training.checkpoints import HASHES, read_checkpoint
    from rankward.training.trace import read_rows

    found: dict[str, dict[str, list[float]]] = {}
    paths = results.run_checkpoints(sweep)
    if not paths or not names:
        return found
    digests = {}
    for name in names:
        try:
            digests[config_hash(results.read_config(sweep / name))] = name
        except results.ResultsError:
            continue
    for path in paths:
        content = read_checkpoint(path)
        held = content.get(HASHES, [])
        if not any(digest in digests for digest in held):
            continue
        trace = read_rows(results.rows_file(path), content, ("run", "iteration", "loss", *RANKS))
        for place, digest in enumerate(held):
            if digest in digests and trace:
                mine = trace["run"] == place
                found[digests[digest]] = {key: trace[key][mine].tolist() for key in trace if key != "run"}
    return {name: rows for name, rows in found.items() if rows["iteration"]}


def sparkline(values: Sequence[float], width: int, log: bool = False) -> str:
    """Values as blocks of eight heights, evenly picked; a gap for what is not finite.

    Args:
        log: of their logarithms; what is not positive is a gap too.

    Example:
        >>> sparkline([1.0, 2.0, 3.0, 8.0], 4), sparkline([1e-4, 1e-2, 1.0], 3, log=True), sparkline([2.0, 2.0], 2)
        ('▁▂▃█', '▁▅█', '▁▁')
    """
    import math

    step = max(1.0, len(values) / width)
    picked = [values[min(int((k + 1) * step) - 1, len(values) - 1)] for k in range(min(width, len(values)))]
    heights = [math.log(value) if log and value > 0 else math.nan if log else value for value in picked]
    sound = [value for value in heights if math.isfinite(value)]
    low, high = min(sound, default=0.0), max(sound, default=0.0)
    scale = (len(BLOCKS) - 1) / (high - low) if high > low else 0.0
    return "".join(BLOCKS[round((value - low) * scale)] if math.isfinite(value) else " " for value in heights)
