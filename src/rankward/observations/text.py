"""Text files as people have them: compressed or not, with any usual separator, with decimal points or commas."""

from __future__ import annotations

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rankward.config import DataError
from rankward.observations.headers import check_text, check_text_size

SEPARATORS = {"comma": ",", "tab": "\t", "semicolon": ";", "colons": "::", "bar": "|", "spaces": " "}
STAND_IN = "\x1f"  # for the two colons: readers take one character; it is the "unit separator" of ASCII
HOLES = {"", "nan", "+nan", "-nan", "na", "n/a", "<na>", "#n/a", "#na", "none", "null", "-", "--", "?", "."}
SAMPLE = 100  # lines that decide the separator
SAMPLE_LENGTH = 200_000  # characters of the text that they are taken from
WITH_COMMA = re.compile(r"\s*[+-]?\d+,\d+(e[+-]?\d+)?\s*", re.IGNORECASE)
WITH_POINT = re.compile(r"\s*[+-]?\d*\.\d+(e[+-]?\d+)?\s*", re.IGNORECASE)
THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")
UNREADABLE = "is not a text file of values with a separator between them, in UTF-8"


@dataclass(frozen=True)
class Text:
    """The lines of a text file and the separator of their cells.

    Args:
        body: the text without comments at the top and without Excel's `sep=,`; lines end with one `\\n`.
        first: number of the line with which `body` begins, from 1.
        separator: a name of `SEPARATORS`.
    """

    body: str
    first: int
    separator: str

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Number and cells of each line that is not empty.

        Raises:
            DataError: a cell that is longer than a reader takes.
        """
        yield from _records(self.body, self.separator, self.first)


def is_hole(cell: str) -> bool:
    """Whether a cell says that its entry is not observed."""
    return cell.strip().lower() in HOLES


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number in ASCII digits.

    Example:
        >>> [is_number(cell) for cell in (" 1.5", "-2e3", "1_000", "1,5", "x")]
        [True, True, False, False, False]
    """
    try:
        float(cell)
    except ValueError:
        return False
    return cell.isascii() and "_" not in cell


def read_text(file: Path, separator: str | None = None) -> Text:
    """The text of a file, compressed by gzip or not, with its separator: the one given, or the one that fits.

    Raises:
        DataError: a file that cannot be read or held, is no text in UTF-8, has no line, or may have several separators.
    """
    whole = _decoded(file).replace("\r\n", "\n").replace("\r", "\n")
    first, start, named = 1, 0, None
    while start < len(whole):
        end = whole.find("\n", start) % (len(whole) + 1)  # the end of the text where no line end follows
        line = whole[start:end]
        given = re.fullmatch(r"sep=(.?)", line.strip('"\n '), re.IGNORECASE) if first == 1 else None
        if line.strip() and not given and not re.match(r'"?#([\s,"]|$)', line):
            break
        named = given.group(1) if given else named
        first, start = first + 1, end + 1
    body = whole[start:]
    if not body.strip():
        raise DataError("no observation; at least one is needed")
    from_first_line = next((name for name, mark in SEPARATORS.items() if mark == named), None)
    return Text(body, first, separator or from_first_line or _separator(body, first))


def with_points(rows: Sequence[Sequence[str]], separator: str, decimal: str | None) -> bool:
    """Whether cells already have decimal points; false: their commas are decimal commas.

    Args:
        rows: cells of lines, without names.
        separator: a name of `SEPARATORS`.
        decimal: `point`, `comma`, or None, which decides by the cells.

    Raises:
        DataError: numbers that have commas, which may mark decimals or thousands, or commas and points.

    Example:
        >>> with_points([["1,5", "2"]], "tab", None), with_points([["1.5", "2"]], "tab", None)
        (False, True)
    """
    if decimal == "point":
        return True
    says = "observations.decimal=comma or point says which of them marks the decimals"
    pointed = (cell for cells in rows for cell in cells if WITH_POINT.fullmatch(cell))
    if decimal == "comma":
        if cell := next(pointed, None):
            raise DataError(f"a number has a point in it ({cell.strip()}), and observations.decimal is comma")
        return False
    commas = [cell for cells in rows for cell in cells if "," in cell and WITH_COMMA.fullmatch(cell)]
    if not commas:
        return True
    if any(pointed):
        raise DataError(f"numbers have commas and points in them ({commas[0].strip()}): {says}")
    if separator == "comma" or all(map(THOUSANDS.fullmatch, commas)):
        raise DataError(
            f"numbers have commas in them ({commas[0].strip()}): observations.decimal=comma says that these are "
            "decimal commas; commas between thousands are not read"
        )
    return False


