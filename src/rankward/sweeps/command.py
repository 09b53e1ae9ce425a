"""The command line that made a sweep's or a run's folder, for `rankward resume FOLDER`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rankward import results
from rankward.config import ConfigError
from rankward.config.build import refuse_blocked
from rankward.config.overrides import in_quotes, unquoted
from rankward.sweeps.directory import SWEEP, check_path

HYDRA = Path(".hydra") / "hydra.yaml"  # of a single run
CONFIG_NAME = "config"  # of Rankward's config
FLAGS = {"command-line": "--config-dir", "main": "--config-path"}  # by Hydra's provider of a folder of configs
# Settings of Hydra that name commands, modules or their environment.
RUNS_CODE = ("hydra.launcher.setup", "hydra.job.env_", "hydra.job_logging", "hydra.hydra_logging", "hydra.searchpath")


def command_of(folder: Path, changes: Sequence[str] = ()) -> list[str]:
    """Arguments that resume a sweep or a single run in its folder.

    Args:
        folder: of a sweep or a run.
        changes: overrides that replace those of the same key; another `hydra/launcher` also replaces all settings of
            the old one.

    Raises:
        ConfigError: the folder has neither, its path is refused by `check_path`, or a change names another folder.
        ResultsError: its files cannot be read.
    """
    check_path(folder, "resume")
    sweep = folder / SWEEP
    if not sweep.is_file() and not (folder / HYDRA).is_file():
        raise ConfigError("resume", str(folder), f"the folder of a sweep (with {SWEEP}) or of a run (with {HYDRA})")
    path = sweep if sweep.is_file() else folder / HYDRA
    overrides, flags = _stored(path)
    key = "hydra.sweep.dir" if sweep.is_file() else "hydra.run.dir"
    folders = ("hydra.sweep.dir=", "hydra.run.dir=")
    if moved := [override for override in changes if override.lstrip("+~").startswith(folders)]:
        raise ConfigError("resume", moved[0], "no other folder: results stay where they are")
    replaced = {override.partition("=")[0] for override in changes}
    launcher = ("hydra/launcher=", "hydra.launcher.") if "hydra/launcher" in replaced else ()
    dropped = (*folders, "hydra.mode=", "hydra.launcher.dry_run=", *launcher)
    remaining = [
        override
        for override in overrides
        if not override.lstrip("+~").startswith(dropped) and override.partition("=")[0].lstrip("+~") not in replaced
    ]
    return [*(["-m"] if sweep.is_file() else []), *flags, *remaining, *changes, f"{key}={in_quotes(folder.absolute())}"]


def _stored(path: Path) -> tuple[list[str], list[str]]:
    """Overrides that Hydra has stored, with those of `hydra` keys, and flags that choose configs.

    Nothing is resolved, and a stored flag is refused: Hydra has one that loads a pickle.

    Raises:
        ResultsError: the file is torn or has other contents.
    """
    try:
        hydra = results.read_yaml(path)["hydra"]
        overrides = [str(text) for key in ("task", "hydra") for text in hydra["overrides"][key]]
        sources = [(each["provider"], str(each["path"])) for each in hydra["runtime"]["config_sources"]]
        name = str(hydra.get("job", {}).get("config_name", CONFIG_NAME))
    except (KeyError, TypeError, AttributeError) as error:
        raise results.ResultsError(f"cannot read {path}: not a config of Hydra") from error
    for text in overrides:
        if text.startswith("-"):
            raise results.ResultsError(f"cannot read {path}: {text!r} is not an override")
    flags = [f"{FLAGS[by]}={source}" for by, source in sources if by in FLAGS and not _is_installed(Path(source))]
    return overrides, [*flags, *([] if name == CONFIG_NAME else [f"--config-name={name}"])]


def _is_installed(folder: Path) -> bool:
    """Whether a folder has the configs of an installed Rankward, so that no flag has named it."""
    package = folder.parent / "src" / "rankward" if (folder.parent / "src").is_dir() else folder.parent
    return folder.name == "conf" and (package / "cli.py").is_file()


def foreign_code(arguments: Sequence[str]) -> list[str]:
    """Classes and functions that are not Rankward's and that a command line would run.

    They are named by overrides, by files of its `--config-dir` or `--config-path`, and by settings of Hydra that run
    commands or import modules.

    Raises:
        ConfigError: a name is on the blocklist.
    """
    named: list[str] = []
    for text in arguments:
        flag, _, folder = text.partition("=")
        if flag in FLAGS.values():
            for file in sorted(path for depth in ("*", "*/*", "*/*/*") for path in Path(folder).glob(f"{depth}.yaml")):
                named += _targets(results.read_yaml(file))
            named.append(f"the YAML files of {folder}")
        elif not text.startswith("-"):
            named += _code_in_override(text)
    return [name for name in dict.fromkeys(named) if not name.startswith(("rankward.", "hydra_plugins.rankward."))]


def _code_in_override(text: str) -> list[str]:
    """Names of code that an override runs."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    key = text.partition("=")[0].lstrip("+~")
    if key.startswith(RUNS_CODE):
        return [text]
    if "_target_" not in text and not key.startswith("figures"):
        return []
    try:
        (override,) = OverridesParser.create().parse_overrides([text])
        values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
    except HydraException:
        return []  # composing refuses it
    if key == "figures":
        from rankward.figures import names

        figures = [name for each in values for name in (each if isinstance(each, list) else [each])]
        return [name for name in map(_plain, figures) if name not in names()]
    return [name for each in values for name in _targets({key: each})] or [text]


def _targets(node: Any) -> list[str]:
    """Values of all `_target_` keys in a part of a config."""
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
    """A string of Hydra's grammar without its quotes."""
    return str(getattr(value, "text", value))


def original_command(folder: Path) -> str:
    """The command that a user typed to make a sweep or a run, without its folder; empty if it is not known."""
    try:
        arguments = command_of(folder)[:-1]
    except (ConfigError, results.ResultsError):
        return ""
    return shlex.join(["rankward", *map(unquoted, arguments)])
