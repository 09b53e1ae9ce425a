"""Recorded rows of an ensemble in training: in memory, and in a file once they are many."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rankward import results

PRODUCT = (
    "product of the row"  # the one column that is an array a row, [rows, entries]; no metric has a name with spaces
)
MAX_BYTES = 128 * 2**20  # of rows in memory; when there are more, all of them are moved to the file

Columns = dict[str, np.ndarray]


class Trace:
    """Rows of all runs in the order in which they were recorded.

    A column is [rows], or [rows, numbers]: then `widths` has the numbers of a row. The file holds blocks of rows. A
    block is stored column after column, with eight bytes per number. The file only
    grows, so a checkpoint does not repeat its rows: it holds the number of blocks that belong to it. A run that is
    resumed overwrites the blocks after those.
    """

    def __init__(self) -> None:
        self.file: Path | None = None  # None: all rows stay in memory
        self.source: Path | None = None  # rows of the checkpoint that is resumed
        self.names: list[str] = []
        self.widths: dict[str, int] = {}
        self.blocks: list[int] = []  # rows of each block in the file
        self.chunks: list[Columns] = []  # in memory
        self.bytes = 0  # of these

    def append(self, rows: Mapping[str, np.ndarray]) -> None:
        """Append the rows of a chunk.

        Raises:
            ResultsError: the file cannot be written.
        """
        chunk: Columns = {name: np.ascontiguousarray(column, dtype_of(name)) for name, column in rows.items()}
        self.names = list(chunk)
        self.widths = {name: column.shape[1] for name, column in chunk.items() if column.ndim == 2}
        self.chunks.append(chunk)
        self.bytes += sum(column.nbytes for column in chunk.values())
        if self.bytes > MAX_BYTES and self.file is not None:
            self._write(self.file)

    def _write(self, path: Path) -> None:
        """Move the rows in memory to the file."""
        try:
            with path.open("rb+" if self.blocks else "wb") as file:
                file.seek(8 * _numbers(self.names, self.widths) * sum(self.blocks))
                for name in self.names:
                    for chunk in self.chunks:
                        file.write(chunk[name].data)
                file.truncate()
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise results.io_error("write", path, error) from error
        self.blocks.append(sum(len(chunk["run"]) for chunk in self.chunks))
        self.chunks, self.bytes = [], 0

    def parts(self) -> Iterator[Columns]:
        """All rows, part after part; those in the file are memory-mapped."""
        if self.file is not None:
            yield from _mapped(self.file, self.names, self.widths, self.blocks)
        yield from self.chunks

    def last_iterations(self, runs: int) -> np.ndarray:
        """The iteration of each run's last row so far, [runs]; -1 if it has none."""
        last = np.full(runs, -1)
        for part in self.parts():
            np.maximum.at(last, part["run"], part["iteration"])
        return last

    def by_run(self) -> Columns:
        """All rows, sorted by run; memory-mapped from an unnamed file if the trace has a file.

        Raises:
            ResultsError: a file cannot be written.
        """
        if self.blocks and self.chunks and self.file is not None:  # memory would hold the rows and their sorted copy
            self._write(self.file)
        parts = list(self.parts())
        if not parts:
            return {}
        runs = np.concatenate([part["run"] for part in parts])
        order = None if (runs[1:] >= runs[:-1]).all() else np.argsort(runs, kind="stable")

        def column(name: str) -> np.ndarray:
            values = np.concatenate([part[name] for part in parts])
            return values if order is None else values[order]

        if not self.blocks:
            return {name: column(name) for name in self.names}
        assert self.file is not None
        try:
            with tempfile.TemporaryFile(dir=self.file.parent) as file:
                for name in self.names:
                    file.write(column(name).data)
                file.flush()
                found: Columns = {}
                start = 0
                for name in self.names:
                    shape = (len(runs), *([self.widths[name]] if name in self.widths else []))
                    found[name] = np.memmap(file, dtype_of(name), "r", start, shape)
                    start += found[name].nbytes
                return found
        except OSError as error:
            raise results.io_error("write", self.file.parent, error) from error

    def state(self) -> dict[str, Any]:
        """State for a checkpoint: rows in memory as `trace`; names and blocks of those in the file as `written`."""
        rows = {name: np.concatenate([chunk[name] for chunk in self.chunks]) for name in self.names if self.chunks}
        return {
            "trace": {name: torch.from_numpy(column) for name, column in rows.items()},
            "written": {"names": self.names, "blocks": self.blocks, "widths": self.widths},
        }

    def load(self, checkpoint: Mapping[str, Any]) -> None:
        """Restore the rows of a checkpoint, whose file of rows is `source`.

        Raises:
            ResultsError: rows cannot be copied to the file.
        """
        names, widths, blocks = file_layout(checkpoint)
        if "picked" not in checkpoint and self.source == self.file:
            self.names, self.widths, self.blocks = names, widths, blocks
        elif blocks:
            assert self.source is not None
            for part in _mapped(self.source, names, widths, blocks):
                self.append(select_runs(part, checkpoint.get("picked")))
        rows = {name: column.numpy() for name, column in checkpoint["trace"].items()}
        if rows:
            self.append(rows)


