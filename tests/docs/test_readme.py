"""What the README and the docs name: commands that are understood as they stand, and files that are there."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rankward.commands import COMMANDS

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "docs").glob("howto/*.md")),
]
ELSEWHERE = (
    "hydra/launcher=",
    "trainer=gpu",
    "--config-dir",
    "ckpt_path",
    "resume",
)  # what wants a cluster, a card, a folder
UNSAID = re.compile(r"[<>…]|FOLDER|YOUR_|RUN\b|COMMAND")


def commands(page: Path) -> list[str]:
    """Lines of blocks without a language (or `sh`), and what stands in backticks, that begin with `rankward `."""
    text = page.read_text()
    blocks = re.findall(r"^```([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    lines = [line for language, block in blocks if language in ("", "sh") for line in block.splitlines()]
    lines += re.findall(r"`(rankward [^`]+)`", re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE))
    told = [re.split(r"\s+# ", line)[0].strip() for line in lines]
    return [line for line in told if line.startswith("rankward ") and not UNSAID.search(line)]


@pytest.mark.slow
def test_commands_are_understood_as_they_stand(tmp_path):
    asked = list(dict.fromkeys(line for page in PAGES for line in commands(page)))
    assert len(asked) > 25
    todo = []
    for line in asked:
        assert subprocess.run(["bash", "-n", "-c", line], capture_output=True).returncode == 0, line
        words = shlex.split(line)[1:]
        if words[0] in (*COMMANDS, "-sc") or words == ["--help"] or any(word.startswith(ELSEWHERE) for word in words):
            continue
        alone = "-m" not in words
        todo.append(
            [
                line,
                [*words, "--cfg", "job"] if alone else [*words, *(["--dry-run"] if "--dry-run" not in words else [])],
            ]
        )
    log = tmp_path / "log.txt"
    worker = [sys.executable, "-m", "rankward.paper._worker", str(log)]
    done = subprocess.run(worker, input=json.dumps(todo), capture_output=True, text=True, cwd=tmp_path)
    ended = {event["ends"]: event["code"] for event in map(json.loads, done.stdout.splitlines()) if "ends" in event}
    assert list(ended) == [line for line, _ in todo], done.stderr
    assert not {line: code for line, code in ended.items() if code}, log.read_text()[-3000:]


def test_links_lead_somewhere():
    for page in PAGES:
        for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
            if link.startswith(("http", "#")):
                continue
            name, _, heading = link.partition("#")
            path = page.parent / name
            assert path.exists(), f"{page.name}: {link}"
            if heading:
                found = [
                    re.sub(r"[^\w\- ]", "", line.lstrip("# ").lower()).replace(" ", "-")
                    for line in path.read_text().splitlines()
                    if line.startswith("#")
                ]
                assert heading in found, f"{page.name}: {link}"
