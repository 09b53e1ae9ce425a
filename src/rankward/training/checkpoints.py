"""Checkpoints of ensembles: written whole, the one before kept; which runs they hold; the part that some runs need."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins import CheckpointIO

from rankward import __version__, results
from rankward.config import ConfigError
from rankward.terminal import say
from rankward.training.trace import are_there, picked

HASHES = "config_hashes"  # of the runs, in the ensemble's order
VERSION = "rankward"  # that wrote the checkpoint


class AtomicCheckpoints(CheckpointIO):
    """Writes a checkpoint beside its place, then renames it, and keeps the one before; no other folder is used.

    Args:
        resumed: the checkpoint that training goes on from, or None.
    """

    def __init__(self, resumed: Path | None = None) -> None:
        self.good = resumed  # a checkpoint that is whole: one that is torn never replaces the one before it

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            ResultsError: it cannot be written; what stood there stands unchanged.
        """
        path = Path(path)
        before = results.previous(path) if self.good == path else None
        results.write_whole(path, lambda temporary: _save(checkpoint, temporary), before)
        self.good = path

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """A checkpoint's content.

        Raises:
            ConfigError: not a checkpoint, or a torn one.
        """
        return _load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove it with all that belongs to it."""
        results.remove_checkpoint(Path(path))


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # with which torch hides what has happened to the file
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def newest(path: Path) -> Path | None:
    """A checkpoint that training can go on from: this one, or the one before where it is torn; None where neither can.

    Standard error has a line about each that is torn.
    """
    torn: list[Path] = []
    found = None
    for each in (path, results.previous(path)):
        try:
            _load(each)
        except ConfigError:
            torn += [each] if each.is_file() else []
            continue
        found = each
        break
    instead = f"{found} is used" if found else "training starts from the beginning"
    for each in torn:
        say(f"rankward: {each} is torn and counts as none: {instead}", error=True)
    return found


def content_of(path: Path) -> dict[str, Any]:
    """What a checkpoint holds, or the one before where it is torn or being replaced; empty where neither is whole."""
    for each in (path, results.previous(path)):
        with contextlib.suppress(ConfigError):
            return _load(each)
    return {}


def digests(path: Path) -> list[str]:
    """Config hashes of the runs that a checkpoint, or the one before it, holds; none where neither can be read."""
    return list(content_of(path).get(HASHES, []))


def iterations(path: Path) -> dict[str, int]:
    """How far each run that a checkpoint holds is in it, by config hash; nothing where it cannot be read."""
    try:
        content = _load(path)
        reached = content["state_dict"]["progress_iteration"].tolist()
    except (ConfigError, KeyError, AttributeError):
        return {}
    return dict(zip(content[HASHES], reached, strict=True))


@contextlib.contextmanager
def part_of(path: Path, wanted: Sequence[str]) -> Iterator[Path]:
    """A checkpoint of just the runs with the wanted hashes, in that order: the file itself, or one beside it.

    Raises:
        ConfigError: not a checkpoint, or not of these runs.
        ResultsError: the one beside it cannot be written.
    """
    content = _load(path)
    held = list(content[HASHES])
    if content.get(VERSION) != __version__:
        say(f"rankward: {path} was written by rankward {content.get(VERSION)}, this is {__version__}", error=True)
    if missing := [digest for digest in wanted if digest not in held]:
        raise ConfigError("ckpt_path", str(path), f"a checkpoint of this config ({missing[0]}, not {held[0]})")
    if held == list(wanted):
        yield path
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # other tasks may want other parts
    few = _picked(content, [held.index(digest) for digest in wanted], list(wanted))
    try:
        results.write_whole(part, lambda temporary: _save(few, temporary))
        yield part
    finally:
        part.unlink(missing_ok=True)


def _picked(content: dict[str, Any], runs: list[int], wanted: list[str]) -> dict[str, Any]:
    """Every tensor of the state has a leading runs axis; the trace names the run of each row."""
    at = torch.tensor(runs)
    state = {name: tensor[at] for name, tensor in content["state_dict"].items()}
    held = {name: column.numpy() for name, column in content["trace"].items()}
    trace = {name: torch.from_numpy(column) for name, column in picked(held, runs).items()} if held else {}
    return content | {"state_dict": state, "trace": trace, "picked": runs, HASHES: wanted}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content[HASHES]
    except Exception as error:  # a torn file raises whatever the unpickler met
        raise ConfigError("ckpt_path", str(path), f"a checkpoint of Rankward's ({type(error).__name__})") from error
    rows = results.rows_file(path)
    if "picked" not in content and not are_there(rows, content):
        raise ConfigError("ckpt_path", str(path), f"a checkpoint with its rows ({rows} is missing or too short)")
    return dict(content)
