"""Files are UTF-8 whatever the locale: wherever text is read or written, its encoding is named."""

import ast
from pathlib import Path

SOURCE = Path(__file__).parent.parent / "src"
OPENING = ("open", "fdopen", "read_text", "write_text", "Popen", "TextIOWrapper", "NamedTemporaryFile")
BINARY = ("os.open", "archive.open")  # a descriptor, and a member of a zip file


def unnamed(source: str) -> list[int]:
    """Lines of calls that open text without naming its encoding; `read_text(path)` is ours."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        last = name.rpartition(".")[2]
        if last not in OPENING or name in BINARY or (last == "read_text" and node.args):
            continue
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        texts = [each.value for argument in arguments for each in ast.walk(argument) if isinstance(each, ast.Constant)]
        binary = any(isinstance(text, str) and "b" in text and set(text) <= set("rwxab+") for text in texts)
        if not binary and not {keyword.arg for keyword in node.keywords} & {"encoding", None}:
            found.append(node.lineno)
    return found


def test_the_rule_finds_what_it_is_for():
    source = "a.open()\na.open('rb')\na.read_text()\na.write_text(x, encoding='utf-8')\nopen(p, 'w')\nos.open(p, 0)\n"
    assert unnamed(source) == [1, 3, 5]


def test_text_names_its_encoding():
    found = {str(file.relative_to(SOURCE)): unnamed(file.read_text(encoding="utf-8")) for file in SOURCE.rglob("*.py")}
    assert len(found) > 100 and {file: lines for file, lines in found.items() if lines} == {}
