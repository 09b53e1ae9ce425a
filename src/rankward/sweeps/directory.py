"""A sweep's folder: its own, and nobody else's."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from rankward import results
from rankward.config import ConfigError, config_hash
from rankward.config.overrides import unquoted
from rankward.config.recording import DIGESTS, as_written
from rankward.config.registry import hashed
from rankward.results.contract import flat

SWEEP = results.SWEEP
SHOWN = 3  # keys that differ


def fresh(folder: Path) -> Path:
    """The folder, or where it stands already the first of `<folder>_2`, `<folder>_3`, ... that does not; made here.

    Two sweeps started in the same second get two folders: making one fails for whoever comes second.

    Example:
        >>> import tempfile
        >>> made = [fresh(Path(tempfile.gettempdir()) / f"rankward-doctest-{id(fresh)}") for _ in range(2)]
        >>> made[1].name == made[0].name + "_2"
        True
        >>> [each.rmdir() for each in made]
        [None, None]
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


def usable(folder: Path, key: str) -> Path:
    """The folder, where Hydra can take its path as it is: it keeps paths in YAML, and replaces `${` in them.

    Args:
        key: that has named the folder.

    Raises:
        ConfigError: a path that is not UTF-8 or contains `${`, or a file of that name.
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


def own(folder: Path) -> Path:
    """A folder that was asked for by name: made, or one that is empty or holds a sweep to go on with.

    Raises:
        ConfigError: a file of that name, a path that is not `usable`, or a folder that holds something else.
    """
    usable(folder, "hydra.sweep.dir")
    if (
        folder.is_dir()
        and not (folder / SWEEP).is_file()
        and any(path.name != results.LOCK for path in folder.iterdir())
    ):
        raise ConfigError("hydra.sweep.dir", str(folder), "a new folder, or one of a sweep: this holds something else")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def refuse_hidden(config: DictConfig) -> None:
    """Refuse to have Hydra keep a run's config where nobody would look for it, or nowhere.

    Raises:
        ConfigError: another folder than `.hydra`.
    """
    if config.hydra.output_subdir != ".hydra":
        raise ConfigError("hydra.output_subdir", config.hydra.output_subdir, ".hydra: a run without it cannot be read")


def is_numbered(config: DictConfig) -> bool:
    """Whether the folders of a sweep's jobs are named by their numbers."""
    sweep = OmegaConf.to_container(config.hydra.sweep, resolve=False)
    return isinstance(sweep, dict) and sweep["subdir"] == "${hydra.job.num}"


def run_names(loader: Any, config: DictConfig, jobs: Sequence[Sequence[str]], first: int) -> list[str]:
    """Where `hydra.sweep.subdir` puts each job's folder, as a path from the sweep's.

    Args:
        loader: Hydra's config loader.
        config: the sweep's.
        jobs: overrides of each.
        first: number of the first.

    Raises:
        ConfigError: a folder outside of the sweep's, or one in which no run is looked for.
    """
    if is_numbered(config):
        return [str(number) for number in range(first, first + len(jobs))]
    before = HydraConfig.instance().cfg
    names = []
    try:
        for number, job in enumerate(jobs, start=first):
            whole = loader.load_sweep_config(config, list(job))
            with open_dict(whole):
                whole.hydra.job.id, whole.hydra.job.num = str(number), number
            HydraConfig.instance().set_config(whole)  # for ${hydra:...}
            subdir = str(OmegaConf.select(whole, "hydra.sweep.subdir"))
            name = os.path.normpath(subdir)
            if subdir == "" or Path(name).is_absolute() or not all(map(results.holds_runs, Path(name).parts)):
                allowed = f"a folder below the sweep's, without {results.WANDB} or a leading dot in its path"
                raise ConfigError("hydra.sweep.subdir", subdir, allowed)
            names.append(name)
    finally:
        HydraConfig.instance().cfg = before
    return names


def refuse_shared(names: Sequence[str], jobs: Sequence[Sequence[str]]) -> None:
    """Refuse jobs that would share a folder, or have one inside another's.

    Raises:
        ConfigError: the folder, and two of its jobs.
    """
    owners: dict[str, int] = {}
    for number, name in enumerate(names):
        owners.setdefault(name, number)
        if owners[name] != number:
            _refuse_pair(name, owners[name], number, jobs)
    for name, number in owners.items():
        for above in map(str, Path(name).parents) if os.sep in name else ():
            if above in owners:
                _refuse_pair(above, owners[above], number, jobs)


def _refuse_pair(name: str, one: int, other: int, jobs: Sequence[Sequence[str]]) -> None:
    told = " and ".join(f"job {number} ({' '.join(map(unquoted, jobs[number]))})" for number in (one, other))
    raise ConfigError("hydra.sweep.subdir", name, f"a folder of its own for each job: {told} share it")


def drop_checkpoints(sweep: Path, complete: set[str]) -> None:
    """Remove checkpoints all of whose runs are complete; another launch may still want the others.

    Args:
        sweep: the sweep's folder.
        complete: config hashes of runs.
    """
    for path in results.run_checkpoints(sweep):
        from rankward.training.checkpoints import config_hashes

        if set(config_hashes(path)) <= complete:
            results.remove_checkpoint(path)


def refuse_other(folder: Path, config: dict[str, Any], key: str = "hydra.run.dir", named: Path | None = None) -> None:
    """Refuse a run's folder in which one of another config has begun.

    Args:
        folder: the run's.
        config: resolved, of the run that is to be there.
        key: that has named the folder, or the sweep's.
        named: the folder that it has named, where that is not the run's.

    Raises:
        ConfigError: what stands there would be mixed with what the config makes.
    """
    differ = ""
    try:
        summary = results.complete_summary(folder)
        if summary is not None and summary.get("config_hash") == config_hash(config):
            return
        there = results.read_config(folder, trusted=True)
        if config_hash(there) != config_hash(config):
            old, new = flat(hashed(there)), flat(hashed(config))
            keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
            told = [_told_difference(key, old, new) for key in keys[:SHOWN]]
            differ = f"there {', '.join(told)}"
    except results.MixedError as error:
        differ = str(error)
    except results.ResultsError:  # nothing, or torn by a kill: what else was written says whose it is
        digest = results.summary_hash(folder)
        if digest not in (None, config_hash(config)):
            differ = f"there {results.SUMMARY} has config_hash {digest}"
    if differ:
        raise ConfigError(key, str(named or folder), f"a folder without runs of another config: {differ}; take another")


def _told_difference(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    differ = f"is {old.get(key, 'unset')}, not {new.get(key, 'unset')}"
    group, _, rest = key.partition(f".{DIGESTS}.")
    path = f"{group}.{rest}"
    if rest and old.get(path) == new.get(path):
        return f"the content of {path}={new.get(path)} {differ} (SHA-256)"
    return f"{key} {differ}"
