"""Pages that are made from the code at every build: each config key, each command, each public name."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from sphinx.application import Sphinx

from rankward.commands import COMMANDS
from rankward.config import CONFIG_FOLDER, registry
from rankward.config.schema import MATRICES, TENSORS, RunConfig

GROUPS = {
    "factorization": "What is trained.",
    "depth": "How many factors. Any other number: `depth.layers=N`.",
    "lr": "How it moves: descent with a fixed or an adaptive learning rate, or gradient flow.",
    "init": "Where the factors start.",
    "observations": "Which entries are seen, and their values.",
    "metrics": "What is measured along a run, and which statements it is checked against.",
    "logger": "Where metrics are logged beside the run's own files. Lists work: `logger=[wandb,csv]`.",
    "trainer": "The device.",
    "experiment": "A figure of the paper, or one beyond it: a delta over the defaults.",
}
PACKAGES = {
    "rankward": "A sweep's results.",
    "rankward.factorizations": "What is trained, and where it starts.",
    "rankward.observations": "What is observed.",
    "rankward.metrics": "Metrics of a trace, torchmetrics over `rankward.metrics.functional`.",
    "rankward.metrics.functional": "The mathematics of the metrics, as pure functions.",
    "rankward.theory": "Bounds, certificates, the solution set, departures.",
    "rankward.theory.baselines": "Solutions of least norm.",
    "rankward.dynamics": "The engines.",
    "rankward.results": "The output contract: the only place that knows file names.",
    "rankward.config": "Schemas, checks and errors.",
}
HIDDEN = ("_target_", "name", "defaults")
OF_THE_PAPER = {
    key: f"null: {getattr(MATRICES, key):,} for matrices, {getattr(TENSORS, key):,} for tensors"
    for key in ("max_iterations", "stop_loss", "stop_checks", "check_every")
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """A YAML of a group: its header, and `key -> (default, comment)`."""

    group: str
    name: str
    header: str
    schema: type | None
    keys: dict[str, tuple[Any, str]]


def choices(group: str) -> list[Choice]:
    """All choices of a group; a key without a comment has that of another choice of the same schema."""
    read = [_choice(group, file) for file in sorted((CONFIG_FOLDER / group).glob("*.yaml"))]
    said: dict[tuple[type | None, str], str] = {}
    for choice in read:
        for key, (_, text) in choice.keys.items():
            if text:
                said.setdefault((choice.schema, key), text)
    return [
        dataclasses.replace(
            c, keys={key: (value, text or said.get((c.schema, key), "")) for key, (value, text) in c.keys.items()}
        )
        for c in read
    ]


def _choice(group: str, file: Path) -> Choice:
    text = file.read_text()
    header = [line[1:].removeprefix(" ") for line in text.splitlines() if line.startswith("#")]
    header = [line for line in header if not line.startswith("@package")]
    loaded = yaml.safe_load(text) or {}
    named = re.search(r"/hydra/rankward/(\w+)@", text)
    schema = registry.SCHEMAS[named[1]] if named else None
    keys: dict[str, Any] = {}
    if schema is not None:
        keys |= {field.name: _default(field) for field in dataclasses.fields(schema)}
    keys |= loaded
    comments = _comments(text)
    kept = {key: (value, comments.get(key, "")) for key, value in keys.items() if key not in HIDDEN}
    return Choice(group, file.stem, "\n".join(header), schema, kept)


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _comments(text: str) -> dict[str, str]:
    """What stands behind a key of the first level, and in comments of their own right below it."""
    found: dict[str, str] = {}
    for line in text.splitlines():
        own = re.match(r"(\w+):[^#]*#\s*(.*)", line)
        if own:
            found[own[1]] = own[2].strip()
    return found


def config_page() -> str:
    """Every key of every group, and of the top level."""
    lines = ["# Every key", "", "Made from the schemas and from the files of `conf/` when these pages are built.", ""]
    lines += [
        "`group=choice` picks a choice, `group.key=value` changes a key; a wrong one is told with the nearest.",
        "",
    ]
    lines += ["## Top level", "", *_top_level()]
    for group, what in GROUPS.items():
        lines += ["", f"## {group}", "", what, ""]
        for choice in choices(group):
            lines += _told(choice)
    lines += _hydras()
    return "\n".join(lines) + "\n"


def _hydras() -> list[str]:
    """Keys of Hydra's own that a sweep wants, and of our launchers and sweepers."""
    from hydra_plugins.rankward import batched_launcher, cluster_launchers, grid_sweeper

    lines = [
        "",
        "## hydra",
        "",
        "Hydra's own; a [sweep](../howto/sweep.md) and a [cluster](../howto/cluster.md) use these.",
        "",
    ]
    lines += ["| key | |", "|---|---|"]
    lines += [
        "| `hydra.run.dir`, `hydra.sweep.dir` | where a run or a sweep lands; one that stands there is gone on with |"
    ]
    lines += ["| `hydra/launcher` | `batched` (default), `basic` (job by job), `slurm`, `submitit_local` |"]
    lines += ["| `hydra/sweeper` | `grid` (default), `refine`, `basic` |", ""]
    schemas = {
        "launcher (batched)": batched_launcher.BatchedLauncherConf,
        "launcher (slurm)": cluster_launchers.SlurmConf,
        "sweeper": grid_sweeper.GridSweeperConf,
        "sweeper.refine": grid_sweeper.Refine,
    }
    for name, schema in schemas.items():
        lines += [
            f"### `hydra.{name.replace(' (', '` (').replace(')', ')') if '(' in name else name + '`'}",
            "",
            "| key | default | type |",
            "|---|---|---|",
        ]
        hints = _types(schema)
        for field in dataclasses.fields(schema):
            if field.name not in HIDDEN or field.name == "name":
                prefix = f"hydra.{name.split(' ')[0]}"
                lines.append(f"| `{prefix}.{field.name}` | {_shown(_default(field))} | {hints[field.name]} |")
        lines.append("")
    return lines


