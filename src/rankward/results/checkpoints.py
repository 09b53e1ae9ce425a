"""A checkpoint and the files that belong to it: the checkpoint before it, and rows of the trace that are not in it.

checkpoint.ckpt             the state of an ensemble
checkpoint.previous.ckpt    the one before; it serves where the last one is torn
checkpoint.rows             rows of a trace that has outgrown memory; it only grows, a checkpoint counts its own part
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = "checkpoint.ckpt"
_SUFFIX, _PREVIOUS, _ROWS = ".ckpt", ".previous.ckpt", ".rows"


def checkpoints(folder: Path, pattern: str = f"checkpoint*{_SUFFIX}") -> list[Path]:
    """Checkpoints in folders (regular files), sorted; a path is listed as well where only the one before it is there.

    Example:
        >>> checkpoints(Path("no such folder"))
        []
    """
    return sorted({last(path) for path in folder.glob(pattern) if path.is_file()})


def last(path: Path) -> Path:
    """The checkpoint that this one belongs to: itself, or the one that came after it."""
    return path.with_name(path.name.removesuffix(_PREVIOUS) + _SUFFIX) if path.name.endswith(_PREVIOUS) else path


def previous(path: Path) -> Path:
    """Where the checkpoint before this one is kept.

    Example:
        >>> previous(Path("3.ckpt")).name, last(previous(Path("3.ckpt"))).name
        ('3.previous.ckpt', '3.ckpt')
    """
    return path.with_name(path.name.removesuffix(_SUFFIX) + _PREVIOUS)


def rows_file(path: Path) -> Path:
    """Where rows lie that a checkpoint, or the one before it, counts but does not hold."""
    return path.with_name(last(path).name.removesuffix(_SUFFIX) + _ROWS)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint with all that belongs to it."""
    for each in (path, previous(path), rows_file(path)):
        each.unlink(missing_ok=True)
