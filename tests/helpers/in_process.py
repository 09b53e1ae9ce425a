"""The command line in this process, up to the first step: hundreds of command lines in the time of a few processes."""

import contextlib
import io
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import jaxtyping
from hydra.core.global_hydra import GlobalHydra

from rankward import cli


@dataclass(frozen=True)
class CommandOutcome:
    """What a command line left: its exit code, what it printed, the files, and the seconds that it took."""

    code: int
    out: str
    err: str
    files: list[str]
    seconds: float


@contextlib.contextmanager
def shapes_unchecked():
    """Without the checks of shapes that only the tests have: they would come before the program's own."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def command_line(*arguments: str, cwd: Path, trains: bool = False) -> CommandOutcome:
    """`rankward` with these arguments in a folder: everything is checked, and a single run that can start trains where
    that is asked for.
    """
    GlobalHydra.instance().clear()
    cli._failures.clear()
    before = set(cwd.rglob("*"))
    out, err = io.StringIO(), io.StringIO()
    code, start = 0, time.perf_counter()
    run = contextlib.nullcontext() if trains else mock.patch("rankward.training.job.run", lambda *_: 0.0)
    with (
        shapes_unchecked(),
        run,
        mock.patch.object(sys, "argv", ["rankward", *arguments]),
        mock.patch.object(sys, "path", list(sys.path)),
        mock.patch.dict(os.environ),
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            cli.main()
        except SystemExit as end:
            code = int(end.code or 0)
    files = [str(path.relative_to(cwd)) for path in set(cwd.rglob("*")) - before if path.is_file()]
    return CommandOutcome(code, out.getvalue(), err.getvalue(), sorted(files), time.perf_counter() - start)


def rankward(*arguments: str, cwd: Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """The outcome of `helpers.commands.rankward`, without a process: it saves seconds of imports."""
    with mock.patch.dict(os.environ, env or {}, clear=env is not None):
        done = command_line(*arguments, cwd=cwd, trains=True)
    return subprocess.CompletedProcess(["rankward", *arguments], done.code, done.out, done.err)


def assert_refused(ended: CommandOutcome, *words: str) -> None:
    """Exit code 2, one line on standard error with these words, and nothing written."""
    assert ended.code == 2, ended
    assert ended.err.startswith("rankward: ") and len(ended.err.splitlines()) == 1, ended
    assert all(word in ended.err for word in words), ended
    assert ended.out == "" and ended.files == [], ended