def _told(choice: Choice) -> list[str]:
    lines = [f"### `{choice.group}={choice.name}`", ""]
    if choice.group == "experiment":
        return [*lines, "```text", choice.header, "```", ""]
    for line in choice.header.splitlines():
        if line.startswith("      "):  # goes on with the item above
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(f"- {' '.join(line.split())}" if line.startswith("  ") else line)
    lines.append("")
    hints = _types(choice.schema) if choice.schema else {}
    if choice.keys and choice.group != "metrics":
        lines += ["| key | default | type | |", "|---|---|---|---|"]
        prefix = f"logger.{choice.name}" if choice.group == "logger" else choice.group
        for key, (value, said) in choice.keys.items():
            lines.append(f"| `{prefix}.{key}` | {_shown(value)} | {hints.get(key, '')} | {_cell(said)} |")
    elif choice.group == "metrics":
        lines += _columns(choice)
    return [*lines, ""]


def _columns(choice: Choice) -> list[str]:
    lines = []
    for part in ("columns", "certificates"):
        found = choice.keys.get(part, ({}, ""))[0]
        if found:
            lines += [f"| `metrics.{part}.…` | class | arguments |", "|---|---|---|"]
        for name, node in found.items():
            others = ", ".join(f"`{key}: {value}`" for key, value in node.items() if key != "_target_")
            lines.append(f"| `{name}` | `{node['_target_']}` | {others} |")
        lines.append("")
    return lines


def _top_level() -> list[str]:
    text = (CONFIG_FOLDER / "config.yaml").read_text()
    loaded, comments, hints = yaml.safe_load(text), _comments(text), _types(RunConfig)
    lines = ["| key | default | type | |", "|---|---|---|---|"]
    for field in dataclasses.fields(RunConfig):
        if field.name in GROUPS:
            continue
        value = loaded[field.name]
        if isinstance(value, dict):
            inner = dict(re.findall(r"^  (\w+):[^#]*#\s*(.*)$", text, re.MULTILINE))
            nested = _types(type(field.default_factory()))
            for key, default in value.items():
                lines.append(f"| `{field.name}.{key}` | {_shown(default)} | {nested[key]} | {_cell(inner[key])} |")
        else:
            said = OF_THE_PAPER.get(field.name) or comments.get(field.name, "")
            lines.append(f"| `{field.name}` | {_shown(value)} | {hints[field.name]} | {_cell(said)} |")
    return lines


