"""Settings for W&B, with the variables of the user's environment (`WANDB_PROJECT`, ...).

They win over Rankward's defaults, and a `logger.wandb.*` of the config wins over them. W&B itself reads those that are
not named here.
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
MODES = ("online", "offline", "disabled", "shared", "run", "dryrun")  # the last two are old names of the first two
ONLINE = ("online", "shared", "run")  # with a server
# Of a thousand short runs, what each collects of the machine would be the cost.
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


def _said(name: str) -> str | None:
    """A variable's value; an empty one counts as none."""
    return os.environ.get(f"WANDB_{name}") or None


def project(given: str | None) -> str:
    """The project of a run, with `logger.wandb.project` as it is given.

    Example:
        >>> project("mine")
        'mine'
    """
    return given or _said("PROJECT") or PROJECT


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
    said = _said("MODE") or "offline"
    one_of("WANDB_MODE", said, MODES)
    return said


def is_on(logger: Mapping[str, Any]) -> bool:
    """Whether a config's loggers have one of W&B's that the environment has not switched off."""
    node = logger.get("wandb")
    if node is None:
        return False
    return bool(mode(node.offline if isinstance(node, WandbLogger) else node.get("offline")) != "disabled")


def folder(shared: Path) -> Path:
    """The folder in which `wandb/` lies: `WANDB_DIR`, or the run's or sweep's own."""
    return Path(_said("DIR") or shared)


def group(given: str | None, sweep: str | None) -> str | None:
    """The group of a run, with `logger.wandb.group` and the name of its sweep as they are given."""
    return given or _said("RUN_GROUP") or sweep


def tags(given: Sequence[str]) -> list[str]:
    """The tags of a run beside those of Rankward, with `logger.wandb.tags` as it is given."""
    said = _said("TAGS")
    return list(given or (said.split(",") if said else []))


def name(own: str, in_sweep: bool) -> str:
    """A run's name; in a sweep `WANDB_NAME` comes before what tells the runs apart."""
    said = _said("NAME")
    return own if said is None else f"{said} {own}" if in_sweep else said


def job_type() -> str:
    """The job type of a run."""
    return _said("JOB_TYPE") or "run"


def run_id(in_sweep: bool) -> str | None:
    """The id that a single run is to have; None where it has one of its own."""
    return None if in_sweep else _said("RUN_ID")


def settings() -> dict[str, Any]:
    """Settings of what each run collects, unless the environment sets them."""

    def variable(key: str) -> str:
        return key.upper().removeprefix("X") if key.startswith("x_") else key.upper()

    return {key: value for key, value in QUIET.items() if _said(variable(key)) is None}


def check(logger: Mapping[str, Any], in_sweep: bool) -> None:
    """Refuse an unknown mode, and one id for all runs of a sweep that is no agent's (`WANDB_SWEEP_ID`).

    Args:
        logger: the config's.
        in_sweep: whether there are several runs.

    Raises:
        ConfigError: `WANDB_MODE` or `WANDB_RUN_ID`.
    """
    said = _said("RUN_ID")
    if is_on(logger) and in_sweep and said is not None and _said("SWEEP_ID") is None:
        raise ConfigError("WANDB_RUN_ID", said, "no such variable: each run of a sweep has an id of its own")
