"""Text that reaches a terminal is text, and a stream that fails stops nothing."""

import io
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import polars as pl
import pytest
from rich.console import Console

from helpers.commands import rankward
from helpers.received import received
from rankward import results
from rankward.config.errors import SweepError
from rankward.config.explain import print_error
from rankward.sweeps.status import SweepMonitor
from rankward.sweeps.status_command import show_status
from rankward.sweeps.summary import closing_table
from rankward.sweeps.watch import draw, watch
from rankward.terminal import say, visible

RED = "\x1b[31mred\x1b[0m"
RANKWARD = f"{sys.executable} -m rankward"
SWEEP = "-m lr.eta=0.05 init=balanced max_iterations=200 logger=none metrics=few hydra.sweep.dir=s"


def shell(command, cwd):
    return subprocess.run(["bash", "-c", command], cwd=cwd, capture_output=True, text=True, timeout=120)


def test_every_control_character_is_shown():
    for number in [*range(0x300), *range(0x2000, 0x2100), 0xD800, 0xDCFF]:
        character = chr(number)
        told = visible(f"a{character}b")
        if unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") or unicodedata.bidirectional(character) in (
            "LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI",
        ):  # fmt: skip
            assert told.isascii() and told.isprintable() and told == f"a{told[1:-1]}b"
            assert told[1:-1].encode().decode("unicode_escape") == character
        elif number not in (0x61C, 0x200E, 0x200F):
            assert told == f"a{character}b"


def test_a_line_stays_a_line(capsys):
    say("one\ntwo", f"three {RED}")
    say("four\r", error=True)
    told = capsys.readouterr()
    assert told.out == "one\\ntwo\nthree \\x1b[31mred\\x1b[0m\n" and told.err == "four\\r\n"


def test_errors_show_what_they_were_given(capsys):
    assert print_error(SweepError([f"job 0 (x=a\n{RED}): no", "job 1: no"])) == 2
    assert print_error(ValueError(f"{RED}\x07")) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "rankward: job 0 (x=a\\n\\x1b[31mred\\x1b[0m): no" and lines[1] == "rankward: job 1: no"
    assert lines[2].startswith("rankward: ValueError: \\x1b[31mred") and len(lines) == 3


def test_failures_folders_and_overrides_are_shown_as_text(tmp_path, capsys):
    sweep = received(tmp_path / f"of {RED}\n[/x]", stored=["init.scale=1", f"+a='[/x] {RED}\n'"])
    (sweep / "1" / "summary.json").unlink()
    (sweep / "1" / "failure.txt").write_text(f"[/x] why {RED}\x07\n")
    assert show_status(sweep) == 1
    assert watch(sweep, 1, once=True) == 1
    told = capsys.readouterr().out
    assert told.count("why \\x1b[31mred\\x1b[0m\\x07") == 2 and "[/x]" in told
    assert not {character for character in told if unicodedata.category(character) == "Cc"} - {"\n"}
    runs = results.gather(sweep)
    table = closing_table([runs.with_columns(overrides=pl.Series(["a=1", "b=\x1b[2J\n"]))])
    assert "b=\\x1b[2J\\n" in table and table.count("\n") == 2


def test_overrides_with_brackets_are_not_split(tmp_path):
    sweep = received(tmp_path / "s", runs=1, stored=["logger=[csv,tensorboard]"])
    console = Console(width=150, record=True, file=io.StringIO())
    console.print(draw(sweep, SweepMonitor(sweep).look(), 150))
    assert "logger=[csv,tensorboard] seed=0" in console.export_text()


def test_name_that_is_not_utf_8_can_be_printed(tmp_path):
    done = rankward("status", os.fsdecode(b"caf\xe9\x1b"), cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.startswith("rankward: status: 'caf\\udce9\\x1b' is not allowed")


def test_full_standard_output_is_reported_and_a_closed_pipe_is_not(tmp_path):
    full = shell(f"{RANKWARD} --version > /dev/full", tmp_path)
    assert full.returncode == 1
    assert full.stderr == (
        "rankward: standard output: No space left on device; some of what was printed is lost, and nothing else\n"
    )
    gone = shell(f"set -o pipefail; {RANKWARD} --help | true", tmp_path)
    assert (gone.returncode, gone.stderr) == (0, "")
    closed = shell(f"{RANKWARD} --version >&- 2>&- <&-", tmp_path)
    assert closed.returncode == 0


@pytest.mark.slow
def test_output_that_cannot_be_printed_does_not_stop_training(tmp_path):
    done = shell(f"{RANKWARD} {SWEEP} depth=2 > /dev/full 2>&- <&-", tmp_path)
    assert done.returncode == 1  # all was trained, and something printed was lost
    assert results.gather(tmp_path / "s")["status"].to_list() == ["max_iterations"]
    assert (tmp_path / "s" / results.RUNS).is_file()


@pytest.mark.slow
@pytest.mark.parametrize(("streams", "code"), [("2>&-", 0), (">&-", 0), ("2>/dev/full", 0), ("| head -1", 0)])
def test_streams_that_fail_stop_no_sweep(tmp_path, streams, code):
    done = shell(f"set -o pipefail; {RANKWARD} {SWEEP} depth=2,3 {streams}", tmp_path)
    assert done.returncode == code, done.stderr
    assert results.gather(tmp_path / "s")["status"].to_list() == ["max_iterations"] * 2
    assert (tmp_path / "s" / results.RUNS).is_file()


def test_the_terminal_has_one_door():
    """Nothing is printed past `say`, but for rich's own views and the records between the paper's processes."""
    source = Path(results.__file__).parents[1]
    allowed = {"terminal.py", "_worker.py"}
    found = [
        path.name
        for path in source.rglob("*.py")
        for line in path.read_text().splitlines()
        if line.lstrip().startswith(("print(", "tqdm.write(", "sys.stdout.write(", "sys.stderr.write("))
    ]
    assert set(found) <= allowed
