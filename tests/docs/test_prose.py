"""Plain English, as far as a search finds exceptions: beginnings of sentences, and words of a house dialect."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GENERATED = ("docs/_build", "docs/api", "docs/reference/config.md", "docs/reference/commands.md")
PAGES = [
    path.relative_to(ROOT).as_posix()
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not path.relative_to(ROOT).as_posix().startswith(GENERATED)
]
SETTINGS = [path.relative_to(ROOT).as_posix() for path in sorted((ROOT / "conf").rglob("*.yaml"))]
ROOMS = sorted(
    path.name
    for path in (ROOT / "src" / "rankward").iterdir()
    if path.suffix == ".py" or (path.is_dir() and path.name != "__pycache__")
)
BEGINNINGS = re.compile(r"(What|Of|Where)\b")
WORDS = re.compile(
    r"\b(told|dear|beside|anew|stands|by the way|(?:of|for) (?:one's|your|its|their) own|one's own)\b", re.IGNORECASE
)
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$", re.DOTALL | re.MULTILINE)
BREAK = re.compile(r"\n\s*(?:\n|[-*|#>]|\d+\. )|\||(?<=[.!?])[*)\"]*\s")  # of paragraphs, items, cells and sentences


def sentences(text: str) -> Iterator[str]:
    """Sentences, headings and cells of a page without its code."""
    start = 0
    text = "\n" + CODE.sub("_", text)
    for end in [*(match.end() for match in BREAK.finditer(text)), len(text)]:
        yield " ".join(text[start:end].strip(' \n*|#>-[("').split()).rstrip(" |*#-")
        start = end


def exceptions(text: str) -> list[str]:
    """Sentences that begin with a banned word and ask no question, or that contain one."""
    return [
        sentence
        for sentence in sentences(text)
        if (BEGINNINGS.match(sentence) and not sentence.endswith("?")) or WORDS.search(sentence)
    ]


def comments(text: str) -> str:
    """Comments of a YAML: adjacent lines as paragraphs, comments after values as lines of their values."""
    return "\n".join(
        line.partition("#")[2] if line[:1] == "#" else f"\n{line.partition('# ')[2]}\n" for line in text.splitlines()
    )


def first_lines(text: str) -> list[str]:
    """First lines of a module's docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docstrings = [ast.get_docstring(node) for node in ast.walk(ast.parse(text)) if isinstance(node, kinds)]
    return [docstring.splitlines()[0] for docstring in docstrings if docstring]


@pytest.mark.parametrize("page", PAGES)
def test_pages(page):
    assert exceptions((ROOT / page).read_text(encoding="utf-8")) == []


def test_comments_of_settings():
    found = {name: exceptions(comments((ROOT / name).read_text(encoding="utf-8"))) for name in SETTINGS}
    assert {name: lines for name, lines in found.items() if lines} == {}


def lines_of_room(room: str) -> list[str]:
    path = ROOT / "src" / "rankward" / room
    files = [path] if path.suffix == ".py" else sorted(path.rglob("*.py"))
    return [line for file in files for line in first_lines(file.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("room", ROOMS)
def test_first_lines_of_docstrings(room):
    assert [line for line in lines_of_room(room) if exceptions(line)] == []


@pytest.mark.parametrize(
    "text",
    [
        "What a run leaves.",
        "A run ends. Where it ends, nothing\nis written.",
        "| `file` | Of a run, only `x` |",
        "## Where it ends",
        "The key is told in a line.",
        "- A metric\n  of your own.",
    ],
)
def test_an_exception_is_found(text):
    assert len(exceptions(text)) == 1


@pytest.mark.parametrize("text", ["What does a run leave?", "```\nWhat a run leaves\n```", "See `told` and `What`."])
def test_a_question_or_code_is_no_exception(text):
    assert exceptions(text) == []


def test_an_exception_in_a_docstring_is_found():
    (line,) = first_lines('def f():\n    """Where it ends.\n\n    More."""')
    assert exceptions(line) == ["Where it ends."]
