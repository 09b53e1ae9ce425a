"""A sweep's folder: its own, and nobody else's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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


def own(folder: Path) -> Path:
    """A folder that was asked for by name: made, or one that is empty or holds a sweep to go on with.

    Raises:
        ConfigError: a file of that name, or a folder that holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError("hydra.sweep.dir", str(folder), "a folder: this is a file")
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
    for path in sweep.glob(f"*/{results.CHECKPOINT}"):
        from rankward.training.checkpoints import digests

        if set(digests(path)) <= complete:
            path.unlink(missing_ok=True)


def refuse_other(folder: Path, config: dict[str, Any], key: str = "hydra.sweep.dir") -> None:
    """Refuse a run's folder in which one of another config has begun.

    Args:
        folder: the run's.
        config: resolved, of the run that is to be there.
        key: that has named the folder; of a sweep's run its parent is told.

    Raises:
        ConfigError: what stands there would be mixed with what the config makes.
    """
    try:
        summary = results.complete_summary(folder)
        if summary is not None and summary.get("config_hash") == config_hash(config):
            return
        there = results.read_config(folder)
    except results.ResultsError:
        return  # nothing, or torn by a kill before anything else was written
    if config_hash(there) != config_hash(config):
        old, new = flat(hashed(there)), flat(hashed(config))
        keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
        told = ", ".join(f"{key} is {old.get(key, 'unset')}, not {new.get(key, 'unset')}" for key in keys[:SHOWN])
        named = folder.parent if key == "hydra.sweep.dir" else folder
        raise ConfigError(key, str(named), f"a folder without runs of another config: there {told}; take another")
