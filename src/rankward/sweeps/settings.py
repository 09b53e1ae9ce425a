"""Refuse settings that would have no effect, with the reason, before anything is written."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf

from rankward.config import ConfigError
from rankward.config.recording import plain_values
from rankward.config.registry import without_hydra
from rankward.results import flat
from rankward.sweeps.directory import is_named

DEFAULTS = {"launcher": "batched", "sweeper": "grid"}  # choices of these groups of `hydra`
# Keys that have one value for all jobs of a sweep.
SHARED_BY_JOBS = (
    *("hydra.launcher", "hydra.sweeper", "hydra.callbacks", "hydra.job.chdir", "hydra.job.env_set"),
    *("figures", "results"),
)
ASKS_HYDRA = "${hydra:"
UNKNOWN = re.compile(r"\$\{hydra:(job\.num|job\.id|runtime\.output_dir)\}")  # values unknown before the job begins


def refuse_for_run(config: DictConfig) -> None:
    """Refuse settings of a single run that only a sweep reads.

    Raises:
        ConfigError: the key.
    """
    refuse_chdir(config)
    for group, default in DEFAULTS.items():
        choice = config.hydra.runtime.choices.get(f"hydra/{group}")
        if choice != default:
            raise ConfigError(f"hydra/{group}", choice, "a sweep: rankward -m ...; this process trains a single run")
        for key, value in _changed(group, config.hydra[group]).items():
            if (group, key) == ("launcher", "dry_run"):
                continue
            raise ConfigError(f"hydra.{group}.{key}", value, "a sweep: rankward -m ...; a single run does not read it")
    for key in ("hydra.sweep.dir", "hydra.sweep.subdir"):
        if is_named(key, config):
            raise ConfigError(
                key, OmegaConf.select(config, key), "a sweep: rankward -m ...; of a run it is hydra.run.dir"
            )
    if config.get("results") == "table":
        raise ConfigError("results", "table", "a sweep: rankward -m ...; a single run has a folder")


def refuse_for_sweep(config: DictConfig) -> None:
    """Refuse settings of a sweep that only a single run, or another sweeper, reads.

    Raises:
        ConfigError: the key.
    """
    refuse_chdir(config)
    if is_named("hydra.run.dir", config):
        raise ConfigError("hydra.run.dir", config.hydra.run.dir, "hydra.sweep.dir for a sweep")
    ours = str(config.hydra.sweeper._target_).startswith("hydra_plugins.rankward.")
    if config.get("figures") and not ours:
        sweeper = config.hydra.runtime.choices.get("hydra/sweeper")
        raise ConfigError("figures", list(config.figures), f"hydra/sweeper=grid or refine: {sweeper} draws none")


def refuse_chdir(config: DictConfig) -> None:
    """Refuse runs that change the working directory: relative paths are checked and read from the starting directory.

    Raises:
        ConfigError: `hydra.job.chdir`.
    """
    if config.hydra.job.chdir:
        allowed = "false: relative paths are those of the folder that the command starts in"
        raise ConfigError("hydra.job.chdir", True, allowed)


def refuse_job_callbacks(config: DictConfig, callbacks: Sequence[Any]) -> None:
    """Refuse callbacks of jobs if jobs are trained as ensembles: `on_job_end` would be called before training.

    Args:
        config: the sweep's config.
        callbacks: that Hydra has made from `hydra.callbacks`, in order.

    Raises:
        ConfigError: the callback.
    """
    for name, callback in zip(config.hydra.callbacks or {}, callbacks, strict=False):
        of_jobs = [each for each in ("on_job_start", "on_job_end") if _has(callback, each)]
        if of_jobs:
            allowed = f"hydra/launcher=basic for {' and '.join(of_jobs)}: other launchers train jobs side by side"
            raise ConfigError(f"hydra.callbacks.{name}", config.hydra.callbacks[name]._target_, allowed)


def _has(callback: Any, method: str) -> bool:
    return getattr(type(callback), method, None) is not getattr(Callback, method)


def shared_settings(config: DictConfig) -> dict[str, Any]:
    """Settings that have one value for all jobs of a sweep, unresolved.

    Example:
        >>> from omegaconf import OmegaConf
        >>> config = OmegaConf.create({"figures": ["a"], "hydra": {"launcher": {"memory": 1}}})
        >>> shared_settings(config)["hydra.launcher"]
        {'memory': 1}
    """
    return {key: _plain(OmegaConf.select(config, key)) for key in SHARED_BY_JOBS}


def refuse_per_job_settings(of_sweep: Mapping[str, Any], of_job: Mapping[str, Any], swept: Sequence[str]) -> None:
    """Refuse a job that changes a setting of the whole sweep, for example by an experiment that defines a sweep.

    Args:
        of_sweep: `shared_settings` of the sweep's config.
        of_job: `shared_settings` of the job's config, or some of them.
        swept: overrides of the job that are not overrides of the sweep.

    Raises:
        ConfigError: the group that is swept, or the key.
    """
    for key, value in of_job.items():
        if value != of_sweep[key]:
            group = next((text.partition("=")[0] for text in swept), key)
            one = "one after the other, each with a separate rankward -m" if group != key else "one value"
            raise ConfigError(group, "several in a sweep", f"{one}: a sweep has one {key} for all of its jobs")


def refuse_two_sweeps(config: DictConfig, repository: Any) -> None:
    """Refuse a list of experiments if several define a sweep: the last one would replace the others.

    Args:
        config: the sweep's config.
        repository: Hydra's repository of config files.

    Raises:
        ConfigError: `experiment`.
    """
    given = [text for text in _plain(config.hydra.overrides.task) if text.startswith("experiment=[")]
    names = given[-1].partition("=")[2].strip("[]").split(",") if given else []
    files = [repository.load_config(f"experiment/{name.strip()}") for name in names if name]
    if sum("sweeper" in file.config.get("hydra", {}) for file in files if file is not None) > 1:
        raise ConfigError("experiment", names, "only one that defines a sweep (hydra.sweeper); run them in turn")


def refuse_unknown(config: DictConfig) -> None:
    """Refuse values of Hydra that are not known before the job has begun.

    Raises:
        ConfigError: the key.
    """
    for key, value in flat(plain_values(without_hydra(config))).items():
        if found := UNKNOWN.search(str(value)):
            allowed = "a value: the number of a job can be used only on the command line, with -m"
            if found[1] == "runtime.output_dir":
                allowed = "a path that is known before the run's folder is made"
            raise ConfigError(key, value, allowed)


@contextlib.contextmanager
def hydra_resolver(config: DictConfig) -> Iterator[None]:
    """Let `${hydra:...}` be resolved as in a job of this config, for checks before Hydra starts the job."""
    before = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config.copy())  # it makes its argument read-only
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _changed(group: str, node: DictConfig) -> dict[str, Any]:
    """Settings of the default launcher or sweeper that differ from its defaults."""
    from hydra_plugins.rankward.batched_launcher import BatchedLauncherConf
    from hydra_plugins.rankward.grid_sweeper import GridSweeperConf

    default = flat(_plain(OmegaConf.structured({"launcher": BatchedLauncherConf, "sweeper": GridSweeperConf}[group])))
    return {key: value for key, value in flat(_plain(node)).items() if value != default.get(key)}


def _plain(node: Any) -> Any:
    return OmegaConf.to_container(node, resolve=False) if OmegaConf.is_config(node) else node
