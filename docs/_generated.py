"""Generated pages: config keys, commands, and the public names of each package.

Config keys come from the schemas and from the comments of `conf/`, which no extension of Sphinx reads. Commands do not
use sphinx-argparse: it would replace ten lines here and need a dependency and a parser of all commands.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import re
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from sphinx.application import Sphinx

from rankward.commands import COMMANDS
from rankward.config import CONFIG_FOLDER, registry
from rankward.config.choices import RESERVED
from rankward.config.schema import MATRICES, TENSORS, RunConfig

GROUPS = {
    "factorization": "The model that is trained.",
    "depth": "The number of factors. Any other number is `depth.layers=N`.",
    "lr": "The dynamics: steps of a constant, a scheduled or an adaptive learning rate, or gradient flow.",
    "optimizer": "The rule for a step. The learning rate is `lr.eta`.",
    "loss": "The price of a difference from an observed value, and how a run's loss follows from all of them.",
    "init": "The initial factors.",
    "observations": "The observed entries and their values.",
    "metrics": "The metrics of a run, and the statements that it is checked against.",
    "logger": "Loggers, in addition to the files of a run. Lists work: `logger=[wandb,csv]`.",
    "trainer": "The device.",
    "experiment": "A figure of the paper or an additional one, as changes to the defaults.",
}
PACKAGES = (
    "rankward",
    "rankward.factorizations",
    "rankward.optimizers",
    "rankward.losses",
    "rankward.models",
    "rankward.observations",
    "rankward.metrics",
    "rankward.metrics.functional",
    "rankward.callbacks",
    "rankward.theory",
    "rankward.theory.baselines",
    "rankward.dynamics",
    "rankward.results",
    "rankward.config",
)
HIDDEN = (*RESERVED, "defaults")
PAPER_DEFAULTS = {
    key: f"null: {getattr(MATRICES, key):,} for matrices, {getattr(TENSORS, key):,} for tensors"
    for key in ("max_iterations", "stop_loss", "stop_checks", "check_every")
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """A YAML file of a group: its header comment, and the default and the comment of each key."""

    group: str
    name: str
    header: str
    schema: type | None
    keys: dict[str, tuple[Any, str]]


def choices(group: str) -> list[Choice]:
    """Choices of a group. A key without a comment takes it from another choice of the same schema."""
    read = [_choice(group, file) for file in sorted((CONFIG_FOLDER / group).glob("*.yaml"))]
    comments: dict[tuple[type | None, str], str] = {}
    for choice in read:
        for key, (_, text) in choice.keys.items():
            if text:
                comments.setdefault((choice.schema, key), text)
    return [
        dataclasses.replace(
            c, keys={key: (value, text or comments.get((c.schema, key), "")) for key, (value, text) in c.keys.items()}
        )
        for c in read
    ]


def _choice(group: str, file: Path) -> Choice:
    text = file.read_text(encoding="utf-8")
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
    if group == "observations":  # keys of a part, such as `schedule.until`
        inner = dict(re.findall(r"^  (\w+):[^#\n]*#\s*(.*)$", text, re.MULTILINE))
        for key in [key for key, value in loaded.items() if isinstance(value, dict)]:
            part = keys.pop(key)
            keys |= {f"{key}.{name}": value for name, value in part.items()}
            comments |= {f"{key}.{name}": inner.get(name, "") for name in part}
    kept = {key: (value, comments.get(key, "")) for key, value in keys.items() if key not in HIDDEN}
    return Choice(group, file.stem, "\n".join(header), schema, kept)


def _default(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _comments(text: str) -> dict[str, str]:
    """Comments behind the keys of the first level."""
    return {key: comment.strip() for key, comment in re.findall(r"^(\w+):[^#\n]*#\s*(.*)", text, re.MULTILINE)}


def config_page() -> str:
    """Keys of the top level, of every group, and of Hydra."""
    lines = ["# Every key", "", "This page is generated from the schemas and from the files of `conf/`.", ""]
    lines += [
        "`group=choice` selects a choice, `group.key=value` changes a key. An error message names the nearest key.",
        "",
    ]
    lines += ["## Top level", "", *_top_level()]
    for group, description in GROUPS.items():
        lines += ["", f"## {group}", "", description, ""]
        for choice in choices(group):
            lines += _choice_section(choice)
    lines += _hydra_section()
    return "\n".join(lines) + "\n"


def _hydra_section() -> list[str]:
    """Keys of Hydra that a sweep uses, and those of our launchers and sweepers."""
    from hydra_plugins.rankward import batched_launcher, cluster_launchers, grid_sweeper

    lines = ["", "## hydra", ""]
    lines += ["Keys of Hydra. A [sweep](../howto/sweep.md) and a [cluster](../howto/cluster.md) use these.", ""]
    lines += ["| key | |", "|---|---|"]
    lines += ["| `hydra.run.dir`, `hydra.sweep.dir` | folder of a run or a sweep; an existing one is resumed |"]
    lines += ["| `hydra/launcher` | `batched` (default), `basic` (job by job), `slurm`, `submitit_local` |"]
    lines += ["| `hydra/sweeper` | `grid` (default), `refine`, `basic` |", ""]
    schemas = {
        "`hydra.launcher` (batched)": ("hydra.launcher", batched_launcher.BatchedLauncherConf),
        "`hydra.launcher` (slurm)": ("hydra.launcher", cluster_launchers.SlurmConf),
        "`hydra.sweeper`": ("hydra.sweeper", grid_sweeper.GridSweeperConf),
        "`hydra.sweeper.refine`": ("hydra.sweeper.refine", grid_sweeper.Refine),
    }
    for title, (prefix, schema) in schemas.items():
        lines += [f"### {title}", "", "| key | default | type |", "|---|---|---|"]
        types = _types(schema)
        for field in dataclasses.fields(schema):
            if field.name not in HIDDEN or field.name == "name":
                lines.append(f"| `{prefix}.{field.name}` | {_shown(_default(field))} | {types[field.name]} |")
        lines.append("")
    return lines


def _choice_section(choice: Choice) -> list[str]:
    lines = [f"### `{choice.group}={choice.name}`", ""]
    if choice.group == "experiment":
        return [*lines, "```text", choice.header, "```", ""]
    for line in choice.header.splitlines():
        if line.startswith("      "):  # continues the item above
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(f"- {' '.join(line.split())}" if line.startswith("  ") else line)
    lines.append("")
    hints = _types(choice.schema) if choice.schema else {}
    if choice.keys and choice.group != "metrics":
        lines += ["| key | default | type | |", "|---|---|---|---|"]
        prefix = f"logger.{choice.name}" if choice.group == "logger" else choice.group
        for key, (value, comment) in choice.keys.items():
            lines.append(f"| `{prefix}.{key}` | {_shown(value)} | {hints.get(key, '')} | {_cell(comment)} |")
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
    text = (CONFIG_FOLDER / "config.yaml").read_text(encoding="utf-8")
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
            comment = PAPER_DEFAULTS.get(field.name) or comments.get(field.name, "")
            lines.append(f"| `{field.name}` | {_shown(value)} | {hints[field.name]} | {_cell(comment)} |")
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
    """Arguments of `rankward COMMAND`, flags and exit codes."""
    lines = [
        "# Every command",
        "",
        "Training is Hydra's command line: `rankward key=value`, `rankward -m …`. The others are:",
        "",
    ]
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
        "Resume a run or a sweep. Overrides after the folder replace those that it was started with.",
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
        "| `--dry-run` | the plan of a sweep: ensembles, memory, an upper bound of the time; nothing is written |",
        "| `--config-dir FOLDER` | your own config groups: `FOLDER/metrics/mine.yaml` is `metrics=mine` |",
        "| `--config-name NAME`, `--config-path FOLDER` | another config instead of Rankward's |",
        "| `--cfg job` | print the config of a run |",
        "| `--help`, `--hydra-help`, `--version` | |",
        "| `RANKWARD_TRACEBACK=1` | environment variable: print the traceback of an error |",
        "| `RANKWARD_CACHE=FOLDER` | environment variable: folder of compiled kernels |",
        "",
        "The exit code is 0, 2 for bad input, 1 for a failure, or 130 when interrupted. A standard output that cannot",
        "be written is a failure. One that is closed, or whose reader has ended, is not.",
        "",
    ]
    return "\n".join(lines)


class _Wide(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=100)


def documented(package: str) -> tuple[list[str], list[str]]:
    """Public names of a package that are on its page, and those that have pages of their own."""
    module = importlib.import_module(package)
    homes = {
        name: str(getattr(getattr(module, name), "__module__", package)) for name in getattr(module, "__all__", [])
    }
    others = [name for name, home in homes.items() if not home.startswith(package) and home.startswith(PACKAGES[1:])]
    return [name for name in homes if name not in others], others


def api_page(package: str) -> str:
    """Public names of a package, as autodoc finds them."""
    _, others = documented(package)
    options = [f"   :exclude-members: {', '.join(others)}"] if others else []
    names = [f".. automodule:: {package}", *options, ""]
    return "\n".join([f"# {package}", "", "```{eval-rst}", *names, "```", ""])


def pages() -> dict[str, str]:
    """Generated pages by name."""
    made = {"reference/config": config_page(), "reference/commands": commands_page()}
    return made | {f"api/{package}": api_page(package) for package in PACKAGES}


def _write(app: Sphinx) -> None:
    for name, text in pages().items():
        path = Path(app.srcdir) / f"{name}.md"
        path.parent.mkdir(exist_ok=True)
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


def _readable(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Escape bars, stars and underscores outside of code: docstrings are plain text."""
    for number, line in enumerate(lines):
        if line.lstrip().startswith((">>>", "...")):
            continue
        parts = re.split(r"(`+[^`]*`+)", line)
        parts[::2] = [
            re.sub(r"(?<!\\)([|*_]+)(?=\W|$)|(?<!\\)([|*])", lambda m: "\\" + m[0], part) for part in parts[::2]
        ]
        lines[number] = "".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("builder-inited", _write)
    app.connect("autodoc-process-docstring", _readable)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
