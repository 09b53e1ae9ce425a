"""Settings for W&B, with the variables of the user's environment (`WANDB_PROJECT`, ...).

They take precedence over Rankward's defaults, and `logger.wandb.*` in the config takes precedence over them. W&B
itself reads all other variables.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rankward.config import ConfigError
from rankward.config.checks import one_of
from rankward.config.groups import WandbLogger

PROJECT = "rankward"
MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")  # the last two are old names of online and offline
ONLINE = ("online", "shared", "run")  # modes that need a server
# Collecting data on the machine would take longer than a short run.
QUIET = {
    "silent": True,
    "console": "off",
    "save_code": False,
    "disable_git": True,
    "x_disable_stats": True,
    "x_disable_meta": True,
    "x_disable_machine_info": True,
    "x_save_requirements": False,
}


def _variable(name: str) -> str | None:
    """The value of `WANDB_<name>`; None if it is not set or empty."""
    return os.environ.get(f"WANDB_{name}") or None


def project(given: str | None) -> str:
    """The project of a run, with `logger.wandb.project` as it is given.

    Example:
        >>> project("mine")
        'mine'
    """
    return given or _variable("PROJECT") or PROJECT


def mode(offline: bool | None) -> Any:
    """W&B's mode: that of `WANDB_MODE`, or `offline`, where `logger.wandb.offline` is null.

    Example:
        >>> mode(offline=True), mode(offline=False)
        ('offline', 'online')

    Raises:
        ConfigError: a `WANDB_MODE` that W&B does not have.
    """
    if offline is not None:
        return "offline" if offline else "online"
    mode = _variable("MODE") or "offline"
    one_of("WANDB_MODE", mode, MODES)
    return mode


def is_on(logger: Mapping[str, Any]) -> bool:
    """Whether a config has a W&B logger that the environment does not disable."""
    node = logger.get("wandb")
    if node is None:
        return False
    return bool(mode(node.offline if isinstance(node, WandbLogger) else node.get("offline")) != "disabled")


def folder(shared: Path) -> Path:
    """The folder that contains `wandb/`: `WANDB_DIR`, or the folder of the run or sweep."""
    return Path(_variable("DIR") or shared)


def group(given: str | None, sweep: str | None) -> str | None:
    """The group of a run, with `logger.wandb.group` as it is given; by default the name of its sweep."""
    return given or _variable("RUN_GROUP") or sweep


def tags(given: Sequence[str]) -> list[str]:
    """Tags of the user, with `logger.wandb.tags` as they are given, in addition to those of Rankward."""
    variable = _variable("TAGS")
    return list(given or (variable.split(",") if variable else []))


def name(default: str, in_sweep: bool) -> str:
    """The name of a run: `WANDB_NAME` replaces that of a single run, and precedes those of a sweep's runs."""
    variable = _variable("NAME")
    return default if variable is None else f"{variable} {default}" if in_sweep else variable


def job_type() -> str:
    """The job type of a run."""
    return _variable("JOB_TYPE") or "run"


def run_id(in_sweep: bool) -> str | None:
    """The id that the environment sets for a single run; None lets Rankward choose one."""
    return None if in_sweep else _variable("RUN_ID")


def settings() -> dict[str, Any]:
    """Settings of what W&B collects in each run, except those that the environment sets."""

    def variable_name(key: str) -> str:
        return key.upper().removeprefix("X") if key.startswith("x_") else key.upper()

    return {key: value for key, value in QUIET.items() if _variable(variable_name(key)) is None}


def check(logger: Mapping[str, Any], in_sweep: bool) -> None:
    """Refuse an unknown mode, and a `WANDB_RUN_ID` for several runs unless a W&B agent (`WANDB_SWEEP_ID`) set it.

    Args:
        logger: loggers of the config.
        in_sweep: whether there are several runs.

    Raises:
        ConfigError: `WANDB_MODE` or `WANDB_RUN_ID`.
    """
    run_id = _variable("RUN_ID")
    if is_on(logger) and in_sweep and run_id is not None and _variable("SWEEP_ID") is None:
        raise ConfigError("WANDB_RUN_ID", run_id, "no such variable: each run of a sweep has an id of its own")
