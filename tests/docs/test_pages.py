"""The pages' own examples, run in order in an empty folder: what a reader types must work as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import forked

DOCS = Path(__file__).parents[2] / "docs"
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in [DOCS / "tutorial.md", *DOCS.glob("howto/*.md")])
BLOCK = re.compile(r"^```(console|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"[|&;<>$`*?~]")  # characters that only a shell understands


def steps(page: str) -> list[tuple[str, str, str]]:
    """Blocks of a page that can be run: kind, text, and for a command what its refusal must say (`# fails: ...`)."""
    found = []
    for kind, text in BLOCK.findall((DOCS / page).read_text()):
        if kind == "python":
            found.append((kind, text, ""))
            continue
        for line in text.splitlines():
            if line.startswith("$ "):
                command, _, refusal = line[2:].partition("# fails: ")
                found.append((kind, command.partition("  #")[0].strip(), refusal.strip()))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if steps(page)])
def test_commands_of_a_page_work(page, tmp_path):
    shell = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    for kind, text, refusal in steps(page):
        if kind == "python":
            done = forked.python(text, cwd=tmp_path)
        elif text.startswith("rankward ") and not SHELL.search(text):
            done = forked.rankward(*shlex.split(text)[1:], cwd=tmp_path)
        else:
            done = subprocess.run(["bash", "-c", text], cwd=tmp_path, capture_output=True, text=True, env=shell)
        if refusal:
            assert done.returncode == 2 and refusal in done.stderr, (text, done.stderr)
        else:
            assert done.returncode == 0, (text, done.stdout, done.stderr)


@pytest.mark.slow
def test_the_page_from_python_is_one_script(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("\n".join(text for _, text, _ in steps("python.md")), encoding="utf-8")
    env = os.environ | {"MPLBACKEND": "agg"}
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("*.png"))) == 6 and "mine/trace" in done.stdout


def test_the_tutorial_has_something_to_run():
    kinds = [kind for kind, _, _ in steps("tutorial.md")]
    assert kinds.count("console") > 10 and kinds.count("python") > 5
