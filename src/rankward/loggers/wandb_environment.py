"""Settings for W&B, with the variables of the user's environment (`WANDB_PROJECT`, ...).

They take precedence over Rankward's defaults, and `logger.wandb.*` in the config takes precedence over them. W&B
itself reads all other variables, for example `WANDB_BASE_URL`.

`wandb agent` sets variables for the one run that it waits for, its trial: a single run, or the summary of a sweep.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rankward.config import ConfigError
from rankward.config.checks import one_of
from rankward.config.groups import WandbLogger

PROJECT = "rankward"
AGENT_VARIABLES = ("WANDB_SWEEP_ID", "WANDB_RUN_ID", "WANDB_SWEEP_PARAM_PATH")  # of the agent's trial
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


def variable(name: str) -> str | None:
    """The value of `WANDB_<name>`; None if it is not set or empty."""
    return os.environ.get(f"WANDB_{name}") or None


@dataclass(frozen=True)
class Trial:
    """The run that a W&B agent waits for.

    Args:
        sweep_id: of the agent's sweep.
        run_id: of the run.
        parameters: that the agent has chosen, by key.
    """

    sweep_id: str
    run_id: str
    parameters: Mapping[str, Any]


def trial() -> Trial | None:
    """The run that a W&B agent waits for; None outside of an agent."""
    if not _is_trial():
        return None
    parameters: Mapping[str, Any] = {}
    if path := variable("SWEEP_PARAM_PATH"):
        from wandb.sdk.lib.config_util import dict_from_config_file

        parameters = dict_from_config_file(path) or {}
    return Trial(os.environ["WANDB_SWEEP_ID"], os.environ["WANDB_RUN_ID"], parameters)


def _is_trial() -> bool:
    return variable("SWEEP_ID") is not None and variable("RUN_ID") is not None


def project(given: str | None) -> str:
    """The project of a run, with `logger.wandb.project` as it is given.

    Example:
        >>> project("mine")
        'mine'
    """
    return given or variable("PROJECT") or PROJECT


def mode(offline: bool | None) -> Any:
    """W&B's mode where `logger.wandb.offline` is null: `WANDB_MODE`, or `disabled` by `WANDB_DISABLED`, or `offline`.

    A W&B agent is online, and so are its runs by default.

    Example:
        >>> mode(offline=True), mode(offline=False)
        ('offline', 'online')

    Raises:
        ConfigError: a `WANDB_MODE` that W&B does not have.
    """
    if offline is not None:
        return "offline" if offline else "online"
    mode = variable("MODE")
    if mode is None:
        is_disabled = (variable("DISABLED") or "false").lower() not in ("false", "0", "no", "off")
        mode = "disabled" if is_disabled else "online" if _is_trial() else "offline"
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
    return Path(variable("DIR") or shared)


def group(given: str | None, sweep: str | None) -> str | None:
    """The group of a run, with `logger.wandb.group` as it is given; by default the name of its sweep."""
    return given or variable("RUN_GROUP") or sweep


def tags(given: Sequence[str]) -> list[str]:
    """Tags of the user, with `logger.wandb.tags` as they are given, in addition to those of Rankward."""
    return list(given or (tag for tag in map(str.strip, (variable("TAGS") or "").split(",")) if tag))


def name(default: str, in_sweep: bool) -> str:
    """The name of a run: `WANDB_NAME` replaces that of a single run, and precedes those of a sweep's runs."""
    given = variable("NAME")
    return default if given is None else f"{given} {default}" if in_sweep else given


def job_type() -> str:
    """The job type of a run."""
    return variable("JOB_TYPE") or "run"


def run_id() -> str | None:
    """The id that the environment sets for a single run; None lets Rankward choose one."""
    return variable("RUN_ID")


def settings() -> dict[str, Any]:
    """Settings of what W&B collects in each run, except those that the environment sets."""

    def variable_name(key: str) -> str:
        return key.upper().removeprefix("X") if key.startswith("x_") else key.upper()

    return {key: value for key, value in QUIET.items() if variable(variable_name(key)) is None}


def check(logger: Mapping[str, Any], in_sweep: bool) -> None:
    """Refuse an unknown mode, a `WANDB_RUN_ID` for several runs, and what a W&B agent's trial cannot have.

    An agent (`WANDB_SWEEP_ID`) waits for a W&B run in its own project.

    Args:
        logger: loggers of the config.
        in_sweep: whether there are several runs.

    Raises:
        ConfigError: `WANDB_MODE` or `WANDB_RUN_ID`; `logger` or `logger.wandb.project` of an agent's trial.
    """
    run_id, sweep_id = variable("RUN_ID"), variable("SWEEP_ID")
    if is_on(logger) and in_sweep and run_id is not None and sweep_id is None:
        raise ConfigError("WANDB_RUN_ID", run_id, "no such variable: each run of a sweep has an id of its own")
    if not _is_trial():
        return
    node = logger.get("wandb")
    if node is None:
        if mode(None) != "disabled":
            allowed = f"wandb, or WANDB_MODE=disabled: the agent of WANDB_SWEEP_ID={sweep_id} waits for a W&B run"
            raise ConfigError("logger", ", ".join(logger) or "none", allowed)
        return
    given = node.project if isinstance(node, WandbLogger) else node.get("project")
    if given not in (None, project(None)):
        allowed = f"null: the agent of WANDB_SWEEP_ID={sweep_id} waits for a run in its project, {project(None)}"
        raise ConfigError("logger.wandb.project", given, allowed)
