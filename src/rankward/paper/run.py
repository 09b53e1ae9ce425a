"""`rankward paper`: run every step that is not done yet, show the progress, and write the page."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from rankward import __version__, results
from rankward.config import ConfigError
from rankward.config.extras import require
from rankward.paper.steps import FIGURES, SWEEPS, Step, steps
from rankward.terminal import duration, say

DONE, LOG = "steps.json", "log.txt"
KEEP = 0.97  # how far a step's bar runs by its estimate alone


def make_paper(out: Path, quick: bool) -> int:
    """Run the missing steps, copy the figures, write the page; return 0, or 1 if a step has failed.

    A step is done once: called again, with the folder of one that was interrupted, this goes on where it stopped.

    Raises:
        ConfigError: a folder of something else, or of a paper made the other way (`quick` or not).
        KeyboardInterrupt: interrupted; what was done is kept.
        ResultsError: files that cannot be written or read.
        FolderLocked: another process makes a paper there.
    """
    require("report", "rankward paper")
    done = _begun(out, quick)
    out.mkdir(parents=True, exist_ok=True)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.default_int_handler)
    with results.claimed(out):
        return _made(out, quick, done)


def _made(out: Path, quick: bool, done: dict[str, Any]) -> int:
    from rankward.paper.page import write_page

    every = steps(quick)
    _write(out, quick, done)
    todo = [step for step in every if not _is_done(done, step)]
    if todo:
        about = duration(sum(step.seconds for step in todo))
        say(f"{len(todo)} of {len(every)} steps, about {about}; log: {out / LOG}")
        with _display(todo) as show:
            for event in _work(todo, out, show):
                step = next(step for step in every if step.name == event["ends"])
                done[step.name] = {"command": step.command, "code": event["code"], "seconds": event["seconds"]}
                _write(out, quick, done)
                if event["code"] == 130:
                    raise KeyboardInterrupt(f"interrupted; the same command goes on in {out}")
                show.ended(step, event)
    figures = _gather(out)
    page = write_page(out, quick, done)
    failed = [step.name for step in every if not _is_done(done, step)]
    for name in failed:
        say(f"rankward: paper: {name} has failed, see {out / LOG}", error=True)
    say(f"figures: {out / FIGURES} ({', '.join(figures)})")
    say(f"paper:   {page}")
    return 1 if failed else 0


def _begun(out: Path, quick: bool) -> dict[str, Any]:
    """The names of the finished steps."""
    if out.exists() and not out.is_dir():
        raise ConfigError("paper --out", str(out), "a folder: this is a file")
    file = out / DONE
    if not file.is_file():
        if out.is_dir() and any(path.name != results.LOCK for path in out.iterdir()):
            raise ConfigError("paper --out", str(out), "a new folder, or one of a paper: this holds something else")
        return {}
    try:
        stored = json.loads(file.read_text(encoding="utf-8"))
        begun, was_quick = dict(stored["steps"]), bool(stored["quick"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise results.io_error("read", file, error) from error
    if was_quick != quick:
        other = "with --quick" if was_quick else "without --quick"
        raise ConfigError("paper --out", str(out), f"another folder: the paper there was made {other}")
    return begun


def _write(out: Path, quick: bool, done: dict[str, Any]) -> None:
    text = json.dumps({"quick": quick, "version": __version__, "steps": done}, indent=2) + "\n"
    results.write_atomic(out / DONE, lambda path: path.write_text(text, encoding="utf-8"))


def _is_done(done: dict[str, Any], step: Step) -> bool:
    found = done.get(step.name, {})
    return found.get("code") == 0 and found.get("command") == step.command


def _work(todo: list[Step], out: Path, show: Any) -> Iterator[dict[str, Any]]:
    """Events of the worker as steps end; one that dies has failed in the step that it was at, and another goes on."""
    remaining = list(todo)
    while remaining:
        (out / SWEEPS).mkdir(exist_ok=True)
        command = [sys.executable, "-P", "-m", "rankward.paper._worker", str(out / LOG)]
        # In a session of its own: Ctrl-C reaches it once, from here.
        pipes: Any = {
            "stdin": subprocess.PIPE,
            "stdout": subprocess.PIPE,
            "start_new_session": True,
            "encoding": "utf-8",
        }
        with subprocess.Popen(command, **pipes) as worker:
            assert worker.stdin is not None and worker.stdout is not None
            try:
                with contextlib.suppress(BrokenPipeError):
                    json.dump([[step.name, step.in_folder(out)] for step in remaining], worker.stdin)
                    worker.stdin.close()
                for line in worker.stdout:
                    event = json.loads(line)
                    if "begins" in event:
                        show.begins(remaining[0])
                    else:
                        remaining.pop(0)
                        yield event
            except BaseException:
                with contextlib.suppress(KeyboardInterrupt, subprocess.TimeoutExpired):
                    worker.send_signal(signal.SIGINT)
                    worker.wait(timeout=60)  # while it saves its checkpoints
                raise
        if worker.returncode != 0 and remaining:
            yield {"ends": remaining.pop(0).name, "code": worker.returncode, "seconds": float("nan")}


def _gather(out: Path) -> list[str]:
    """Copy the figures of all sweeps side by side; their names."""
    names = set()
    for picture in sorted((out / SWEEPS).glob(f"*/{FIGURES}/*")):
        if picture.parent.parent.name in ("figure1_float32", "theorem_2"):
            continue  # beside others of the same name, which are the paper's
        results.write_atomic(out / FIGURES / picture.name, partial(shutil.copyfile, picture))
        names.add(picture.stem)
    return sorted(names | {path.stem for path in (out / FIGURES).glob("figure3.*")})


class _Plain:
    """Print a line when a step ends, for pipes and logs."""

    def begins(self, step: Step) -> None: ...

    def ended(self, step: Step, event: dict[str, Any]) -> None:
        word = "done" if event["code"] == 0 else f"FAILED ({event['code']})"
        say(f"{step.name}: {word} after {event['seconds']:.1f} s")


class StepBar(_Plain):
    """One bar for all steps, in seconds of the estimate, which is made better by every step that ends."""

    def __init__(self, progress: Any, todo: list[Step]) -> None:
        self.progress = progress
        self.total = sum(step.seconds for step in todo)
        self.task = progress.add_task("starting", total=self.total)
        self.past = self.real = 0.0  # seconds of the estimate that are over, and what they took
        self.step: Step | None = None
        self.began = time.monotonic()

    def begins(self, step: Step) -> None:
        self.step, self.began = step, time.monotonic()
        self.progress.update(self.task, description=step.name)

    def ended(self, step: Step, event: dict[str, Any]) -> None:
        self.past += step.seconds
        self.real += event["seconds"] if event["seconds"] > 0 else 0
        self.step = None
        self.progress.console.print(f"{step.name}: {'done' if event['code'] == 0 else 'FAILED'}", highlight=False)
        self.tick()

    def tick(self) -> None:
        pace = self.real / self.past if self.past else 1.0
        elapsed = 0.0
        if self.step is not None:
            spent = (time.monotonic() - self.began) / max(pace, 1e-9)
            elapsed = min(spent, KEEP * self.step.seconds)
        left = pace * (self.total - self.past - elapsed)
        self.progress.update(self.task, completed=self.past + elapsed, left=duration(left))


@contextlib.contextmanager
def _display(todo: list[Step]) -> Iterator[_Plain]:
    if not sys.stderr.isatty():
        yield _Plain()
        return
    import threading

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description:16}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[left]} left"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = StepBar(progress, todo)
        over = threading.Event()

        def ticking() -> None:
            while not over.wait(0.25):
                bar.tick()

        thread = threading.Thread(target=ticking, daemon=True)
        bar.tick()
        thread.start()
        try:
            yield bar
        finally:
            over.set()
            thread.join()
