"""Checkpoints of ensembles: which runs they hold, and the part of one that some of its runs need."""

from __future__ import annotations

import contextlib
import secrets
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from rankward import __version__
from rankward.config import ConfigError

HASHES = "config_hashes"  # of the runs, in the ensemble's order
VERSION = "rankward"  # that wrote the checkpoint


def digests(path: Path) -> list[str]:
    """Config hashes of the runs that a checkpoint holds; none where it cannot be read."""
    try:
        return list(_load(path)[HASHES])
    except ConfigError:
        return []


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
    """
    content = _load(path)
    held = list(content[HASHES])
    if content.get(VERSION) != __version__:
        print(
            f"rankward: {path} was written by rankward {content.get(VERSION)}, this is {__version__}", file=sys.stderr
        )
    if missing := [digest for digest in wanted if digest not in held]:
        raise ConfigError("ckpt_path", str(path), f"a checkpoint of this config ({missing[0]}, not {held[0]})")
    if held == list(wanted):
        yield path
        return
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # other tasks may want other parts
    torch.save(_picked(content, [held.index(digest) for digest in wanted], list(wanted)), part)
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)


def _picked(content: dict[str, Any], runs: list[int], wanted: list[str]) -> dict[str, Any]:
    """Every tensor of the state has a leading runs axis; the trace names the run of each row."""
    at = torch.tensor(runs)
    state = {name: tensor[at] for name, tensor in content["state_dict"].items()}
    trace = content["trace"]
    if trace:
        place = torch.full((int(trace["run"].max()) + 1,), -1)
        known = at < len(place)
        place[at[known]] = torch.arange(len(runs))[known]
        now = place[trace["run"]]
        trace = {name: column[now >= 0] for name, column in (trace | {"run": now}).items()}
    return content | {"state_dict": state, "trace": trace, HASHES: wanted}


def _load(path: Path) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        content[HASHES]
    except Exception as error:  # a torn file raises whatever the unpickler met
        raise ConfigError("ckpt_path", str(path), f"a checkpoint of Rankward's ({type(error).__name__})") from error
    return dict(content)
