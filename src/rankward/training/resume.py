"""Resuming: which results are complete and kept, and which checkpoint training continues from.

A run is identified by its config hash. A complete run of the same hash is never trained again; an unfinished one
continues from the checkpoint in which it is furthest, alone or among other runs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from rankward import __version__, results
from rankward.config import RunConfig
from rankward.config.errors import other_config
from rankward.terminal import say
from rankward.training.checkpoints import config_hashes, is_readable, iterations


def completed_loss(folder: Path, digest: str, print_line: bool = True) -> float | None:
    """The last loss of the complete run of this config in the folder; None if there is none.

    Args:
        folder: of the run.
        digest: the config hash.
        print_line: whether a line says that the run is kept.

    Raises:
        ConfigError: the folder holds the results of another config.
    """
    summary = results.complete_summary(folder)
    if summary is None:
        return None
    if (found := summary.get("config_hash")) != digest:
        raise other_config("hydra.run.dir", folder, f"there config_hash is {found}, not {digest}")
    if print_line:
        version = summary.get("versions", {}).get("rankward")
        other = "" if version == __version__ else f" (made by rankward {version}, this is {__version__})"
        say(f"{folder}: complete, kept{other}")
    return float(summary["metrics"]["loss"])


def checkpoint_of(run: RunConfig, folder: Path) -> Path | None:
    """The checkpoint that a single run continues from: `ckpt_path`, or a readable one in its folder."""
    return newest(folder / results.CHECKPOINT) if run.ckpt_path is None else Path(run.ckpt_path)


def newest(path: Path) -> Path | None:
    """The checkpoint at this path, or the previous one if it is torn; None if neither can be read.

    A line on standard error names each torn file.
    """
    torn: list[Path] = []
    found = None
    for candidate in (path, results.previous_checkpoint(path)):
        if is_readable(candidate):
            found = candidate
            break
        torn += [candidate] if candidate.is_file() else []
    instead = f"{found} is used" if found else "training starts from the beginning"
    for candidate in torn:
        say(f"rankward: {candidate} is torn and counts as none: {instead}", error=True)
    return found


def furthest_checkpoints(paths: Iterable[Path]) -> dict[str, Path]:
    """The checkpoint in which each run is furthest, by config hash.

    If a run has reached the same iteration in several, the one with the most iterations in all is chosen.

    Args:
        paths: checkpoints that earlier attempts may have left; torn ones are replaced by the previous one.
    """
    found = {path: iterations(path) for path in map(newest, sorted(paths)) if path is not None}
    furthest: dict[str, tuple[int, Path]] = {}
    for path in sorted(found, key=lambda path: (sum(found[path].values()), path)):
        for digest, iteration in found[path].items():
            if digest not in furthest or iteration >= furthest[digest][0]:
                furthest[digest] = iteration, path
    return {digest: path for digest, (_, path) in furthest.items()}


def checkpoint_path(path: Path, resumed: Path | None, digests: Sequence[str]) -> Path:
    """The path at which an ensemble saves its checkpoints: a checkpoint that holds other runs too is not overwritten.

    Args:
        path: where they are saved otherwise.
        resumed: the checkpoint that training continues from, or None.
        digests: config hashes of the ensemble's runs.
    """
    if resumed is None or results.latest_checkpoint(resumed).absolute() != path.absolute():
        return path
    if config_hashes(resumed) == list(digests):
        return path
    name = hashlib.sha256(" ".join(digests).encode()).hexdigest()[:8]
    return path.with_name(f"{path.stem}.{name}{path.suffix}")
