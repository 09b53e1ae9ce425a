"""Lists of entries with ids of the data's own: `user, item, rating, ...` in a text file or a Parquet table."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
import polars as pl

from rankward.config import DataError
from rankward.config.checks import ENTRY_BYTES
from rankward.config.errors import nearest
from rankward.observations.headers import errors_of_reader, refuse_large
from rankward.observations.ids import Ids, as_integers, axis_names, distinct
from rankward.observations.indexed import NO_TRUTH, IndexedEntries, observed, order_keys
from rankward.observations.measurement import EntryMask
from rankward.observations.tables import VALUE_NAMES
from rankward.observations.text import (
    HOLES,
    WITH_COMMA,
    Text,
    is_hole,
    is_number,
    one_mark,
    read_text,
    with_points,
)

PARQUET = (".parquet", ".pq")


@dataclass(frozen=True)
class Columns:
    """The cells of a list, all as text, and how they were found.

    Args:
        frame: a column of texts for each column of the file.
        names: of the columns, if the file has a header.
        how: the separator and the like, where they are worth saying; or empty.
        text: the file's text, for the numbers of lines; None of a Parquet table.
    """

    frame: pl.DataFrame
    names: list[str] | None
    how: str
    text: Text | None

    def line(self, row: int) -> str:
        """The place of a row of the table in the file, for a message."""
        if self.text is None:
            return f"row {row}"
        found = next(islice(self.text.records(), row + (self.names is not None), None))
        return f"line {found[0]}"

    def chosen(self, columns: Sequence[int | str]) -> list[int]:
        """The places, from 0, of columns that are given by number from 1 or by name.

        Raises:
            DataError: a column that there is not, or one that is given twice.
        """
        width, names = self.frame.width, self.names
        places = []
        for column in columns:
            if isinstance(column, str) and names is None:
                raise DataError(f"observations.columns: {column!r} is a name, and the file has no header")
            if isinstance(column, str) and (names or []).count(column) != 1:
                known = f"the header has {', '.join(names or [])}{nearest(column, names or [])}"
                raise DataError(f"observations.columns: {column!r} is no column, or several; {known}")
            place = (names or []).index(column) if isinstance(column, str) else column - 1
            if not 0 <= place < width:
                raise DataError(f"observations.columns: {column} is not one of the file's {width} columns")
            places.append(place)
        if len(set(places)) < len(places):
            raise DataError(f"observations.columns: {list(columns)} has a column twice")
        return places


def from_ratings(
    path: str,
    columns: list[int | str] | None = None,
    ids: int | str | None = None,
    duplicates: str | None = None,
    header: bool | None = None,
    separator: str | None = None,
    decimal: str | None = None,
    dims: Sequence[int] | None = None,
    count: int | None = None,
    ground_truth: str | None = None,
) -> EntryMask | IndexedEntries:
    """Observations from a list of entries, each with its ids and a value, in the data's own ids.

    Args:
        path: a text file, compressed by gzip or not, or a `.parquet` table.
        columns: the columns of the ids and, last, of the value, by number from 1 or by the header's names; None: the
            first ones, as many as `dims` has sizes, or two, and the one after them. Further columns are ignored.
        ids: 0 or 1, where they count from, or `names`, which numbers the different ones; None: names where one is no
            integer, otherwise 0 or 1 if that is the smallest id of the axes.
        duplicates: the `mean` or the `last` of the values of an entry that is listed more than once; None: refused.
        header: whether the first line has names; None: it has if none of its cells is a number.
        separator: a name of `SEPARATORS`; None: the one that fits.
        decimal: `point` or `comma`; None: decided by the numbers.
        dims: sizes of the array; None: those of the largest ids.
        count: keep the first so many lines.
        ground_truth: a file with the whole array, as for `from_file`, whose indices are in the order of the ids.

    An entry without a value (an empty cell, NaN, NA and the like) is not observed. The result's `note` says how the
    file was read, its `ids` have the ids, and its `reread` reads another file in the same way.

    Raises:
        DataError: a file that is missing, torn or ambiguous, or that has values that are no finite numbers.
    """
    from rankward.observations.files import ground_truth_of

    read = partial(
        _listed,
        columns=columns,
        duplicates=duplicates,
        header=header,
        separator=separator,
        decimal=decimal,
    )
    made = read("path", path, ids=ids, dims=dims, count=count)
    again = partial(read, known=made.ids, dims=dims)
    if isinstance(made, EntryMask):
        truth = None if ground_truth is None else ground_truth_of(ground_truth, made.dims)
        return replace(made, ground_truth=truth, reread=again)
    if ground_truth is not None:
        raise DataError(f"observations.ground_truth: {ground_truth!r}: expected {NO_TRUTH}")
    return replace(made, reread=again)


def _listed(
    key: str,
    path: str,
    columns: list[int | str] | None,
    duplicates: str | None,
    header: bool | None,
    separator: str | None,
    decimal: str | None,
    ids: int | str | None = None,
    dims: Sequence[int] | None = None,
    count: int | None = None,
    known: Ids | None = None,
) -> EntryMask | IndexedEntries:
    file = Path(path).expanduser()
    try:
        table = read_columns(file, separator, header, columns, 2 if dims is None else len(dims))
        axes = (len(columns) if columns else 3 if dims is None else len(dims) + 1) - 1
        return _entries(table, file.name, axes, columns, ids, duplicates, decimal, dims, count, known)
    except DataError as error:
        if str(error).startswith("observations.columns"):
            raise
        raise DataError(f"observations.{key}: {path!r}: {error}") from error


def read_columns(
    file: Path,
    separator: str | None = None,
    header: bool | None = None,
    columns: Sequence[int | str] | None = None,
    axes: int = 2,
) -> Columns:
    """The columns of a text file or of a Parquet table, all as texts.

    Args:
        file: the file.
        separator, header: as for `from_ratings`.
        columns: those that will be read; a name says that there is a header.
        axes: how many columns of ids there are if `columns` is None.

    Raises:
        DataError: a file that cannot be read, or lines of several lengths.
    """
    if not file.is_file():
        raise DataError("is not a file")
    if file.suffix.lower() in PARQUET:
        for key, value in (("separator", separator), ("header", header)):
            if value is not None:
                raise DataError(f"observations.{key}: {value!r} has no effect; expected null for a table")
        frame = read_parquet(file)
        return Columns(frame.select(pl.all().cast(pl.String).fill_null("")), list(frame.columns), "", None)
    text = read_text(file, separator)
    frame = _frame(text)
    first = ["" if cell is None else str(cell) for cell in frame.row(0)]
    if header is None:
        named = any(isinstance(column, str) for column in columns or ())
        header = named or not any(is_number(cell) or is_hole(cell) or WITH_COMMA.fullmatch(cell) for cell in first)
    names = [cell.strip() for cell in first] if header else None
    how = "" if text.separator == "comma" else f"separated by {text.separator}"
    return Columns(frame[1:] if header else frame, names, how, text)


def read_parquet(file: Path) -> pl.DataFrame:
    """A Parquet table, refused before its memory is taken if this machine cannot hold it.

    Raises:
        DataError: that, a torn file, or columns that hold neither numbers nor texts.
    """
    with errors_of_reader():
        table = pl.scan_parquet(file, glob=False)
        size, schema = table.select(pl.len()).collect().item(), table.collect_schema()
        refuse_large(f"a table of {size:,} x {len(schema):,}", ENTRY_BYTES * size * len(schema))
        for name, kind in schema.items():
            if not (kind.is_numeric() or kind in (pl.String, pl.Boolean, pl.Categorical, pl.Null)):
                raise DataError(f"column {name!r} holds {kind}; expected numbers or texts")
        return table.collect()


def _frame(text: Text) -> pl.DataFrame:
    """The cells of a text, [lines, columns] of texts.

    Raises:
        DataError: lines of several lengths.
    """
    body, mark = one_mark(text.body, text.separator)
    if text.separator == "spaces":
        body = re.sub(r'("[^"\n]*")| +', lambda found: found.group(1) or " ", body)
    body = re.sub(r"\n( *\n)+", "\n", body).strip("\n") + "\n"
    try:
        frame = pl.read_csv(
            io.BytesIO(body.encode()),
            has_header=False,
            separator=mark,
            infer_schema=False,
        )
    except pl.exceptions.PolarsError as error:
        _refuse_ragged(text)
        raise DataError("cannot be read as lines of cells, it may be torn") from error
    if '"' in body or body.count(mark) != (frame.width - 1) * frame.height:
        _refuse_ragged(text)
    frame = frame.with_columns(pl.all().fill_null(""))
    return frame.rename({name: f"column {place}" for place, name in enumerate(frame.columns, start=1)})


def _refuse_ragged(text: Text) -> None:
    records = text.records()
    _, first = next(records)
    for number, cells in records:
        if len(cells) != len(first):
            raise DataError(f"line {number} has {len(cells)} cells, the first line has {len(first)}: it may be torn")


def _entries(
    table: Columns,
    file: str,
    axes: int,
    columns: list[int | str] | None,
    ids: int | str | None,
    duplicates: str | None,
    decimal: str | None,
    dims: Sequence[int] | None,
    count: int | None,
    known: Ids | None,
) -> EntryMask | IndexedEntries:
    if axes < 1:
        raise DataError("observations.columns needs at least a column of ids and one of values")
    if table.frame.width < axes + 1 and columns is None:
        raise DataError(
            f"has {table.frame.width} columns; expected {axes} of ids and one of values (observations.columns and "
            "observations.dims say which; observations.separator may be another)"
        )
    places = table.chosen(list(range(1, axes + 2)) if columns is None else columns)
    if not table.frame.height:
        raise DataError("no observation; at least one is needed")
    if columns is None and table.names:
        _check_value_column(table.names, places[-1])
    values = _values(table, places[-1], decimal)
    cells = [table.frame.to_series(place).str.strip_chars() for place in places[:-1]]
    if count is not None and count > len(values):
        raise DataError(f"observations.count: {count} is more than the {len(values):,} observations there are")
    for axis, column in zip(places, cells, strict=False):
        if (empty := column.is_in(["", "nan", "NaN"])).any():
            raise DataError(f"{table.line(empty.arg_max() or 0)}: column {axis + 1} has no id")
    names = _axis_names(table, places)
    if known is None:
        made, described = _ids(cells, names, ids, dims)
    else:
        made, described = known, ""
    indices = [made.indices(axis, column) for axis, column in enumerate(cells)]
    size, chosen, missing = made.dims, slice(count), np.isnan(values)
    seen = ~missing[chosen]
    listed, found = np.stack([index[chosen][seen] for index in indices], axis=1), values[chosen][seen]
    if not len(found):
        raise DataError("no entry has a value; at least one is needed")
    listed, found, merged = _merged(listed, found, duplicates, made)
    note = _note(table, places, made, described, listed, found, int(missing[chosen].sum()), merged, duplicates)
    return replace(observed(size, listed, found), note=f"{file}: {note}", ids=made)


def _check_value_column(names: Sequence[str], value: int) -> None:
    """Refuse a header that names another column as the value."""
    others = [place for place, name in enumerate(names) if name.lower() in VALUE_NAMES and place != value]
    if others and names[value].lower() not in VALUE_NAMES:
        place = others[0]
        raise DataError(
            f"column {place + 1} is named {names[place]!r}, and column {value + 1} ({names[value]!r}) would be the "
            "value: observations.columns says which columns are the ids and the value"
        )


def _axis_names(table: Columns, places: Sequence[int]) -> tuple[str, ...]:
    axes = len(places) - 1
    if table.names is None:
        return axis_names(axes)
    names = [table.names[place] or f"axis_{axis}" for axis, place in enumerate(places[:-1])]
    return tuple(f"{name}_{axis}" if names.count(name) > 1 else name for axis, name in enumerate(names))


def _values(table: Columns, place: int, decimal: str | None) -> np.ndarray:
    """The values, [lines] float64, with NaN for holes.

    Raises:
        DataError: a value that is no number, or not finite.
    """
    cells = table.frame.to_series(place).fill_null("").str.strip_chars()
    if decimal == "comma" or cells.str.contains(",", literal=True).any():
        different = [[cell] for cell in cells.unique().to_list()]
        if not with_points(different, table.text.separator if table.text else "tab", decimal):
            cells = cells.str.replace(",", ".", literal=True)
    holes = cells.str.to_lowercase().is_in(list(HOLES))
    values = cells.set(holes, None).cast(pl.Float64, strict=False)
    odd = (values.is_null() & ~holes) | values.is_infinite().fill_null(False)
    if odd.any():
        row = odd.arg_max() or 0
        cell, says = cells[row], "observations.columns says which column has the values"
        why = "is not finite" if is_number(cell) else f"is not a number: {says}, observations.header whether "
        why += "" if is_number(cell) else "the first line has names"
        raise DataError(f"{table.line(row)}: the value {cell!r} in column {place + 1} {why}")
    return np.array(values.fill_null(math.nan).to_numpy())


def _ids(
    cells: Sequence[pl.Series], names: tuple[str, ...], ids: int | str | None, dims: Sequence[int] | None
) -> tuple[Ids, str]:
    """The ids of each axis, and in words which they are.

    Raises:
        DataError: ids that may count from 0 or from 1, or that do not fit.
    """
    read = [as_integers(column) for column in cells]
    counted = [ids != "names" and are_integers for _, are_integers in read]
    least = {int(integers.min()) for (integers, _), count in zip(read, counted, strict=True) if count}
    start = ids if isinstance(ids, int) else min(least, default=0)
    if ids is None and least and not (0 in least or least == {1}):
        smallest = " and ".join(
            f"{integers.min()} in {name!r}"
            for name, (integers, _), count in zip(names, read, counted, strict=True)
            if count
        )
        raise DataError(f"the smallest ids are {smallest}: observations.ids=0, 1 or names says how they count")
    found, words = [], []
    for axis, (name, (integers, are_integers)) in enumerate(zip(names, read, strict=True)):
        if not counted[axis]:
            if isinstance(ids, int):
                odd = next(cell for cell in cells[axis] if not re.match(r"\d+(\.0+)?$", cell))
                raise DataError(f"{odd!r} in {name!r} is no integer from {ids}: observations.ids=names maps such ids")
            if not are_integers and ids is None and (bad := _below_zero(cells[axis])):
                raise DataError(f"the id {bad} in {name!r} is below 0: observations.ids=names takes it for a name")
            found.append(distinct(cells[axis]))
            if dims is not None and len(found[-1]) != dims[axis]:
                raise DataError(f"observations.dims: {list(dims)} is not {len(found[-1])} for {name!r}, as its ids are")
            words.append("names")
            continue
        if (low := int(integers.min())) < start:
            raise DataError(f"{name!r} has the id {low}, and observations.ids is {start}")
        size = int(integers.max()) + 1 - start if dims is None else dims[axis]
        if (high := int(integers.max())) >= size + start:
            assert dims is not None
            raise DataError(f"observations.dims: {list(dims)} has no place for the id {high} of {name!r}")
        try:
            refuse_large(f"{size:,} ids of {name!r}", ENTRY_BYTES * size)
        except DataError as error:
            raise DataError(f"{error}; observations.ids=names numbers the ids that occur") from error
        found.append(np.arange(start, start + size))
        words.append(f"from {start}")
    if len(set(words)) == 1:
        described = "ids are names" if words[0] == "names" else f"ids {words[0]}"
    else:
        described = ", ".join(
            f"{name!r} has names" if word == "names" else f"ids of {name!r} {word}"
            for name, word in zip(names, words, strict=True)
        )
    return Ids(names, tuple(found)), described


def _below_zero(cells: pl.Series) -> str:
    """The first negative integer if all ids are integers; else an empty text."""
    if not cells.str.contains(r"^-?\d+(\.0+)?$").all():
        return ""
    return str(cells.filter(cells.str.starts_with("-"))[0]) if cells.str.starts_with("-").any() else ""


def _merged(
    index: np.ndarray, values: np.ndarray, duplicates: str | None, ids: Ids
) -> tuple[np.ndarray, np.ndarray, int]:
    """Each entry once, and how many lines were merged into others.

    Raises:
        DataError: an entry that is listed twice where `duplicates` is None.
    """
    keys = order_keys(ids.dims, index)
    _, first, inverse, counts = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
    seen = index[first]
    extra = len(index) - len(seen)
    if not extra:
        return index, values, 0
    if duplicates is None:
        place = seen[counts > 1][0]
        entry = ", ".join(str(axis[index]) for axis, index in zip(ids.ids, place, strict=True))
        raise DataError(
            f"the entry ({entry}) is listed {counts.max() if (counts > 1).sum() == 1 else 'more than once'}"
            f"{' times' if (counts > 1).sum() == 1 else f', as are {int((counts > 1).sum()) - 1:,} others'}: "
            "observations.duplicates=mean or last says which value it has"
        )
    if duplicates == "mean":
        return seen, np.bincount(inverse, weights=values) / counts, extra
    last = np.zeros(len(seen), np.int64)
    np.maximum.at(last, inverse, np.arange(len(index)))
    return seen, values[last], extra


def _note(
    table: Columns,
    places: Sequence[int],
    ids: Ids,
    described: str,
    index: np.ndarray,
    values: np.ndarray,
    missing: int,
    merged: int,
    duplicates: str | None,
) -> str:
    """How the file was read, in a line."""
    *axes, value = (f"column {place + 1}" + (f" {table.names[place]!r}" if table.names else "") for place in places)
    parts = [f"{len(index):,} {'entry' if len(index) == 1 else 'entries'}", _size(ids.dims)]
    parts += [described] if described else []
    if list(places) != sorted(places) or places[-1] != len(places) - 1:
        parts.append(f"ids in {' and '.join(axes)}")
    parts.append(f"{value} is the value, from {values.min():.6g} to {values.max():.6g}")
    parts += [table.how] if table.how else []
    line = ", ".join(parts)
    ignored = [place for place in range(table.frame.width) if place not in places]
    more = [
        "columns ignored: " + ", ".join(table.names[place] if table.names else str(place + 1) for place in ignored)
        if ignored
        else "",
        f"lines without a value left out: {missing:,}" if missing else "",
        f"lines merged into an entry listed before, as observations.duplicates={duplicates} says: {merged:,}"
        if merged
        else "",
    ]
    for axis, name in enumerate(ids.axes):
        if empty := ids.dims[axis] - len(np.unique(index[:, axis])):
            more.append(f"ids of {name!r} without an entry: {empty:,}")
    return "; ".join([line, *filter(None, more)])


def _size(dims: Sequence[int]) -> str:
    return " x ".join(f"{size:,}" for size in dims)
