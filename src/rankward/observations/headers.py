"""Sizes of arrays in files, read from their headers before memory is allocated."""

from __future__ import annotations

import contextlib
import math
import os
import zipfile
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from rankward.config import DataError
from rankward.config.checks import ENTRY_BYTES, too_much

Readable = Any  # a binary file, or a member of an archive
LINE_BYTES = 40  # of a byte of text, once lines and fields are objects


def refuse_large(what: str, needed: float) -> None:
    """Refuse what this machine's memory cannot hold.

    Raises:
        DataError: what it is, the GiB that it needs, and those there are.
    """
    if why := too_much(needed):
        raise DataError(f"{what} does not fit into memory: {why}")


@contextlib.contextmanager
def errors_of_reader() -> Iterator[None]:
    """Raise any error of a file's reader as a DataError, since a torn file may raise anything; a DataError passes."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"cannot be read, it may be torn ({type(error).__name__})") from error


def check_npy(file: Path) -> None:
    """Refuse an array that is too large, or longer than its file.

    Raises:
        DataError: that, a torn header, or an array of anything but numbers.
    """
    with file.open("rb") as stream:
        _check_array(stream, os.fstat(stream.fileno()).st_size, "the array")


def check_npz(file: Path, names: Collection[str]) -> list[str]:
    """Those of the names that the file has; refused where they are too large together, however small the file is.

    Raises:
        DataError: that, a torn header, or arrays of anything but numbers.
        zipfile.BadZipFile, OSError, RuntimeError: no such file, a torn or an encrypted one.
    """
    with zipfile.ZipFile(file) as archive:
        members = {name: archive.getinfo(f"{name}.npy") for name in names if f"{name}.npy" in archive.namelist()}
        needed = 0
        for name, member in members.items():
            with archive.open(member) as stream:
                needed += _check_array(stream, member.file_size, f"`{name}`")
    refuse_large(" and ".join(f"`{name}`" for name in members), needed)
    return list(members)


def names_in(file: Path) -> set[str]:
    """Names of the arrays in a `.npz`.

    Raises:
        zipfile.BadZipFile, OSError: no such file, or a torn one.
    """
    with zipfile.ZipFile(file) as archive:
        return {name.removesuffix(".npy") for name in archive.namelist()}


def check_text(file: Path) -> None:
    """Refuse a text file whose fields this machine cannot hold.

    Raises:
        DataError: that.
    """
    check_text_size(file.stat().st_size)


def check_text_size(size: int) -> None:
    """Refuse a text of so many bytes if this machine cannot hold its fields.

    Raises:
        DataError: that.
    """
    refuse_large(f"a text of {size:,} bytes", LINE_BYTES * size)


def check_pt(file: Path) -> None:
    """Refuse a file whose records, unpacked, this machine cannot hold.

    Raises:
        DataError: that.
        zipfile.BadZipFile, OSError: a torn file.
    """
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            refuse_large("what it holds", sum(member.file_size for member in archive.infolist()))


def _check_array(stream: Readable, size: int, what: str) -> int:
    """Bytes that the array takes once it is observed."""
    try:
        version = np.lib.format.read_magic(stream)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, kind = read(stream)
    except Exception as error:  # a torn header raises whatever its parser met
        why = f"it may be torn, or a pickle, which is not executed ({type(error).__name__})"
        raise DataError(f"cannot be read, {why}") from error
    if min(shape, default=0) < 0:
        raise DataError(f"cannot be read, it may be torn: {what} of shape {list(shape)}")
    if kind.kind not in "fiub":
        raise DataError(f"{what} holds no array of numbers but of type {kind}; expected real numbers")
    entries = math.prod(shape)
    refuse_large(f"{what} of shape {list(shape)}", (ENTRY_BYTES + kind.itemsize) * entries)
    if stream.tell() + entries * kind.itemsize > size:
        raise DataError(f"cannot be read, it may be torn: {what} of shape {list(shape)} is longer than the file")
    return (ENTRY_BYTES + kind.itemsize) * entries
