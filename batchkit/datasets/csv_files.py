"""CSV files as a table.

They are read by Python's own reader, because it alone reports the line of an error: polars fills short lines with nulls, Arrow
takes a quote that is never closed for the end of the file, and neither reports line numbers.
"""

from __future__ import annotations

import csv
import io
import re
from contextlib import contextmanager
from itertools import chain, islice
from typing import IO, TYPE_CHECKING, Any, Final, NamedTuple, NoReturn

import pyarrow as pa

from batchkit.datasets.rows import decimals_field
from batchkit.datasets.streams import digest_of, open_bytes, reading, without_compression
from batchkit.datasets.table import Table, check_same_columns
from batchkit.datasets.values import text_of_float
from batchkit.errors import InputUnreadable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

# Python's default limit for a cell is too small for documents.
csv.field_size_limit(1 << 30)

_ROWS_PER_BLOCK: Final = 10_000
_integer: Final = re.compile(r"-?[1-9][0-9]{0,17}|0").fullmatch
_decimal: Final = re.compile(r"(?!-0$)-?(?:0|[1-9][0-9]{0,16})(?:\.[0-9]{1,17})?(?:e[+-][0-9]{2,3})?").fullmatch
_boolean: Final = re.compile("true|false").fullmatch
_SEPARATORS: Final = ",;\t"
_SEPARATOR_NAMES: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "blanks"}
#: The first line in which Excel names the separator.
_separator_line: Final = re.compile(r'"?sep=([^\r\n"])"?\r?\n?', re.IGNORECASE).fullmatch
_quoted: Final = re.compile('"[^"]*(?:"|$)')


class _Kind(NamedTuple):
    """A kind of a column: the function that recognises its cells, the function that reads them, and the column of such cells."""

    fits: Callable[[str], Any]
    read: Callable[[str], Any]
    field: Callable[[str], pa.Field]


def _has_text(cell: str, text: Callable[[Any], str]) -> bool:
    return _decimal(cell) is not None and text(float(cell)) == cell


#: From the narrowest kind to the widest. A number that would be written otherwise than its cell is text.
_KINDS: Final = (
    _Kind(_integer, int, lambda name: pa.field(name, pa.int64())),
    _Kind(
        lambda cell: _has_text(cell, text_of_float),
        float,
        lambda name: decimals_field(name, are_whole_without_fraction=True),
    ),
    _Kind(
        lambda cell: _has_text(cell, repr), float, lambda name: decimals_field(name, are_whole_without_fraction=False)
    ),
    _Kind(_boolean, lambda cell: cell == "true", lambda name: pa.field(name, pa.bool_())),
)


class CsvTable(Table):
    """Rows of CSV files (RFC 4180, in UTF-8, with a header line); all files have the same columns, in any order.

    Columns are separated by ``separator``. Without one it is the sign after ``sep=`` in the first line, which is then no header; a tab in
    ``.tsv`` files; else the comma, semicolon or tab that the header has most often outside of quotes.

    A column holds whole numbers, decimals or booleans only if every cell is empty, or the value would be written as exactly the
    text of the cell, which takes a first pass over the files. An empty cell is null in those columns, and an empty text in a text
    column. Blank lines are skipped.
    """

    def __init__(self, name: str, paths: Sequence[Path], *, separator: str | None = None) -> None:
        super().__init__(name)
        self._paths = tuple(paths)
        self._separator = separator
        self._kinds: list[_Kind | None] = []

    def _find_schema(self) -> pa.Schema:
        names: list[str] | None = None
        candidates: list[list[_Kind]] = []
        has_values: list[bool] = []
        for columns in self._text_columns(_ROWS_PER_BLOCK, self.limit):
            if names is None:
                names = list(columns)
                candidates = [list(_KINDS) for _ in names]
                has_values = [False] * len(names)
            for place, cells in enumerate(columns.values()):
                if candidates[place]:
                    filled = list(filter(None, cells))
                    has_values[place] |= bool(filled)
                    candidates[place] = [kind for kind in candidates[place] if all(map(kind.fits, filled))]
        self._kinds = [kinds[0] if kinds and has else None for kinds, has in zip(candidates, has_values, strict=True)]
        return pa.schema(
            [
                pa.field(name, pa.string()) if kind is None else kind.field(name)
                for name, kind in zip(names or (), self._kinds, strict=True)
            ]
        )

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        readers = [None if kind is None else kind.read for kind in self._kinds]
        for columns in self._text_columns(rows, self.limit):
            try:
                arrays = [
                    pa.array(cells if read is None else [read(cell) if cell else None for cell in cells], field.type)
                    for cells, read, field in zip(columns.values(), readers, schema, strict=True)
                ]
            except ValueError as error:
                raise UsageError(
                    f"{self.name} was changed while it was being read: {error}", hint="run it again"
                ) from error
            batch = pa.RecordBatch.from_arrays(arrays, schema=schema)
            if len(batch):
                yield batch

    def _content_digest(self) -> str:
        return digest_of("csv" if self._separator is None else f"csv {self._separator}", self._paths)

    def _text_columns(self, rows: int, limit: int | None) -> Iterator[dict[str, Sequence[str]]]:
        """Yield the cells by column, a batch of rows at a time, in the order of the first file's columns; at least one batch."""
        names: list[str] | None = None
        for path in self._paths:
            with open_bytes(path) as handle:
                records = _Records(path, handle, self._separator)
                if names is None:
                    names = records.names
                    yield dict.fromkeys(names, ())
                order = _order(names, records.names, self._paths[0], path)
                while block := list(islice(records, rows if limit is None else min(rows, limit))):
                    columns = list(zip(*block, strict=True))
                    yield {name: columns[place] for name, place in zip(names, order, strict=True)}
                    limit = None if limit is None else limit - len(block)
                    if limit == 0:
                        return