def _types(schema: type) -> dict[str, str]:
    names = {float: "number", int: "integer", str: "text", bool: "true or false", Any: ""}
    found = {}
    for key, hint in get_type_hints(schema).items():
        text = names.get(hint) if hint in names else str(hint)
        for kind, name in (("float", "number"), ("int", "integer"), ("str", "text")):
            text = re.sub(rf"\b{kind}\b", name, text or "")
        text = re.sub(r"typing\.Optional\[(.*)\]", r"\1 or null", text.replace("typing.Any", "")).replace(
            " | None", " or null"
        )
        text = text.replace("hydra_plugins.rankward.grid_sweeper.Refine", "mapping")
        text = re.sub(r"(?:typing\.)?[dD]ict\[.*\]", "mapping", text).replace("typing.List", "list")
        found[key] = re.sub(r"list\[(\w+)\]", r"list of \1s", text).replace("texts", "text")
    return found


def _shown(value: Any) -> str:
    if value == "???":
        return "must be given"
    if value is None or isinstance(value, bool):
        return f"`{str(value).lower().replace('none', 'null')}`"
    return f"`{value}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def commands_page() -> str:
    """What `rankward COMMAND` takes."""
    lines = ["# Every command", "", "Beside training, which is Hydra's (`rankward key=value`, `rankward -m …`):", ""]
    for name, parser in sorted(COMMANDS.items()):
        parser.formatter_class = _Wide
        lines += [
            f"## rankward {name}",
            "",
            "```text",
            parser.format_help().strip(),
            "```",
            "",
        ]
    lines += [
        "## rankward resume",
        "",
        "Go on with a sweep's or a run's folder; overrides after it take the place of those that made it.",
        "",
        "```text",
        "usage: rankward resume FOLDER [key=value ...]",
        "```",
        "",
        "## Flags",
        "",
        "| | |",
        "|---|---|",
        "| `-m` | a sweep |",
        "| `--dry-run` | of a sweep: its ensembles, memory and the time at most; trains and writes nothing |",
        "| `--config-dir FOLDER` | groups of your own: `FOLDER/metrics/mine.yaml` is `metrics=mine` |",
        "| `--config-name NAME`, `--config-path FOLDER` | another config in the place of Rankward's |",
        "| `--cfg job` | print the config that a run would have |",
        "| `--help`, `--hydra-help`, `--version` | |",
        "| `RANKWARD_TRACEBACK=1` | in the environment: the traceback of an error |",
        "| `RANKWARD_CACHE=FOLDER` | in the environment: where compiled kernels are kept |",
        "",
        "Exit codes: 0, or 2 for bad input, 1 for a failure, 130 when interrupted. A standard output that cannot be",
        "written is a failure; one that is closed, or whose reader has gone, is not.",
        "",
    ]
    return "\n".join(lines)


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


def api_page(package: str, what: str) -> str:
    """The public names of a package, one after the other."""
    import importlib

    module = importlib.import_module(package)
    names = [name for name in getattr(module, "__all__", ()) if not name.isupper()]
    names = names or [n for n, v in vars(module).items() if _is_own(v, package) and not n.startswith("_")]
    lines = [f"# {package}", "", what, ""]
    for name in names:
        value = getattr(module, name, None)
        kind = "class" if inspect.isclass(value) else "function" if callable(value) else None
        kind = "exception" if kind == "class" and issubclass(value, BaseException) else kind
        if kind:
            lines += ["```{eval-rst}", f".. auto{kind}:: {package}.{name}", "```", ""]
    return "\n".join(lines)


def _is_own(value: Any, package: str) -> bool:
    return (inspect.isclass(value) or inspect.isfunction(value)) and value.__module__ == package


def pages() -> dict[str, str]:
    """Every generated page by its name."""
    made = {"reference/config": config_page(), "reference/commands": commands_page()}
    return made | {f"api/{package}": api_page(package, what) for package, what in PACKAGES.items()}


def _write(app: Sphinx) -> None:
    for name, text in pages().items():
        path = Path(app.srcdir) / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text() != text:
            path.write_text(text)


def _readable(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text: absolute values, exponents and stars mean themselves outside of code."""
    for place, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [
            re.sub(r"(?<!\\)([|*_]+)(?=\W|$)|(?<!\\)([|*])", lambda m: "\\" + m[0], part) for part in parts[::2]
        ]
        lines[place] = "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", _write)
    app.connect("autodoc-process-docstring", _readable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
