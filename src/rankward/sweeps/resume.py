"""From a folder back to the command that made it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from rankward.config import ConfigError
from rankward.config.overrides import in_quotes, unquoted
from rankward.sweeps.folders import SWEEP, usable

HYDRA = Path(".hydra") / "hydra.yaml"  # of a single run


def command_of(folder: Path, more: Sequence[str] = ()) -> list[str]:
    """Arguments that go on with a sweep's or a single run's folder.

    Args:
        folder: of either.
        more: overrides that take the place of those that were given for the same key; another `hydra/launcher` that of
            all that the old one was told.

    Raises:
        ConfigError: neither stands there, an override that moves the folder, or a name that Hydra cannot take.
    """
    usable(folder, "resume")
    sweep = folder / SWEEP
    if not sweep.is_file() and not (folder / HYDRA).is_file():
        raise ConfigError("resume", str(folder), f"the folder of a sweep (with {SWEEP}) or of a run (with {HYDRA})")
    loaded = OmegaConf.load(sweep if sweep.is_file() else folder / HYDRA)
    assert isinstance(loaded, DictConfig)
    hydra = loaded.hydra
    key = "hydra.sweep.dir" if sweep.is_file() else "hydra.run.dir"
    ours = ("hydra.sweep.dir=", "hydra.run.dir=", "hydra.mode=", "hydra.launcher.dry_run=")
    if moved := [override for override in more if override.lstrip("+~").startswith(ours[:2])]:
        raise ConfigError("resume", moved[0], "no other folder: results stay where they are")
    dropped = {override.partition("=")[0] for override in more}
    launcher = ("hydra/launcher=", "hydra.launcher.") if "hydra/launcher" in dropped else ()
    given = [
        override
        for override in (*hydra.overrides.task, *hydra.overrides.hydra)
        if not override.lstrip("+~").startswith((*ours, *launcher))
        and override.partition("=")[0].lstrip("+~") not in dropped
    ]
    sources = [f"--config-dir={s.path}" for s in hydra.runtime.config_sources if s.provider == "command-line"]
    return [*(["-m"] if sweep.is_file() else []), *sources, *given, *more, f"{key}={in_quotes(folder.absolute())}"]


def told_command(folder: Path) -> str:
    """What a user typed to make a sweep or a run, without its folder; empty where its folder does not tell."""
    try:
        arguments = command_of(folder)[:-1]
    except ConfigError:
        return ""
    return shlex.join(["rankward", *map(unquoted, arguments)])
