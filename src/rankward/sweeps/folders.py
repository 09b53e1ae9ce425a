"""A sweep's folder: its own, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from rankward import results
from rankward.config import ConfigError, config_hash
from rankward.config.registry import hashed
from rankward.results.files import flat

SWEEP = "multirun.yaml"
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
    return any(override.partition("=")[0].lstrip("+~") == key for override in config.hydra.overrides.hydra)


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


def drop_checkpoints(sweep: Path, complete: set[str]) -> None:
    """Remove checkpoints all of whose runs are complete; another launch may still want the others.

    Args:
        sweep: the sweep's folder.
        complete: config hashes of runs.
    """
    for path in results.checkpoints(sweep, "*/checkpoint*.ckpt"):
        from rankward.training.checkpoints import digests

        if set(digests(path)) <= complete:
            results.remove_checkpoint(path)


def refuse_other(folder: Path, config: dict[str, Any], key: str = "hydra.sweep.dir") -> None:
    """Refuse a run's folder in which one of another config has begun.

    Args:
        folder: the run's.
        config: resolved, of the run that is to be there.
        key: that has named the folder; of a sweep's run its parent is told.

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
            told = [f"{key} is {old.get(key, 'unset')}, not {new.get(key, 'unset')}" for key in keys[:SHOWN]]
            differ = f"there {', '.join(told)}"
    except results.MixedError as error:
        differ = str(error)
    except results.ResultsError:  # nothing, or torn by a kill: what else was written says whose it is
        digest = results.summary_hash(folder)
        if digest not in (None, config_hash(config)):
            differ = f"there {results.SUMMARY} has config_hash {digest}"
    if differ:
        named = folder.parent if key == "hydra.sweep.dir" else folder
        raise ConfigError(key, str(named), f"a folder without runs of another config: {differ}; take another")