class _Records:
    """The records of one file after its header; each has as many cells as the header."""

    def __init__(self, path: Path, handle: IO[bytes], separator: str | None) -> None:
        self._path = path
        self._separator = separator or ","
        text = io.TextIOWrapper(handle, "utf-8-sig", newline="")
        self._skipped = 0
        with self._errors_with_line():
            first = text.readline()
            if (named := _separator_line(first)) is not None:
                self._skipped = 1
                first = text.readline()
        if not first.strip():
            reason = f"line {1 + self._skipped} is blank" if first else "is empty"
            raise InputUnreadable(path, reason, "the first line must name the columns")
        self._separator = separator or (_separator(path, first) if named is None else named[1])
        self._reader = csv.reader(chain([first], text), delimiter=self._separator, strict=True)
        with self._errors_with_line():
            self.names = _names(path, next(self._reader), 1 + self._skipped)

    def __iter__(self) -> Iterator[list[str]]:
        width = len(self.names)
        with self._errors_with_line():
            for record in self._reader:
                if len(record) == width:
                    yield record
                elif record:
                    self._fail(
                        f"{_count(len(record), 'cell')} where line {1 + self._skipped} names {_count(width, 'column')}"
                    )

    @contextmanager
    def _errors_with_line(self) -> Iterator[None]:
        """Convert errors of the reader into an error with the line."""
        with reading(self._path):
            try:
                yield
            except UnicodeDecodeError:
                self._fail(
                    "not UTF-8", _first_undecodable(self._path), "save the file as UTF-8, or convert it with iconv"
                )
            except csv.Error as error:
                # The reader counts lines as it reads them, and reads everything after a quote that is not closed.
                is_open = "unexpected end" in str(error)
                self._fail("a quote is never closed" if is_open else str(error))

    def _fail(self, reason: str, line: int | None = None, hint: str | None = None) -> NoReturn:
        line = self._reader.line_num + self._skipped if line is None else line
        taken = _SEPARATOR_NAMES.get(self._separator, repr(self._separator))
        raise InputUnreadable(
            self._path,
            f"line {line:,}: {reason}" if hint else f"line {line:,}: {reason}; the cells are separated by {taken}",
            hint
            or "put cells with separators, quotes or line ends in double quotes, or name another separator: --separator ';'",
        )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _separator(path: Path, header: str) -> str:
    if without_compression(path).suffix.lower() == ".tsv":
        return "\t"
    bare = _quoted.sub("", header)
    # Of equally many the first one counts.
    return max(_SEPARATORS, key=bare.count)


def _names(path: Path, cells: list[str], line: int) -> list[str]:
    # Many programs write their row numbers as a column without a name.
    names = [cell.strip() or f"column_{number}" for number, cell in enumerate(cells, 1)]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        raise InputUnreadable(
            path, f"line {line} names the column {repeated[0]!r} twice", "give each column its own name"
        )
    return names


def _order(names: list[str], found: list[str], first: Path, path: Path) -> list[int]:
    check_same_columns(names, found, first, path)
    return [found.index(name) for name in names]


def _first_undecodable(path: Path) -> int:
    with open_bytes(path) as handle:
        for number, line in enumerate(handle, 1):
            try:
                line.decode()
            except UnicodeDecodeError:
                return number
    return 1
