"""What has become of a sweep's runs so far, on a cluster or here; and the gathering, once nobody is at work on them."""

from __future__ import annotations

import errno
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rankward import figures, results
from rankward.config import ConfigError
from rankward.loggers.wandb_environment import is_on
from rankward.sweeps.directory import SWEEP, drop_checkpoints
from rankward.sweeps.execution.ensembles import failure
from rankward.sweeps.execution.scheduler import Tasks
from rankward.sweeps.status import DONE, PENDING, RUNNING, STOPPED, SweepMonitor
from rankward.terminal import say

STATES = (DONE, RUNNING, PENDING, STOPPED)
INTERRUPTED = "interrupted; a checkpoint has what was done"
KILLED = "its process has ended before it was complete"
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
SHOWN = 20  # tasks or failures that are told one by one


def tell_status(sweep: Path) -> int:
    """Print how many runs are done, running, pending and stopped; gather them where nobody is at work.

    Returns:
        1 where runs have stopped before they were done, else 0.

    Raises:
        ConfigError: no sweep's folder.
        ResultsError: what cannot be read, or a table or figure that cannot be made.
        SchedulerUnavailable: a scheduler that does not tell its tasks' states.
    """
    if not (sweep / SWEEP).is_file():
        raise ConfigError("status", str(sweep), f"the folder of a sweep (with {SWEEP})")
    if results.is_table(sweep):
        return _tell_table(sweep)
    tasks = Tasks.read(sweep)
    live = tasks.live()
    here = results.is_held(sweep)
    states = SweepMonitor(sweep).states(tasks, live, here)
    counts = Counter(states.values())
    absent = results.missing_jobs(sweep, len(states))
    counts[RUNNING if here or live else STOPPED] += absent
    say(f"{sweep}: {len(states) + absent:,} runs: " + ", ".join(f"{counts[state]:,} {state}" for state in STATES))
    for task, state in list(live.items())[:SHOWN]:
        done = sum(states.get(run) == DONE for run in tasks.runs[task])
        say(f"  task {task}: {state}, {done:,} of {len(tasks.runs[task]):,} runs done; log {tasks.log(task)}")
    if len(live) > SHOWN:
        say(f"  and {len(live) - SHOWN:,} tasks more")
    stopped = [run for run, state in states.items() if state == STOPPED]
    if counts[STOPPED]:
        from rankward.sweeps.execution.cluster import told  # what submitit has kept of a task's end

        last = {run: task for task, runs in tasks.runs.items() for run in runs}
        whys: dict[str, list[str]] = {}
        for run in stopped:
            known = failure(sweep / run) or (INTERRUPTED if _was_interrupted(sweep / run) else "")
            why = known or (told(tasks, last[run], run) if run in last else KILLED)
            whys.setdefault(why, []).append(run)
        for why, runs in list(whys.items())[:SHOWN]:
            more = f" and {len(runs) - 8:,} more" if len(runs) > 8 else ""
            file = sweep / runs[0] / results.FAILURE
            where = f"; traceback: {file}" if file.is_file() else ""
            say(f"  {'run' if len(runs) == 1 else 'runs'} {', '.join(runs[:8])}{more}: {why}{where}")
        if not live and not here:
            say(f"  rankward resume {sweep} starts what is missing")
    if not live and not here and DONE in states.values() and not _is_gathered(sweep):
        try:
            with results.claimed(sweep):
                _gather(sweep, states)
        except (OSError, results.ResultsError) as error:
            if error.errno not in READ_ONLY:
                raise
            say(f"  its table is out of date, and cannot be written here: {error}")
    return 1 if counts[STOPPED] else 0


def _tell_table(sweep: Path) -> int:
    """A sweep in a table: parts that are complete, and checkpoints of those that are not."""
    look = SweepMonitor(sweep).look(0)
    told = ", ".join(f"{number:,} {state}" for state, number in look.counts.items())
    say(f"{sweep}: {told}, in a table of {len(results.table_parts(sweep))} parts")
    ended = ", ".join(f"{number:,} {status}" for status, number in sorted(look.ends.items()))
    if look.counts[DONE]:
        say(f"  {ended}")
    if look.counts.get(STOPPED):
        say(f"  rankward resume {sweep} goes on with what is not done")
    return 1 if look.counts.get(STOPPED) else 0


def _is_gathered(sweep: Path) -> bool:
    """Whether the table has every run as it is now; a line says so where it is torn."""
    try:
        return results.read_runs(sweep) is not None
    except results.ResultsError as error:
        say(f"  {error}; it is made again")
        return False


def _gather(sweep: Path, states: Mapping[str, str]) -> None:
    """Table and figures of the runs as they are now."""
    from rankward.sweeps.finish import finish

    if all(state == DONE for state in states.values()):
        drop_checkpoints(sweep, {results.read_summary(sweep / run)["config_hash"] for run in states})
    wanted, wandb = _closing(sweep)
    known = [name for name in wanted if name in figures.names()]
    finish(sweep, known, wandb)
    if own := [name for name in wanted if name not in known]:
        say(f"  not drawn: {', '.join(own)}, a module that is not Rankward's; rankward resume {sweep} draws it")


def _closing(sweep: Path) -> tuple[list[str], dict[str, Any] | None]:
    """The figures that a sweep's config asks for, and its W&B logger, which stays offline: who looks at a sweep may be
    somebody else than who made it.
    """
    config = results.read_yaml(sweep / SWEEP)
    asked = config.get("figures") if isinstance(config, dict) else None
    logger = config.get("logger") if isinstance(config, dict) else None
    wandb = logger.get("wandb") if isinstance(logger, dict) else None
    names = [str(name) for name in asked] if isinstance(asked, list) else []
    return names, {**wandb, "offline": True} if isinstance(wandb, dict) and is_on({"wandb": wandb}) else None


def _was_interrupted(run: Path) -> bool:
    try:
        return bool(results.read_summary(run).get("status") == "interrupted")
    except results.ResultsError:
        return False
