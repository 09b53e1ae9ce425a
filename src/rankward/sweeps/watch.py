"""`rankward watch FOLDER`: a sweep in the terminal while it runs, from any process that can read its folder."""

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
    """Show the sweep until nobody is at work on it, or until q or Ctrl-C; 1 where runs have stopped before their end.

    Nothing is written or locked. Piped, or with `once`, it is shown once.

    Raises:
        ConfigError: no sweep's folder.
        ResultsError: a torn list of tasks.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console()
    watcher = SweepMonitor(sweep)
    look = watcher.look(_room(console.height))
    if not once and console.is_terminal and look.live:
        view = Live(draw(sweep, look, console.width), console=console, screen=True, auto_refresh=False)
        with _quitting() as quitting, contextlib.suppress(KeyboardInterrupt), view:
            while look.live and not quitting.wait(seconds):
                look = watcher.look(_room(console.height))
                view.update(draw(sweep, look, console.width), refresh=True)
    console.print(draw(sweep, look, console.width))  # it stays, where the screen was given back
    return 1 if look.counts.get(STOPPED) else 0


def _room(height: int) -> int:
    return max(3, height - 10)


def draw(sweep: Path, look: SweepStatus, columns: int) -> Group:
    """The view of one look, in a terminal of so many columns."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    def text(content: object = "", style: str = "") -> Text:
        return Text(visible(content), style)  # a plain string would be read as markup

    total, done = sum(look.counts.values()), look.counts.get(DONE, 0)
    title = Text.assemble((visible(sweep), "bold"), f"  {total:,} runs: ")
    states = [(f"{look.counts[state]:,} {state}", color) for state, color in COLORS.items() if look.counts.get(state)]
    title.append_text(text(", ").join(text(*state) for state in states))
    if look.ends:
        ends = ", ".join(f"{number:,} {status}" for status, number in sorted(look.ends.items()))
        title.append_text(text(f"  ({ends})"))
    parts: list[object] = [title, ProgressBar(total=max(total, 1), completed=done, width=min(60, columns)), text()]
    for task, state in list(look.tasks.items())[:5]:
        parts.append(text(f"task {task}: {state}", COLORS.get(state, "")))
    if len(look.tasks) > 5:
        parts.append(text(f"and {len(look.tasks) - 5:,} tasks more"))
    parts += [text(sentence, "yellow") for sentence in look.said]
    if look.shown:
        width = WIDTH if columns >= 100 else WIDTH // 2
        table = Table(box=None, padding=(0, 1), header_style="bold", expand=True)
        table.add_column("run", justify="right", no_wrap=True)
        table.add_column("state", no_wrap=True, min_width=9)
        table.add_column("iterations", justify="right", no_wrap=True, min_width=10)
        for name, wide in (("loss", 8), ("", width), ("rank", 5), ("", width)):
            table.add_column(name, no_wrap=True, min_width=wide)
        table.add_column("overrides", no_wrap=True, overflow="ellipsis", ratio=1)
        shared = set.intersection(*(set(run.overrides.split(" ")) for run in look.shown))
        shared = shared if len(look.shown) > 1 else set()
        for run in look.shown:
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
        if len(look.shown) < total:
            parts.append(text(f"and {total - len(look.shown):,} runs more", "dim"))
        whys = {run.why: run.name for run in reversed(look.shown) if run.why}  # each once, by the first run
        parts += [text(f"run {name}: {why}", "red") for why, name in list(whys.items())[:5]]
    if look.counts.get(STOPPED):
        parts.append(text(f"{STOPPED}: not done, and nobody is at work; rankward resume {sweep} goes on", "red"))
    elif look.live:
        parts.append(text("q quits, the sweep goes on", "dim"))
    return Group(*parts)  # type: ignore[arg-type]


@contextlib.contextmanager
def _quitting() -> Iterator[threading.Event]:
    """Set when q is pressed, or Ctrl-C for the first time: a moment's wait for the screen to be given back."""
    with _quit_key() as pressed:

        def interrupted(number: int, frame: object) -> None:
            pressed.set()
            signal.signal(signal.SIGINT, before)  # the second time it does not wait

        before = signal.signal(signal.SIGINT, interrupted)
        try:
            yield pressed
        finally:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _quit_key() -> Iterator[threading.Event]:
    """Set when q is pressed; the terminal is left as it was."""
    pressed = threading.Event()
    try:
        import termios
        import tty

        before = termios.tcgetattr(sys.stdin)
    except (ImportError, OSError, ValueError):  # no terminal to read from: Ctrl-C ends it
        yield pressed
        return
    over = threading.Event()

    def listen() -> None:
        import select

        while not over.is_set():
            if select.select([sys.stdin], [], [], 0.1)[0] and sys.stdin.read(1) in ("q", "Q", ""):
                pressed.set()
                return

    listener = threading.Thread(target=listen, daemon=True)
    tty.setcbreak(sys.stdin.fileno())
    listener.start()
    try:
        yield pressed
    finally:
        over.set()
        listener.join()
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
