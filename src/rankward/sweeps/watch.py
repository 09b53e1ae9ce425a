"""`rankward watch FOLDER`: the status of a sweep in the terminal while it runs, for any reader of its folder."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from rankward.sweeps.status import DONE, PENDING, RUNNING, STOPPED, SweepMonitor, SweepStatus, sparkline
from rankward.terminal import visible

if TYPE_CHECKING:
    from rich.console import Group

WIDTH = 20  # of a sparkline, in a terminal of a hundred columns or more
COLORS = {DONE: "green", RUNNING: "cyan", PENDING: "yellow", STOPPED: "red"}
BAD = ("diverged", "interrupted")


def watch(sweep: Path, seconds: float, once: bool) -> int:
    """Show a sweep's status until nothing is training it, or until q or Ctrl-C.

    Nothing is written or locked. The status is shown once if standard output is not a terminal.

    Args:
        sweep: the sweep's folder.
        seconds: between two readings of the folder.
        once: whether to show the status once.

    Returns:
        1 if a run has stopped before its end, else 0.

    Raises:
        ConfigError: the folder is not that of a sweep.
        ResultsError: the list of tasks is torn.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console()
    monitor = SweepMonitor(sweep)

    def read() -> tuple[SweepStatus, Group]:
        status = monitor.look(max_runs=max(3, console.height - 10))
        return status, draw(sweep, status, console.width)

    status, view = read()
    if not once and console.is_terminal and status.active:
        live = Live(view, console=console, screen=True, auto_refresh=False)
        with _quitting() as asked_to_quit, live:
            while status.active and not asked_to_quit.wait(seconds):
                status, view = read()
                live.update(view, refresh=True)
    console.print(view)  # remains in the terminal after the alternate screen is closed
    return 1 if status.counts.get(STOPPED) else 0


def draw(sweep: Path, status: SweepStatus, columns: int) -> Group:
    """The view of a sweep's status, in a terminal of so many columns."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def text(content: object = "", style: str = "") -> Text:
        return Text(visible(content), style)  # rich would read a plain string as markup

    total, done = sum(status.counts.values()), status.counts.get(DONE, 0)
    title = Text.assemble((visible(sweep), "bold"), f"  {total:,} runs: ")
    counts = [text(f"{status.counts[state]:,} {state}", COLORS[state]) for state in COLORS if status.counts.get(state)]
    title.append_text(text(", ").join(counts))
    if status.ends:
        ends = ", ".join(f"{number:,} {status}" for status, number in sorted(status.ends.items()))
        title.append_text(text(f"  ({ends})"))
    parts: list[object] = [title, ProgressBar(total=max(total, 1), completed=done, width=min(60, columns)), text()]
    for task, state in list(status.live_tasks.items())[:5]:
        parts.append(text(f"task {task}: {state}", COLORS.get(state, "")))
    if len(status.live_tasks) > 5:
        parts.append(text(f"and {len(status.live_tasks) - 5:,} tasks more"))
    parts += [text(sentence, "yellow") for sentence in (status.note, status.error) if sentence]
    if status.runs:
        width = WIDTH if columns >= 100 else WIDTH // 2
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=True)
        table.add_column("run", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=9)
        table.add_column("iterations", justify="right", no_wrap=True, min_width=10)
        for name, wide in (("loss", 8), ("", width), ("rank", 5), ("", width)):
            table.add_column(name, no_wrap=True, min_width=wide)
        table.add_column("overrides", no_wrap=True, overflow="ellipsis", ratio=1)
        shared = set.intersection(*(set(run.overrides.split(" ")) for run in status.runs))
        shared = shared if len(status.runs) > 1 else set()
        for run in status.runs:
            word = run.status or run.state
            color = "red" if word in BAD else COLORS[run.state]
            table.add_row(
                text(run.name),
                text(word, color),
                "" if run.iterations is None else f"{run.iterations:,}",
                f"{run.loss[-1]:.2e}" if run.loss else "",
                text(sparkline(run.loss, width, log=True), "blue"),
                f"{run.rank[-1]:.3g}" if run.rank else "",
                text(sparkline(run.rank, width), "magenta"),
                text(" ".join(word for word in run.overrides.split(" ") if word not in shared)),
            )
        parts.append(table)
        if len(status.runs) < total:
            parts.append(text(f"and {total - len(status.runs):,} runs more", "dim"))
        reasons = {run.reason: run.name for run in reversed(status.runs) if run.reason}  # with the first run of each
        parts += [text(f"run {name}: {reason}", "red") for reason, name in list(reasons.items())[:5]]
    if status.counts.get(STOPPED):
        parts.append(text(f"{STOPPED}: not done, and nothing is training it; rankward resume {sweep} goes on", "red"))
    elif status.active:
        parts.append(text("q quits, the sweep goes on", "dim"))
    return Group(*parts)  # type: ignore[arg-type]


@contextlib.contextmanager
def _quitting() -> Iterator[threading.Event]:
    """An event that is set by q, without Enter, or by Ctrl-C; handlers and the terminal's settings are restored.

    A KeyboardInterrupt could arrive while rich enters the alternate screen, which would then not be left.
    """
    asked = threading.Event()
    previous = signal.signal(signal.SIGINT, lambda *_: asked.set())
    try:
        with _quit_key(asked):
            yield asked
    finally:
        signal.signal(signal.SIGINT, previous)


@contextlib.contextmanager
def _quit_key(pressed: threading.Event) -> Iterator[None]:
    """Set the event when q is pressed."""
    closed = threading.Event()
    try:
        import termios
        import tty

        settings = termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError):  # standard input is no terminal: Ctrl-C quits
        yield
        return

    def listen() -> None:
        import select

        while not closed.is_set():
            if select.select([sys.stdin], [], [], 0.1)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                pressed.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    tty.setcbreak(sys.stdin.fileno())
    listener.start()
    try:
        yield
    finally:
        closed.set()
        listener.join()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, settings)
