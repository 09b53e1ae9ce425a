"""Checkpoint files of ensembles: atomic writes, the runs that a file holds, the part of it that some runs need."""

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
from rankward.training.trace import has_counted_rows, select_runs

HASHES = "config_hashes"  # key: config hashes of the runs, in the ensemble's order
VERSION = "rankward"  # key: version of Rankward that wrote the checkpoint


class AtomicCheckpoints(CheckpointIO):
    """Writes checkpoints atomically and keeps the previous one.

    Args:
        resumed: the checkpoint that training continues from, or None.
    """

    def __init__(self, resumed: Path | None = None) -> None:
        self.intact = resumed  # only an intact checkpoint is kept as the previous one: a torn one never replaces it

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        """Write a checkpoint.

        Raises:
            ResultsError: it cannot be written; the checkpoint at this path is unchanged.
        """
        path = Path(path)
        previous = results.previous_checkpoint(path) if self.intact == path else None
        results.write_atomic(path, lambda temporary: _save(checkpoint, temporary), previous)
        self.intact = path

    def load_checkpoint(self, path: Any, map_location: Any = None, weights_only: bool | None = None) -> dict[str, Any]:
        """Read a checkpoint.

        Raises:
            ConfigError: not a checkpoint, or a torn one.
        """
        return _load(Path(path))

    def remove_checkpoint(self, path: Any) -> None:
        """Remove a checkpoint, the previous one and its rows."""
        results.remove_checkpoint(Path(path))


def _save(content: dict[str, Any], path: Path) -> None:
    try:
        with path.open("wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # torch hides the error of the file behind one of its own
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise


def is_readable(path: Path) -> bool:
    """Whether the file is a checkpoint, and neither it nor its file of rows is torn."""
    try:
        _load(path)
    except ConfigError:
        return False
    return True


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Contents of a checkpoint, or of the previous one if it is torn or being replaced; empty if both are torn."""
    for candidate in (path, results.previous_checkpoint(path)):
        with contextlib.suppress(ConfigError):
            return _load(candidate)
    return {}


def config_hashes(path: Path) -> list[str]:
    """Config hashes of the runs that a checkpoint, or the previous one, holds; empty if both are torn."""
    return list(read_checkpoint(path).get(HASHES, []))


def iterations(path: Path) -> dict[str, int]:
    """The iteration that each run of a checkpoint has reached, by config hash; empty if it is not readable."""
    try:
        content = _load(path)
        reached = content["state_dict"]["progress_iteration"].tolist()
    except (ConfigError, KeyError, AttributeError):
        return {}
    return dict(zip(content[HASHES], reached, strict=True))


@contextlib.contextmanager
def checkpoint_of_runs(path: Path, digests: Sequence[str]) -> Iterator[Path]:
    """A checkpoint of just these runs, in this order: the file itself, or a temporary one in its folder.

    Args:
        path: of a checkpoint that holds these runs, and maybe others.
        digests: config hashes.

    Raises:
        ConfigError: not a checkpoint, or not of these runs.
        ResultsError: the temporary file cannot be written.
    """
    content = _load(path)
    held = list(content[HASHES])
    if content.get(VERSION) != __version__:
        say(f"rankward: {path} was written by rankward {content.get(VERSION)}, this is {__version__}", error=True)
    if missing := [digest for digest in digests if digest not in held]:
        raise ConfigError("ckpt_path", str(path), f"a checkpoint of this config ({missing[0]}, not {held[0]})")
    if held == list(digests):
        yield path
        return
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # other tasks may need other runs of it
    part = _select_runs(content, [held.index(digest) for digest in digests], list(digests))
    try:
        results.write_atomic(temporary, lambda file: _save(part, file))
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _select_runs(content: dict[str, Any], runs: list[int], digests: list[str]) -> dict[str, Any]:
    """Contents for some runs: tensors of the state have a leading runs axis; the trace has the run of each row."""
    index = torch.tensor(runs)
    state = {name: tensor[index] for name, tensor in content["state_dict"].items()}
    rows = {name: column.numpy() for name, column in content["trace"].items()}
    trace = {name: torch.from_numpy(column) for name, column in select_runs(rows, runs).items()} if rows else {}
    return content | {"state_dict": state, "trace": trace, "picked": runs, HASHES: digests}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content[HASHES]
    except Exception as error:  # a torn file raises whatever the unpickler meets
        raise ConfigError("ckpt_path", str(path), f"a checkpoint of Rankward's ({type(error).__name__})") from error
    rows = results.rows_file(path)
    if "picked" not in content and not has_counted_rows(rows, content):
        raise ConfigError("ckpt_path", str(path), f"a checkpoint with its rows ({rows} is missing or too short)")
    return dict(content)