def dtype_of(name: str) -> type:
    """The type of a column: int64 for indices, else float64."""
    return np.int64 if name in ("run", "iteration") else np.float64


def _numbers(names: Sequence[str], widths: Mapping[str, int]) -> int:
    """The numbers of a row in all columns."""
    return sum(widths.get(name, 1) for name in names)


def file_layout(checkpoint: Mapping[str, Any]) -> tuple[list[str], dict[str, int], list[int]]:
    """Column names, their widths, and the rows of each block, in a checkpoint's file; empty if it has no file."""
    written = checkpoint.get("written", {})
    return list(written.get("names", [])), dict(written.get("widths", {})), list(written.get("blocks", []))


def has_counted_rows(path: Path, checkpoint: Mapping[str, Any]) -> bool:
    """Whether a file of rows holds all rows that a checkpoint counts."""
    names, widths, blocks = file_layout(checkpoint)
    return not blocks or (path.is_file() and path.stat().st_size >= 8 * _numbers(names, widths) * sum(blocks))


def read_rows(path: Path, checkpoint: Mapping[str, Any], names: Sequence[str]) -> Columns:
    """Columns of a checkpoint's trace, with the rows in its file.

    Args:
        path: the file of rows.
        checkpoint: its contents.
        names: of columns; those that the trace lacks are left out.
    """
    parts: list[Mapping[str, Any]] = list(_mapped(path, *file_layout(checkpoint)))
    if checkpoint["trace"]:
        parts.append({name: column.numpy() for name, column in checkpoint["trace"].items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in names if parts and name in parts[0]}


def select_runs(rows: Mapping[str, np.ndarray], runs: Sequence[int] | None) -> Columns:
    """Rows of some runs, renumbered in the given order; None selects all rows unchanged.

    Example:
        >>> rows = {"run": np.array([0, 1, 2, 0]), "loss": np.array([4.0, 3.0, 2.0, 1.0])}
        >>> {name: column.tolist() for name, column in select_runs(rows, [2, 0]).items()}
        {'run': [1, 0, 1], 'loss': [4.0, 2.0, 1.0]}
    """
    if runs is None:
        return dict(rows)
    position = np.full(max(int(rows["run"].max(initial=0)), *runs) + 1, -1)
    position[list(runs)] = np.arange(len(runs))
    renumbered = position[rows["run"]]
    selected = renumbered >= 0
    return {name: (renumbered if name == "run" else column)[selected] for name, column in rows.items()}


def _mapped(path: Path, names: Sequence[str], widths: Mapping[str, int], blocks: Sequence[int]) -> Iterator[Columns]:
    start, ends = 0, np.cumsum([0, *(widths.get(name, 1) for name in names)])
    for rows in blocks:
        words = np.memmap(path, np.int64, "r", start, (int(ends[-1]), rows))
        part: Columns = {}
        for at, name in enumerate(names):
            column: np.ndarray = words[ends[at] : ends[at + 1]].view(dtype_of(name))
            part[name] = column.reshape(rows, -1) if name in widths else column[0]
        yield part
        start += words.nbytes
