"""Names of checkpoint files: the checkpoint, the previous one, and rows of the trace that it does not hold.

checkpoint.ckpt             the state of an ensemble
checkpoint.previous.ckpt    the previous one; it is used if the last one is torn
checkpoint.rows             rows of a long trace; the file only grows, and a checkpoint has the number of its rows
"""

from __future__ import annotations

from pathlib import Path

CHECKPOINT = "checkpoint.ckpt"
_SUFFIX, _PREVIOUS, _ROWS = ".ckpt", ".previous.ckpt", ".rows"


def checkpoints(folder: Path, pattern: str = f"checkpoint*{_SUFFIX}") -> list[Path]:
    """Sorted paths of checkpoints (regular files) in a folder, also of those of which only the previous one exists.

    Example:
        >>> checkpoints(Path("no such folder"))
        []
    """
    return sorted({latest_checkpoint(path) for path in folder.glob(pattern) if path.is_file()})


def latest_checkpoint(path: Path) -> Path:
    """The path of the latest checkpoint: the path itself, or the one that follows if it is a previous checkpoint."""
    return path.with_name(path.name.removesuffix(_PREVIOUS) + _SUFFIX) if path.name.endswith(_PREVIOUS) else path


def previous_checkpoint(path: Path) -> Path:
    """The path to which a checkpoint is renamed when a new one is written.

    Example:
        >>> previous_checkpoint(Path("3.ckpt")).name, latest_checkpoint(previous_checkpoint(Path("3.ckpt"))).name
        ('3.previous.ckpt', '3.ckpt')
    """
    return path.with_name(path.name.removesuffix(_SUFFIX) + _PREVIOUS)


def rows_file(path: Path) -> Path:
    """The file with the rows that a checkpoint and the previous one count but do not hold."""
    return path.with_name(latest_checkpoint(path).name.removesuffix(_SUFFIX) + _ROWS)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint, the previous one and their file of rows."""
    for file in (path, previous_checkpoint(path), rows_file(path)):
        file.unlink(missing_ok=True)