def _decoded(file: Path) -> str:
    """The file's characters.

    Raises:
        DataError: as `read_text`.
    """
    check_text(file)
    try:
        data = file.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = _unpacked(data)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(UNREADABLE) from error
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"cannot be read, it may be torn ({type(error).__name__})") from error
    except OSError as error:
        raise DataError(f"cannot be read ({error.strerror})") from error
    if "\0" in text or STAND_IN in text:
        raise DataError(UNREADABLE)
    return text


def _unpacked(data: bytes) -> bytes:
    """The content of a gzip file, refused as soon as it is too large: a small file may unpack to any size."""
    parts, size = [], 0
    with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
        while part := stream.read(2**22):
            size += len(part)
            check_text_size(size)
            parts.append(part)
    return b"".join(parts)


def one_mark(body: str, separator: str) -> tuple[str, str]:
    """A text with one character between cells, without spaces at the ends of lines if that is a space; and it."""
    mark = SEPARATORS[separator]
    if separator == "spaces":
        body = re.sub(r"(?m)^ +| +$", "", body)
    return (body.replace(mark, STAND_IN), STAND_IN) if len(mark) > 1 else (body, mark)


def _records(body: str, separator: str, first: int = 1) -> Iterator[tuple[int, list[str]]]:
    body, mark = one_mark(body, separator)
    spaces = separator == "spaces"  # the reader skips the further ones between two cells
    try:
        read = csv.reader(io.StringIO(body, newline=""), delimiter=mark, skipinitialspace=spaces)
        for number, cells in enumerate(read, start=first):
            if cells and not (len(cells) == 1 and cells[0].isspace()):
                yield number, cells
    except csv.Error as error:
        raise DataError(UNREADABLE) from error


def _separator(body: str, first: int) -> str:
    """The separator with which the first lines have equally many cells, most of them numbers; a comma if none fits.

    A comma is not the separator where another one leaves commas in decimal numbers alone. If several fit equally well,
    tabs are taken, which hardly occur in names.
    """
    lines = body[:SAMPLE_LENGTH].split("\n")
    if len(body) > SAMPLE_LENGTH and len(lines) > 1:
        del lines[-1]
    sample = "\n".join(lines[:SAMPLE])
    share, decimals = {}, False
    for name in SEPARATORS:
        rows = [cells for _, cells in _records(sample, name, first)]
        widths = {len(cells) for cells in rows[1:]} or {len(rows[0])}
        if len(widths) == 1 and max(widths) > 1 and len(rows[0]) in (max(widths), max(widths) - 1):
            cells = [cell for row in rows[len(rows) > 1 :] for cell in row]
            values = [is_hole(cell) or is_number(cell) or bool(WITH_COMMA.fullmatch(cell)) for cell in cells]
            share[name] = sum(values) / len(values)
            commas = [cell for cell in cells if "," in cell]
            decimals |= name not in ("comma", "spaces") and bool(commas) and all(map(WITH_COMMA.fullmatch, commas))
    if decimals:
        share.pop("comma", None)
    best = [name for name, fraction in share.items() if fraction == max(share.values())]
    if len(best) > 1 and "spaces" in best:  # names have spaces in them, too
        best.remove("spaces")
    if len(best) > 1 and "tab" not in best:
        raise DataError(f"its cells may be separated by {' or '.join(best)}: observations.separator says which")
    return "comma" if not best else "tab" if "tab" in best else best[0]
