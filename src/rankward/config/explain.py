"""Conversion of an error, most often Hydra's or OmegaConf's, into one line: the key, the value, what is allowed."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, OmegaConfBaseException, ValidationError

from rankward.config.choices import CONFIG_FOLDER, RESERVED, choices
from rankward.config.errors import InputError, RankwardError, SweepError, nearest
from rankward.config.overrides import in_quotes
from rankward.terminal import is_inside_program, say, visible

TRACEBACK = "set RANKWARD_TRACEBACK=1 for the traceback"


def explain(error: BaseException) -> tuple[str, int]:
    """The line to print and the exit code: 2 for an error of the input, 1 for a failure."""
    chain = [error]
    while chain[-1].__cause__ is not None and not isinstance(chain[-1], OmegaConfBaseException):
        chain.append(chain[-1].__cause__)  # under a debugger an error of OmegaConf is its own cause
    for link in chain:
        if isinstance(link, SweepError):
            return "\nrankward: ".join(map(visible, link.lines)), link.exit_code
        if isinstance(link, InputError):
            return _one_line(str(link)), link.exit_code
        if isinstance(link, OverrideParseException):
            key, _, value = link.override.partition("=")
            quoted = f'"{key}={in_quotes(value)}"'
            text = f"a value with spaces or special characters needs quotes: {quoted}"
            if re.match(r"\w+\(", value):
                text = (
                    "expected a value, a list, or one of range(0,5), geomspace(1e-3,1,4), linspace(0,1,3), choice(a,b)"
                )
            return f"{key}: {value!r} cannot be read; {text}", 2
        if listed := re.search(r"deletion value must be a string : .*input_line='~([^=']+)=", str(link)):
            return f"~{listed[1]}: a group is taken away by its name, ~{listed[1]}, with or without a choice", 2
        if "Unsupported item value in defaults" in str(link):
            file = _in_config(link)
            return f"{file}: a number in the defaults list needs quotes, as in `- override /depth: '2'`", 2
    text = "\n".join(str(link) for link in chain)
    if unpacked := re.search(r"In '(([\w/]+)/[^']+)': ConfigKeyError[^\n]*\n?\s*Key '(\w+)' not in 'RunConfig'", text):
        file, group, key = unpacked.groups()
        if group.split("/")[0] == key:
            return f"{file}: its first line must be '# @package _global_': without it its keys stand under {key}", 2
    for link in reversed(chain):
        if isinstance(link, OmegaConfBaseException):
            return _of_omegaconf(link), 2
    if isinstance(error, HydraException):
        return _of_hydra(text), 2
    if isinstance(error, RankwardError):
        return _one_line(str(error)), error.exit_code
    if isinstance(error, OSError):
        return _one_line(str(error)), 1
    return f"{type(error).__name__}: {_one_line(str(error))}; {TRACEBACK}", 1


def _in_config(error: BaseException) -> str:
    """The config that Hydra was reading when it raised an error that does not name it."""
    names = [frame.f_locals.get("config_path") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((name for name in reversed(names) if isinstance(name, str)), "a config")


def why(error: BaseException) -> str:
    """The line of an error without the hint at the traceback, for where the traceback is written as well."""
    return explain(error)[0].removesuffix(f"; {TRACEBACK}")


def print_error(error: BaseException) -> int:
    """Print the line of an error and return its exit code."""
    line, code = explain(error)
    say(*f"rankward: {line}".split("\n"), error=True)
    return code


def _one_line(text: str) -> str:
    return " ".join(line.strip() for line in text.splitlines() if line.strip())


def _of_hydra(text: str) -> str:
    groups = choices()
    choice = re.search(r"Could not (?:find|load) '([^']+)/([^']*)'", text)
    if choice:
        group, name = choice.groups()
        known = groups.get(group, re.findall(r"^\t(\S+)$", text, re.MULTILINE))
        extra = "; depth.layers=N takes any depth" if group == "depth" else ""
        return f"{group}: {name!r} is not a choice; choose from {', '.join(known)}{extra}{nearest(name, known)}"
    key = re.search(r"Could not override '([^']+)'", text)
    if key:
        return _unknown_key(key.group(1))
    if many := re.search(r"Ambiguous value for argument '([^=']+)=(.*?)'\s*$", text, re.MULTILINE):
        name, values = many.groups()
        how = "rankward.sweep trains them all" if is_inside_program() else "with -m a sweep over them"
        return f"{name}: {values!r} are several values: {how}, in [...] one list"
    return _one_line(text.split("Available options")[0].split("See https")[0])


def _of_omegaconf(error: OmegaConfBaseException) -> str:
    key = str(getattr(error, "full_key", None) or "")
    if isinstance(error, ConfigKeyError | AttributeError):
        return _unknown_key(key)
    reason = _one_line(str(getattr(error, "msg", None) or error)).split(" full_key:")[0]
    if isinstance(error, ValidationError):
        value = re.search(r"Value '?(.*?)'? of type '\w+' could not be converted to (\w+)", reason)
        if value:
            return f"{key}: {value.group(1)!r} is not allowed; expected {_kind(value.group(2))}"
        if reason.endswith("is not Optional"):
            return f"{key}: null is not allowed; expected a value"
        if other := re.fullmatch(r"Invalid type assigned: \w+ is not a subclass of \w+\. value: (.*)", reason):
            having = ", ".join(f"{key}.{name}" for name in _keys(key)) or "a value"
            return f"{key}: {other.group(1)} is not allowed; expected {having}"
    return f"{key}: {reason}" if key else reason


def _kind(name: str) -> str:
    return {"Float": "a number", "Integer": "an integer", "Boolean": "true or false"}.get(name, name)


def _unknown_key(key: str) -> str:
    """A line about a key that no config has: the keys of its group, and the nearest."""
    parent = key.rpartition(".")[0]
    having = _choices_with(key)
    if having:
        return f"{key}: no such key for this choice of {parent}; {', '.join(having)} has it"
    if parent in ("metrics.columns", "metrics.certificates", "hydra.launcher.additional_parameters"):
        return f"{key}: no such key; a new one is added with +{key}=..."
    siblings = _keys(parent)
    if not siblings:
        return f"{key}: no such key"
    full = [f"{parent}.{name}" if parent else name for name in siblings]
    where = f"{parent} has {', '.join(siblings)}" if parent else f"there are {', '.join(siblings)}"
    return f"{key}: no such key; {where}{nearest(key, full)}"


def _choices_with(key: str) -> list[str]:
    """The choices of a key's group that have the key."""
    group, _, name = key.partition(".")
    files = {choice: CONFIG_FOLDER / group / f"{choice}.yaml" for choice in choices().get(group, [])}
    parent, _, last = name.rpartition(".")

    def has(file: Path) -> bool:
        loaded = OmegaConf.load(file)
        node = OmegaConf.select(loaded, parent) if parent else loaded
        return isinstance(node, DictConfig) and last in node.keys()  # noqa: SIM118 (`in` alone has no key without a value)

    return [choice for choice, file in files.items() if name and has(file)]


def _keys(parent: str) -> list[str]:
    from rankward.config.schema import RunConfig

    groups = choices()
    if not parent:
        own = [name for name in RunConfig.__dataclass_fields__ if name not in groups]
        return sorted({*own, *groups})
    group = parent.split(".")[0]
    if group in groups:
        names: set[str] = set()
        for choice in groups[group]:
            loaded = OmegaConf.load(CONFIG_FOLDER / group / f"{choice}.yaml")
            if isinstance(loaded, DictConfig):
                names |= {str(name) for name in loaded}
        return sorted(names - {"defaults", "hydra", *RESERVED})
    field = RunConfig.__dataclass_fields__.get(group)
    nested = field.default_factory() if field is not None and callable(field.default_factory) else None
    return sorted(getattr(nested, "__dataclass_fields__", {}))
