"""From a folder back to the command that made it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankward import results
from rankward.config import ConfigError
from rankward.config.build import refuse_blocked
from rankward.config.overrides import in_quotes, unquoted
from rankward.sweeps.directory import SWEEP, usable

HYDRA = Path(".hydra") / "hydra.yaml"  # of a single run
CONFIG_NAME = "config"  # Rankward's own
FLAGS = {"command-line": "--config-dir", "main": "--config-path"}  # by the provider of a folder of configs
# Settings of Hydra's that name commands, modules or their environment.
COMMANDS = ("hydra.launcher.setup", "hydra.job.env_", "hydra.job_logging", "hydra.hydra_logging", "hydra.searchpath")


def command_of(folder: Path, more: Sequence[str] = ()) -> list[str]:
    """Arguments that go on with a sweep's or a single run's folder.

    Args:
        folder: of either.
        more: overrides that take the place of those that were given for the same key; another `hydra/launcher` that of
            all that the old one was told.

    Raises:
        ConfigError: neither stands there, an override that moves the folder, or a name that Hydra cannot take.
        ResultsError: what stands there cannot be read.
    """
    usable(folder, "resume")
    sweep = folder / SWEEP
    if not sweep.is_file() and not (folder / HYDRA).is_file():
        raise ConfigError("resume", str(folder), f"the folder of a sweep (with {SWEEP}) or of a run (with {HYDRA})")
    path = sweep if sweep.is_file() else folder / HYDRA
    task, own, flags = _stored(path)
    key = "hydra.sweep.dir" if sweep.is_file() else "hydra.run.dir"
    ours = ("hydra.sweep.dir=", "hydra.run.dir=", "hydra.mode=", "hydra.launcher.dry_run=")
    if moved := [override for override in more if override.lstrip("+~").startswith(ours[:2])]:
        raise ConfigError("resume", moved[0], "no other folder: results stay where they are")
    dropped = {override.partition("=")[0] for override in more}
    launcher = ("hydra/launcher=", "hydra.launcher.") if "hydra/launcher" in dropped else ()
    given = [
        override
        for override in (*task, *own)
        if not override.lstrip("+~").startswith((*ours, *launcher))
        and override.partition("=")[0].lstrip("+~") not in dropped
    ]
    return [*(["-m"] if sweep.is_file() else []), *flags, *given, *more, f"{key}={in_quotes(folder.absolute())}"]


def _stored(path: Path) -> tuple[list[str], list[str], list[str]]:
    """What Hydra has stored of a command line: overrides, those of Hydra's own keys, and flags that choose configs.

    Nothing is resolved, and nothing is a flag: Hydra has one that loads a pickle.

    Raises:
        ResultsError: a torn file, or one with something else.
    """
    try:
        hydra = results.read_yaml(path)["hydra"]
        lists = [[str(text) for text in hydra["overrides"][key]] for key in ("task", "hydra")]
        sources = [(each["provider"], str(each["path"])) for each in hydra["runtime"]["config_sources"]]
        name = str(hydra.get("job", {}).get("config_name", CONFIG_NAME))
    except (KeyError, TypeError, AttributeError) as error:
        raise results.ResultsError(f"cannot read {path}: not a config of Hydra's") from error
    for text in (*lists[0], *lists[1]):
        if text.startswith("-"):
            raise results.ResultsError(f"cannot read {path}: {text!r} is no override")
    flags = [f"{FLAGS[by]}={source}" for by, source in sources if by in FLAGS and not _is_installed(Path(source))]
    return lists[0], lists[1], [*flags, *([] if name == CONFIG_NAME else [f"--config-name={name}"])]


def _is_installed(folder: Path) -> bool:
    """Whether a folder holds the configs of a Rankward, this one or another, so that no flag has named it."""
    package = folder.parent / "src" / "rankward" if (folder.parent / "src").is_dir() else folder.parent
    return folder.name == "conf" and (package / "cli.py").is_file()


def own_code(arguments: Sequence[str]) -> list[str]:
    """Classes and functions beyond Rankward's that a command line names, itself or in its `--config-dir` or
    `--config-path`; and its settings that run commands or import modules.

    Raises:
        ConfigError: one of Hydra's blocklist.
    """
    named: list[str] = []
    for text in arguments:
        flag, _, folder = text.partition("=")
        if flag in FLAGS.values():
            for file in sorted(path for depth in ("*", "*/*", "*/*/*") for path in Path(folder).glob(f"{depth}.yaml")):
                named += _targets(results.read_yaml(file))
            named.append(f"the YAML files of {folder}")
        elif not text.startswith("-"):
            named += _of_override(text)
    return [name for name in dict.fromkeys(named) if not name.startswith(("rankward.", "hydra_plugins.rankward."))]


def _of_override(text: str) -> list[str]:
    """What an override runs, beyond what a config of Rankward's does."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key = text.partition("=")[0].lstrip("+~")
    if key.startswith(COMMANDS):
        return [text]
    if "_target_" not in text and not key.startswith("figures"):
        return []
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
        values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    except HydraException:
        return []  # refused where it is composed
    if key == "figures":
        from rankward.figures import names

        every = [name for each in values for name in (each if isinstance(each, list) else [each])]
        return [name for name in map(_plain, every) if name not in names()]
    return [name for each in values for name in _targets({key: each})] or [text]


def _targets(node: Any) -> list[str]:
    """Every `_target_` in a part of a config."""
    if isinstance(node, list):
        return [name for each in node for name in _targets(each)]
    if not isinstance(node, dict):
        return []
    found = []
    for key, value in node.items():
        if _plain(key).endswith("_target_") and not isinstance(value, dict | list):
            refuse_blocked("_target_", _plain(value))
            found.append(_plain(value))
        else:
            found += _targets(value)
    return found


def _plain(value: Any) -> str:
    """A text of Hydra's grammar without its quotes."""
    return str(getattr(value, "text", value))


def told_command(folder: Path) -> str:
    """What a user typed to make a sweep or a run, without its folder; empty where its folder does not tell."""
    try:
        arguments = command_of(folder)[:-1]
    except (ConfigError, results.ResultsError):
        return ""
    return shlex.join(["rankward", *map(unquoted, arguments)])
