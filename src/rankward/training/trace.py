"""Rows of an ensemble while it trains: the last ones in memory, earlier ones in a file once there are many."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankward import results

HELD = 128 * 2**20  # bytes of rows in memory; when there are more, all of them go to the file

Columns = dict[str, np.ndarray]


class Trace:
    """Rows of all runs in the order in which they were recorded.

    The file holds blocks of rows, a block column after column, in eight bytes a number. It only grows, so a checkpoint
    need not hold what is in it: it counts the blocks that are its own, and whoever resumes overwrites later ones.
    """

    def __init__(self) -> None:
        self.file: Path | None = None  # None: all rows stay in memory
        self.source: Path | None = None  # rows of the checkpoint that is resumed
        self.names: list[str] = []
        self.blocks: list[int] = []  # rows of each block in the file
        self.chunks: list[Columns] = []  # in memory
        self.held = 0  # bytes of these

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Take rows of a chunk.

        Raises:
            ResultsError: the file cannot be written.
        """
        chunk: Columns = {name: np.ascontiguousarray(column, kind(name)) for name, column in rows.items()}
        self.names = list(chunk)
        self.chunks.append(chunk)
        self.held += sum(column.nbytes for column in chunk.values())
        if self.held > HELD and self.file is not None:
            self._write(self.file)

    def _write(self, path: Path) -> None:
        """Move what is in memory to the file."""
        try:
            with path.open("rb+" if self.blocks else "wb") as file:
                file.seek(8 * len(self.names) * sum(self.blocks))
                for name in self.names:
                    for chunk in self.chunks:
                        file.write(chunk[name].data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise results.failure("write", path, error) from error
        self.blocks.append(sum(len(chunk["run"]) for chunk in self.chunks))
        self.chunks, self.held = [], 0

    def parts(self) -> Iterator[Columns]:
        """All rows, part after part; those in the file are mapped, and read when they are used."""
        if self.file is not None:
            yield from _mapped(self.file, self.names, self.blocks)
        yield from self.chunks

    def by_run(self) -> Columns:
        """All rows, run after run; columns are mapped from a file without a name where rows are in a file already."""
        if self.blocks and self.chunks and self.file is not None:  # what is in memory would be there beside its columns
            self._write(self.file)
        parts = list(self.parts())
        if not parts:
            return {}
        runs = np.concatenate([part["run"] for part in parts])
        order = None if (runs[1:] >= runs[:-1]).all() else np.argsort(runs, kind="stable")

        def column(name: str) -> np.ndarray:
            whole = np.concatenate([part[name] for part in parts])
            return whole if order is None else whole[order]

        if not self.blocks:
            return {name: column(name) for name in self.names}
        assert self.file is not None
        try:
            with tempfile.TemporaryFile(dir=self.file.parent) as file:
                for name in self.names:
                    file.write(column(name).data)
                file.flush()
                size = len(runs)
                return {
                    name: np.memmap(file, kind(name), "r", 8 * size * place, (size,))
                    for place, name in enumerate(self.names)
                }
        except OSError as error:
            raise results.failure("write", self.file.parent, error) from error

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds: rows in memory as `trace`; names and blocks of those in the file as `written`."""
        held = {name: np.concatenate([chunk[name] for chunk in self.chunks]) for name in self.names if self.chunks}
        return {
            "trace": {name: torch.from_numpy(column) for name, column in held.items()},
            "written": {"names": self.names, "blocks": self.blocks},
        }

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Take up the rows of a checkpoint, whose file of rows is `source`.

        Raises:
            ResultsError: rows that have to be copied cannot be.
        """
        names, blocks = counted(checkpoint)
        if "picked" not in checkpoint and self.source == self.file:
            self.names, self.blocks = names, blocks
        elif blocks:
            assert self.source is not None
            for part in _mapped(self.source, names, blocks):
                self.append(picked(part, checkpoint.get("picked")))
        held = {name: column.numpy() for name, column in checkpoint["trace"].items()}
        if held:
            self.append(held)


def kind(name: str) -> type:
    """The type of a column."""
    return np.int64 if name in ("run", "iteration") else np.float64


def counted(checkpoint: Mapping[str, Any]) -> tuple[list[str], list[int]]:
    """Names of the columns in a checkpoint's file of rows, and the rows of each block; none of one without a file."""
    written = checkpoint.get("written", {})
    return list(written.get("names", [])), list(written.get("blocks", []))


def are_there(path: Path, checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file of rows holds those that a checkpoint counts."""
    names, blocks = counted(checkpoint)
    return not blocks or (path.is_file() and path.stat().st_size >= 8 * len(names) * sum(blocks))


def rows_of(path: Path, checkpoint: Mapping[str, Any], wanted: Sequence[str]) -> Columns:
    """Some columns of a checkpoint's whole trace, those in its file of rows included.

    Args:
        path: the file of rows.
        checkpoint: its content.
        wanted: names; those that the trace has are returned.
    """
    parts: list[Mapping[str, Any]] = list(_mapped(path, *counted(checkpoint)))
    if checkpoint["trace"]:
        parts.append({name: column.numpy() for name, column in checkpoint["trace"].items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in wanted if parts and name in parts[0]}


def picked(rows: Mapping[str, np.ndarray], runs: Sequence[int] | None) -> Columns:
    """Rows of some runs, which are counted anew in the given order; None for all as they are."""
    if runs is None:
        return dict(rows)
    place = np.full(max(int(rows["run"].max(initial=0)), *runs) + 1, -1)
    place[list(runs)] = np.arange(len(runs))
    now = place[rows["run"]]
    kept = now >= 0
    return {name: (now if name == "run" else column)[kept] for name, column in rows.items()}


def _mapped(path: Path, names: Sequence[str], blocks: Sequence[int]) -> Iterator[Columns]:
    start = 0
    for rows in blocks:
        words = np.memmap(path, np.int64, "r", start, (len(names), rows))
        yield {name: words[place].view(kind(name)) for place, name in enumerate(names)}
        start += words.nbytes
