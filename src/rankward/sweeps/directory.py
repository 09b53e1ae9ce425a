"""Create and check the folders of a sweep and of its runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from rankward import results
from rankward.config import ConfigError, config_hash
from rankward.config.errors import other_config
from rankward.config.overrides import unquoted
from rankward.config.recording import DIGESTS, as_written, plain_values
from rankward.config.registry import hashed
from rankward.results.contract import flat

SWEEP = results.SWEEP
MAX_KEYS = 3  # differing keys in a message


def create_unique(folder: Path) -> Path:
    """Create the folder or, if it exists, the first of `<folder>_2`, `<folder>_3`, ... that does not exist.

    Two processes that start in the same second get two folders.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as parent:
        ...     [create_unique(Path(parent) / "sweep").name for _ in range(3)]
        ['sweep', 'sweep_2', 'sweep_3']
    """
    number = 1
    while True:
        candidate = folder if number == 1 else folder.with_name(f"{folder.name}_{number}")
        candidate.parent.mkdir(parents=True, exist_ok=True)
        try:
            candidate.mkdir()
        except FileExistsError:
            number += 1
            continue
        return candidate


def is_named(key: str, config: DictConfig) -> bool:
    """Whether the command line names the folder of this key (`hydra.run.dir`, `hydra.sweep.dir`)."""
    overrides = as_written(config.hydra.overrides.hydra)
    return any(override.partition("=")[0].lstrip("+~") == key for override in overrides)


def check_path(folder: Path, key: str) -> Path:
    """Refuse a folder whose path Hydra would change: it writes paths to YAML and replaces `${` in them.

    Args:
        folder: to be checked, and returned.
        key: of the config, for the error.

    Raises:
        ConfigError: the path is not UTF-8, contains `${`, or is that of a file.
    """
    path = str(folder.absolute())
    try:
        path.encode()
    except UnicodeEncodeError:
        raise ConfigError(key, path, "a folder whose path is UTF-8: rename it first") from None
    if "${" in path:
        raise ConfigError(key, path, "a folder whose path does not contain ${, which Hydra replaces: rename it first")
    if folder.exists() and not folder.is_dir():
        raise ConfigError(key, str(folder), "a folder: this is a file")
    return folder


def open_or_create(folder: Path) -> Path:
    """Open a folder that is empty or that of a sweep, or create it.

    Raises:
        ConfigError: the path is refused by `check_path`, or the folder has other contents.
    """
    check_path(folder, "hydra.sweep.dir")
    if (
        folder.is_dir()
        and not (folder / SWEEP).is_file()
        and any(path.name != results.LOCK for path in folder.iterdir())
    ):
        raise ConfigError("hydra.sweep.dir", str(folder), "a new folder, or one of a sweep: it has other contents")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_hidden(config: DictConfig) -> None:
    """Refuse to write a run's config to another folder than `.hydra`, or not at all.

    Raises:
        ConfigError: `hydra.output_subdir`.
    """
    if config.hydra.output_subdir != ".hydra":
        raise ConfigError("hydra.output_subdir", config.hydra.output_subdir, ".hydra: a run without it cannot be read")


def is_numbered(config: DictConfig) -> bool:
    """Whether the folder of a sweep's job is named by the job's number."""
    return bool(plain_values(config.hydra.sweep)["subdir"] == "${hydra.job.num}")


def run_names(loader: Any, config: DictConfig, jobs: Sequence[Sequence[str]], first: int) -> list[str]:
    """Path of each job's folder, from `hydra.sweep.subdir`, relative to the sweep's folder.

    Args:
        loader: Hydra's config loader.
        config: the sweep's config.
        jobs: overrides of each job.
        first: number of the first job.

    Raises:
        ConfigError: the folder is outside of the sweep's, or has a name that is reserved for other files.
    """
    if is_numbered(config):
        return [str(number) for number in range(first, first + len(jobs))]
    before = HydraConfig.instance().cfg
    names = []
    try:
        for number, job in enumerate(jobs, start=first):
            composed = loader.load_sweep_config(config, list(job))
            with open_dict(composed):
                composed.hydra.job.id, composed.hydra.job.num = str(number), number
            HydraConfig.instance().set_config(composed)  # for ${hydra:...}
            subdir = str(OmegaConf.select(composed, "hydra.sweep.subdir"))
            name = os.path.normpath(subdir)
            if subdir == "" or Path(name).is_absolute() or not all(map(results.holds_runs, Path(name).parts)):
                allowed = f"a folder below the sweep's, without {results.WANDB} or a leading dot in its path"
                raise ConfigError("hydra.sweep.subdir", subdir, allowed)
            names.append(name)
    finally:
        HydraConfig.instance().cfg = before
    return names


def refuse_shared(names: Sequence[str], jobs: Sequence[Sequence[str]]) -> None:
    """Refuse jobs that would share a folder, or whose folder would be inside that of another job.

    Raises:
        ConfigError: with the folder and two of its jobs.
    """
    owners: dict[str, int] = {}
    for number, name in enumerate(names):
        owners.setdefault(name, number)
        if owners[name] != number:
            _refuse_pair(name, owners[name], number, jobs)
    for name, number in owners.items():
        for parent in map(str, Path(name).parents) if os.sep in name else ():
            if parent in owners:
                _refuse_pair(parent, owners[parent], number, jobs)


def _refuse_pair(name: str, first: int, second: int, jobs: Sequence[Sequence[str]]) -> None:
    pair = " and ".join(f"job {number} ({' '.join(map(unquoted, jobs[number]))})" for number in (first, second))
    raise ConfigError("hydra.sweep.subdir", name, f"a separate folder for each job: {pair} share it")


def drop_checkpoints(sweep: Path, complete: set[str]) -> None:
    """Remove checkpoints whose runs are all complete; another launch may need the others.

    Args:
        sweep: the sweep's folder.
        complete: config hashes of runs.
    """
    for path in results.run_checkpoints(sweep):
        from rankward.training.checkpoints import config_hashes

        if set(config_hashes(path)) <= complete:
            results.remove_checkpoint(path)


def refuse_other_config(
    folder: Path, config: dict[str, Any], key: str = "hydra.run.dir", named: Path | None = None
) -> None:
    """Refuse the folder of a run that has another config.

    Args:
        folder: of the run.
        config: resolved, of the run that is to be trained.
        key: of the config that names the folder, or the sweep's folder.
        named: the folder that it names, if that is not the run's.

    Raises:
        ConfigError: results of two configs would be mixed.
    """
    difference = ""
    try:
        summary = results.complete_summary(folder)
        if summary is not None and summary.get("config_hash") == config_hash(config):
            return
        existing = results.read_config(folder, trusted=True)
        if config_hash(existing) != config_hash(config):
            difference = _difference(existing, config)
    except results.MixedError as error:
        difference = str(error)
    except results.ResultsError:  # no config, or one that is torn: the summary may have a hash
        digest = results.summary_hash(folder)
        if digest not in (None, config_hash(config)):
            difference = f"there {results.SUMMARY} has config_hash {digest}"
    if difference:
        raise other_config(key, named or folder, difference)


def _difference(existing: dict[str, Any], config: dict[str, Any]) -> str:
    old, new = flat(hashed(existing)), flat(hashed(config))
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return f"there {', '.join(_difference_at(key, old, new) for key in keys[:MAX_KEYS])}"


def _difference_at(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    values = f"is {old.get(key, 'unset')}, not {new.get(key, 'unset')}"
    group, _, file_key = key.partition(f".{DIGESTS}.")
    path = f"{group}.{file_key}"
    if file_key and old.get(path) == new.get(path):
        return f"the content of {path}={new.get(path)} {values} (SHA-256)"
    return f"{key} {values}"
