"""Import rules between the rooms of `src/`, as the table in docs/design.md states them."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DESIGN = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
SOURCES = {
    path.relative_to(ROOT / "src").as_posix(): path.read_text(encoding="utf-8")
    for path in sorted((ROOT / "src").rglob("*.py"))
}
NAME = re.compile(r"`([^`\n]+)`")


@dataclass(frozen=True)
class Row:
    """A row of the table: files and folders that may import each other, and the rooms that they may import."""

    rooms: tuple[str, ...]
    imports: frozenset[str]
    is_first: bool

    @property
    def names(self) -> set[str]:
        """Names of the row in the column `imports`."""
        return {"tools"} if self.is_first else {room.rstrip("/").removesuffix(".py") for room in self.rooms}


def read_table(page: str) -> list[Row]:
    """Rows of the table under `## Rooms`."""
    section = page.partition("\n## Rooms\n")[2].partition("\n## ")[0]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in section.splitlines() if line[:1] == "|"]
    return [
        Row(
            tuple(NAME.findall(rooms)),
            frozenset() if imports == "nothing" else frozenset(imports.split(", ")),
            is_first=index == 0,
        )
        for index, (rooms, _, imports) in enumerate(cells[2:])
    ]


def row_of(path: str, table: list[Row]) -> Row | None:
    """Row that holds a file: a row that names the file itself comes before one that names its folder."""
    path = path.removeprefix("rankward/")
    found = [(len(room), row) for row in table for room in row.rooms if path == room or path.startswith(room)]
    return max(found, key=lambda pair: pair[0])[1] if found else None


def imported_files(text: str, files: Mapping[str, str]) -> Iterator[tuple[int, str]]:
    """Line and file of each import of ours, inside functions and under TYPE_CHECKING too.

    The version is left out: any file may import it.
    """
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not followed"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            if name.split(".")[0] not in ("rankward", "hydra_plugins") or name == "rankward.__version__":
                continue
            candidates = [path.replace(".", "/") for path in (name, name.rpartition(".")[0])]
            yield (
                node.lineno,
                next(file for path in candidates for file in (f"{path}.py", f"{path}/__init__.py") if file in files),
            )


def imports_between_rows(files: Mapping[str, str], table: list[Row]) -> dict[tuple[Row, Row | None], list[str]]:
    """Imports from one row to another, or to a file of no row, with their file and line."""
    edges: dict[tuple[Row, Row | None], list[str]] = {}
    for path, text in files.items():
        source = row_of(path, table)
        for line, target_path in imported_files(text, files):
            target = row_of(target_path, table)
            if source is not None and source != target:
                edges.setdefault((source, target), []).append(f"{path}:{line} imports {target_path}")
    return edges


def violations(files: Mapping[str, str], table: list[Row]) -> list[str]:
    """Imports that the table does not allow."""
    edges = imports_between_rows(files, table)
    return [
        text
        for (source, target), texts in edges.items()
        if target is None or not source.imports & target.names
        for text in texts
    ]


def test_every_file_belongs_to_a_room():
    table = read_table(DESIGN)
    assert [path for path in SOURCES if row_of(path, table) is None] == ["rankward/__init__.py"], "add it to a row"


def test_the_table_allows_only_imports_of_earlier_rows():
    earlier: set[str] = set()
    for row in read_table(DESIGN):
        assert row.imports <= earlier, f"{row.rooms} imports a later row: {sorted(row.imports - earlier)}"
        earlier |= row.names


def test_every_import_is_allowed():
    assert violations(SOURCES, read_table(DESIGN)) == []


def test_every_allowed_import_is_used():
    table = read_table(DESIGN)
    edges = imports_between_rows(SOURCES, table)
    for row in table:
        used = {name for source, target in edges if source == row and target for name in row.imports & target.names}
        assert row.imports == used, f"{row.rooms} imports no {sorted(row.imports - used)}: remove it from the table"


@pytest.mark.parametrize(
    "text",
    [
        "from rankward.training.job import run",
        "import rankward.training.job",
        "from rankward import training",
        "def f():\n    from rankward.training import job",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from rankward.training.job import run",
    ],
)
def test_an_upward_import_is_found(text):
    files = {**SOURCES, "rankward/metrics/new.py": text}
    (found,) = violations(files, read_table(DESIGN))
    assert found.startswith("rankward/metrics/new.py:") and "imports rankward/training/" in found


def test_an_import_in_an_entry_point_inside_a_room_is_found():
    files = {**SOURCES, "rankward/paper/new.py": "from rankward.cli import main"}
    assert violations(files, read_table(DESIGN)) == ["rankward/paper/new.py:1 imports rankward/cli.py"]


def test_every_file_in_the_design_page_exists():
    bases = (ROOT, ROOT / "src", ROOT / "src" / "rankward")
    paths = {name for name in NAME.findall(DESIGN) if re.fullmatch(r"[\w./]+(/|\.py|\.md|\.yaml)", name)}
    assert paths >= {room for row in read_table(DESIGN) for room in row.rooms}
    assert not [path for path in sorted(paths) if not any((base / path).exists() for base in bases)]
