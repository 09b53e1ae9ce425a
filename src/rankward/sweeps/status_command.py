"""`rankward status FOLDER`: the state of a sweep's runs; the sweep is finished if nothing is training it."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from rankward import figures, results
from rankward.loggers.wandb_environment import is_on
from rankward.sweeps.directory import SWEEP, drop_checkpoints
from rankward.sweeps.execution.cluster import failure_in_task
from rankward.sweeps.execution.ensembles import failure_reason
from rankward.sweeps.status import DONE, PENDING, RUNNING, STOPPED, SweepMonitor, SweepStatus
from rankward.terminal import say

STATES = (DONE, RUNNING, PENDING, STOPPED)
EARLY = "{}; a checkpoint has what was done"  # of a run that has ended early
KILLED = "its process has ended before it was complete"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
MAX_LISTED = 20  # tasks or reasons of failures
MAX_NAMES = 8  # runs in a line


def show_status(sweep: Path) -> int:
    """Print how many runs are done, running, pending and stopped; finish the sweep if nothing is training it.

    Returns:
        1 if a run has stopped before its end, else 0.

    Raises:
        ConfigError: the folder is not that of a sweep.
        ResultsError: a file cannot be read, or a table or figure cannot be made.
        SchedulerUnavailable: the scheduler does not report the states of its tasks.
    """
    status = SweepMonitor(sweep, "status").look(max_runs=0)
    code = 1 if status.counts.get(STOPPED) else 0
    if results.is_table(sweep):
        _show_table(sweep, status)
        return code
    if status.error is not None:
        raise status.error
    counts = ", ".join(f"{status.counts.get(state, 0):,} {state}" for state in STATES)
    say(f"{sweep}: {sum(status.counts.values()):,} runs: {counts}")
    _show_tasks(status)
    if code:
        _show_failures(sweep, status)
    if status.active:
        return code
    if code:
        say(f"  rankward resume {sweep} starts what is missing")
    if DONE in status.states.values() and not _is_finished(sweep):
        try:
            with results.claimed(sweep):
                _finish(sweep, status)
        except (OSError, results.ResultsError) as error:
            if error.errno not in READ_ONLY:
                raise
            say(f"  its table is out of date, and cannot be written here: {error}")
    return code


def _show_table(sweep: Path, status: SweepStatus) -> None:
    counts = ", ".join(f"{number:,} {state}" for state, number in status.counts.items())
    say(f"{sweep}: {counts}, in a table of {len(results.table_parts(sweep))} parts")
    if status.ends:
        say("  " + ", ".join(f"{number:,} {end}" for end, number in sorted(status.ends.items())))
    if status.counts.get(STOPPED):
        say(f"  rankward resume {sweep} goes on with what is not done")


def _show_tasks(status: SweepStatus) -> None:
    tasks, live = status.tasks, status.live_tasks
    for task, state in list(live.items())[:MAX_LISTED]:
        done = sum(status.states.get(run) == DONE for run in tasks.runs[task])
        say(f"  task {task}: {state}, {done:,} of {len(tasks.runs[task]):,} runs done; log {tasks.log(task)}")
    if len(live) > MAX_LISTED:
        say(f"  and {len(live) - MAX_LISTED:,} tasks more")


def _show_failures(sweep: Path, status: SweepStatus) -> None:
    """Print why runs have stopped; runs with the same reason share a line."""
    tasks = status.tasks
    last_task = {run: task for task, runs in tasks.runs.items() for run in runs}
    by_reason: dict[str, list[str]] = {}
    for run, state in status.states.items():
        if state == STOPPED:
            reason = failure_reason(sweep / run) or _early_end(sweep / run)
            reason = reason or (failure_in_task(tasks, last_task[run], run) if run in last_task else KILLED)
            by_reason.setdefault(reason, []).append(run)
    for reason, runs in list(by_reason.items())[:MAX_LISTED]:
        more = f" and {len(runs) - MAX_NAMES:,} more" if len(runs) > MAX_NAMES else ""
        file = sweep / runs[0] / results.FAILURE
        traceback = f"; traceback: {file}" if file.is_file() else ""
        names = ", ".join(runs[:MAX_NAMES])
        say(f"  {'run' if len(runs) == 1 else 'runs'} {names}{more}: {reason}{traceback}")


def _is_finished(sweep: Path) -> bool:
    """Whether the table has every run in its present state; a torn table is reported."""
    try:
        return results.read_runs(sweep) is not None
    except results.ResultsError as error:
        say(f"  {error}; it is made again")
        return False


def _finish(sweep: Path, status: SweepStatus) -> None:
    """Make table and figures; figures that are not Rankward's are not imported."""
    from rankward.sweeps.summary import finish

    if all(state == DONE for state in status.states.values()):
        drop_checkpoints(sweep, {results.read_summary(sweep / run)["config_hash"] for run in status.states})
    requested, wandb = _figures_and_wandb(sweep)
    known = [name for name in requested if name in figures.names()]
    finish(sweep, known, wandb)
    if foreign := [name for name in requested if name not in known]:
        say(f"  not drawn: {', '.join(foreign)}, a module that is not Rankward's; rankward resume {sweep} draws it")


def _figures_and_wandb(sweep: Path) -> tuple[list[str], dict[str, Any] | None]:
    """Figures and W&B logger of the sweep's config. The logger is offline, since a reader may not be the author."""
    config = results.read_yaml(sweep / SWEEP)
    requested = config.get("figures") if isinstance(config, dict) else None
    names = [str(name) for name in requested] if isinstance(requested, list) else []
    logger = config.get("logger") if isinstance(config, dict) else None
    wandb = logger.get("wandb") if isinstance(logger, dict) else None
    return names, {**wandb, "offline": True} if isinstance(wandb, dict) and is_on({"wandb": wandb}) else None


def _early_end(run: Path) -> str:
    """How a run with a checkpoint has ended; empty for any other run."""
    try:
        status = str(results.read_summary(run).get("status"))
    except results.ResultsError:
        return ""
    return EARLY.format(status) if status in results.RESUMABLE else ""
