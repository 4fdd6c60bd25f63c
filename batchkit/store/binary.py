"""Rows in the binary format of Postgres' COPY, encoded here because there are millions of them.

Writing row by row through the driver takes three to four times as long. The format of a column follows from its ``Kind``.
"""

from __future__ import annotations

import struct
from itertools import chain, islice, repeat
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from batchkit.store.rows import Field, Layout

#: COPY's binary format (postgresql.org/docs/current/sql-copy.html): a signature, flags, an empty extension; rows; and a row of
#: -1 columns. A row is the number of its columns, then the length in bytes and the value of each column.
_COPY_BEGIN: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_END: Final = b"\xff\xff"
_COLUMN_COUNT: Final = struct.Struct(">h")
_LENGTH: Final = struct.Struct(">i")
_NULL_LENGTH: Final = -1
_NULL: Final = _LENGTH.pack(_NULL_LENGTH)
#: The letters of ``struct`` for integers, and their lengths in bytes.
_INTEGERS: Final = {"int2": ("h", 2), "int4": ("i", 4), "int8": ("q", 8)}
#: How many rows are written as one piece. Pieces of bodies stay below the size from which the C library would get new memory
#: from the system every time.
_ROWS_PER_WRITE: Final = 500
_BODIES_PER_WRITE: Final = 64


def rows(layout: Layout, common: Mapping[str, Any], given: Iterable[Sequence[Any]]) -> Callable[[Any], None]:
    """Return a function that writes rows into a COPY of ``layout.names``; ``given`` holds each row's own columns."""
    head = _COLUMN_COUNT.pack(len(layout.common) + len(layout.own))
    head += b"".join(chain(*_pieces(_segments(layout.common), [(common[field.name],) for field in layout.common])))
    segments = _segments(layout.own)
    rows_per_write = _BODIES_PER_WRITE if layout.table == "bodies" else _ROWS_PER_WRITE

    def write(copy: Any) -> None:
        copy.write(_COPY_BEGIN)
        left = iter(given)
        while block := list(islice(left, rows_per_write)):
            pieces = _pieces(segments, list(zip(*block, strict=True)))
            copy.write(b"".join(chain.from_iterable(zip(repeat(head, len(block)), *pieces, strict=True))))
        copy.write(_COPY_END)

    return write


def _pieces(segments: Sequence[_Segment], columns: Sequence[Sequence[Any]]) -> Iterator[Iterable[bytes]]:
    """Encode columns of some rows; yield sequences with a piece for each row, in the order of the columns."""
    start = 0
    for segment in segments:
        yield from segment.pieces(columns[start : start + segment.width])
        start += segment.width


def _segments(fields: Sequence[Field]) -> list[_Segment]:
    """Split columns into segments that end after a text or bytes."""
    found: list[_Segment] = []
    start = 0
    for end, field in enumerate(fields, start=1):
        if field.kind.copy not in _INTEGERS or end == len(fields):
            found.append(_Segment(fields[start:end]))
            start = end
    return found


class _Segment:
    """Adjacent integers and the text after them, if any: everything except the text's bytes is packed in one call."""

    def __init__(self, fields: Sequence[Field]) -> None:
        self.width = len(fields)
        self._text = fields[-1] if fields[-1].kind.copy not in _INTEGERS else None
        self._integers = fields if self._text is None else fields[:-1]
        self._formats = [_INTEGERS[field.kind.copy] for field in self._integers]
        lengths = "i" if self._text is not None else ""
        self._pack = struct.Struct(">" + "".join(f"i{letter}" for letter, _ in self._formats) + lengths).pack

    def pieces(self, columns: Sequence[Sequence[Any]]) -> Iterator[Iterable[bytes]]:
        """Encode the segment's columns."""
        lengths: list[Iterable[int]] = []
        texts: list[Sequence[bytes]] = []
        if self._text is not None:
            encoded, sizes = _texts(self._text, columns[-1])
            texts.append(encoded)
            lengths.append(sizes)
        nullable = (column for field, column in zip(self._integers, columns, strict=False) if field.is_nullable)
        if any(None in column for column in nullable):
            yield from self._with_nulls(columns)
            yield from (map(_LENGTH.pack, sizes) for sizes in lengths)
        else:
            sized = ((repeat(size), column) for (_, size), column in zip(self._formats, columns, strict=False))
            yield map(self._pack, *chain.from_iterable(sized), *lengths)
        yield from texts

    def _with_nulls(self, columns: Sequence[Sequence[Any]]) -> Iterator[Iterable[bytes]]:
        for (letter, size), column in zip(self._formats, columns, strict=False):
            pack = struct.Struct(f">i{letter}").pack
            yield [_NULL if value is None else pack(size, value) for value in column]


def _texts(field: Field, column: Sequence[Any]) -> tuple[Sequence[bytes], Iterable[int]]:
    """Encode a column of texts or bytes: their bytes, and their lengths."""
    if field.kind.copy == "bytea":
        return [value or b"" for value in column], [_NULL_LENGTH if value is None else len(value) for value in column]
    if field.kind.repeats:
        encoded = {value: b"" if value is None else value.encode() for value in set(column)}
        lengths = {value: _NULL_LENGTH if value is None else len(data) for value, data in encoded.items()}
        return list(map(encoded.__getitem__, column)), map(lengths.__getitem__, column)
    if field.is_nullable and None in column:
        texts = [b"" if value is None else value.encode() for value in column]
        sizes = zip(texts, column, strict=True)
        return texts, [_NULL_LENGTH if value is None else len(data) for data, value in sizes]
    texts = [value.encode() for value in column if value is not None]
    return texts, map(len, texts)
