"""Writes tables: the file appears completely, or not at all."""

from __future__ import annotations

import csv
import gzip
import io
import re
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Protocol, Self

import pyarrow as pa
import zstandard
from pyarrow import ipc
from pyarrow import parquet as pq

from batchkit.datasets.arrow_files import ArrowTable
from batchkit.datasets.formulas import without_formula
from batchkit.datasets.rows import (
    bring_to,
    column_values,
    is_json,
    json_field,
    json_texts,
    plain_type,
    records_of,
)
from batchkit.datasets.streams import COMPRESSED
from batchkit.datasets.values import text_of
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.files.spool import disk_errors, make_private_folder, whole_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType

    from batchkit.datasets.table import Table

#: The reader of a Parquet file loads a group at once.
_GROUP_ROWS: Final = 50_000
_GROUP_BYTES: Final = 32_000_000
#: Of a batch in a snapshot.
_BATCH_BYTES: Final = 8_000_000
_WRITTEN: Final = "name a file that ends in .jsonl, .csv (both also .gz or .zst), .parquet, .arrow or .feather"


_TABLE_NAME: Final = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,47}")


class _Encoder(Protocol):
    """Writes batches of one schema in one format."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write the end of the format; the underlying file stays open."""
        ...


def check_target(target: str | Path) -> None:
    """Raise ``UsageError`` if ``target`` is neither a file of a type that ``TableWriter`` writes nor ``table:NAME``."""
    if table_name_of(target) is None:
        _endings(Path(target))


def table_name_of(target: str | Path) -> str | None:
    """Return NAME of ``table:NAME``; None for a file. Raises ``UsageError`` for a name that a database accepts only in quotes."""
    prefix, colon, name = str(target).partition(":")
    if prefix != "table" or not colon:
        return None
    if _TABLE_NAME.fullmatch(name) is None:
        raise UsageError(
            f"{name!r} cannot be the name of a table",
            hint="use letters, digits and _, a letter first, at most 48 characters",
        )
    return name


class TableWriter:
    """Writes batches of ``schema`` into a file, by its ending: JSON Lines, CSV, Parquet or Arrow (``.arrow``, ``.feather``).

    A context manager: the file appears by a rename if the ``with`` block succeeds, and not at all otherwise. A new file gets the
    default rights, a replaced one keeps its rights; a ``private`` one is readable by its owner only. In CSV, cells that a
    spreadsheet would run are protected unless ``raw_csv`` (see ``formulas``); cells are written by ``values.text_of``. In JSON Lines values
    that JSON cannot express are those of ``values.as_json``. Parquet and Arrow keep types and metadata; a column of a type that Parquet
    does not have becomes a JSON column (see ``rows``). Raises ``UsageError`` for another ending, ``SpoolError``.
    """

    def __init__(self, target: Path, schema: pa.Schema, *, raw_csv: bool = False, private: bool = False) -> None:
        self._target = target
        self._schema = schema
        self._raw_csv = raw_csv
        self._private = private
        self._kind, self._compression = _endings(target)
        self._stack = ExitStack()
        self._encoder: _Encoder | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(disk_errors("write", self._target))
            handle = stack.enter_context(whole_file(self._target, private=self._private))
            handle = stack.enter_context(_compressed(handle, self._compression))
            self._encoder = self._open(handle)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return self._stack.__exit__(kind, error, traceback)

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows with the writer's schema."""
        assert self._encoder is not None  # noqa: S101 - a bug, not the user's mistake
        with disk_errors("write", self._target), self._unfit_values():
            self._encoder.write(batch)

    @contextmanager
    def _unfit_values(self) -> Iterator[None]:
        """Convert errors about values that the format cannot hold, as seconds that are too many for Parquet's milliseconds."""
        try:
            yield
        except pa.ArrowException as error:
            raise UsageError(
                f"{self._target} cannot be written: {error}", hint="write another format: .arrow takes every value"
            ) from error

    def _finish(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._encoder is None:
            return
        # Otherwise the garbage collector would let the Parquet writer write its end into a closed file.
        with self._unfit_values() if kind is None else suppress(Exception):
            self._encoder.close()

    def _open(self, handle: IO[bytes]) -> _Encoder:
        match self._kind:
            case "jsonl":
                return _JsonlEncoder(handle)
            case "csv":
                return _CsvEncoder(handle, self._schema, raw=self._raw_csv)
            case "parquet":
                return _ParquetEncoder(handle, self._schema)
            case "stream":
                return _StreamEncoder(handle, self._schema)
            case _:
                return _ArrowEncoder(handle, self._schema)


class Snapshot:
    """The rows of a table at the time when the requests were made, with the types of their source: an Arrow stream in the spool.

    Earlier versions made Parquet files, with types that templates read.
    """

    @staticmethod
    def writer(path: Path, schema: pa.Schema) -> TableWriter:
        """Return a writer of a snapshot; only its owner may read it."""
        with disk_errors("create the folder of", path):
            make_private_folder(path.parent)
        return TableWriter(path, schema, private=True)

    @staticmethod
    def open(path: Path) -> Table:
        """Return the table of a snapshot. Raises ``InputUnreadable``."""
        return ArrowTable(path.stem, [path], "parquet" if path.suffix == ".parquet" else "arrow")


def _endings(target: Path) -> tuple[str, str | None]:
    """Return format and compression. Raises ``UsageError``."""
    compression = target.suffix.lower() if target.suffix.lower() in COMPRESSED else None
    ending = (target.with_suffix("") if compression else target).suffix.lower()
    kinds = {".jsonl": "jsonl", ".ndjson": "jsonl", ".csv": "csv"}
    if compression is None:
        kinds |= {".parquet": "parquet", ".pq": "parquet", ".arrow": "arrow", ".feather": "arrow", ".ipc": "arrow"}
        kinds |= {".arrows": "stream"}
    if ending not in kinds:
        reason = f"no format ends in {target.suffix}" if target.suffix else "the name has no ending"
        raise UsageError(f"cannot write {target}: {reason}", hint=_WRITTEN)
    return kinds[ending], compression


def _compressed(handle: IO[bytes], compression: str | None) -> AbstractContextManager[Any]:
    match compression:
        case None:
            return nullcontext(handle)
        case ".gz":
            # Without name and time, the same rows give the same bytes.
            return gzip.GzipFile(filename="", fileobj=handle, mode="wb", compresslevel=6, mtime=0)
        case _:
            return zstandard.ZstdCompressor().stream_writer(handle, closefd=False)


class _JsonlEncoder:
    def __init__(self, handle: IO[bytes]) -> None:
        self._handle = handle

    def write(self, batch: pa.RecordBatch) -> None:
        self._handle.write(b"\n".join([*map(jsonl.dumps, records_of(batch)), b""]))

    def close(self) -> None:
        pass


class _CsvEncoder:
    def __init__(self, handle: IO[bytes], schema: pa.Schema, *, raw: bool) -> None:
        self._handle = handle
        self._text: Callable[[str], str | None] = str if raw else without_formula
        self._write([[self._text(name) for name in schema.names]])

    def write(self, batch: pa.RecordBatch) -> None:
        cells = [self._cells(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)]
        self._write(zip(*cells, strict=True))

    def close(self) -> None:
        pass

    def _write(self, rows: Iterable[Sequence[Any]]) -> None:
        text = io.StringIO(newline="")
        csv.writer(text).writerows(rows)
        self._handle.write(text.getvalue().encode())

    def _cells(self, field: pa.Field, column: pa.Array) -> list[Any]:
        if is_json(field):
            # As it was written.
            return [None if text in {None, "null"} else self._text(text) for text in column.to_pylist()]
        values = column_values(field, column)
        types = pa.types
        if types.is_integer(field.type):
            return values
        if types.is_string(field.type):
            return [None if value is None else self._text(value) for value in values]
        if types.is_floating(field.type) or types.is_boolean(field.type):
            return [None if value is None else text_of(value) for value in values]
        return [None if value is None else self._text(text_of(value)) for value in values]


class _ParquetEncoder:
    """Collects rows until there are enough for a group."""

    def __init__(self, handle: IO[bytes], schema: pa.Schema) -> None:
        self._schema = pa.schema(list(map(_parquet_field, schema)), schema.metadata)
        self._converted = [place for place, field in enumerate(schema) if field.type != self._schema.field(place).type]
        self._writer = pq.ParquetWriter(handle, self._schema, compression="zstd")
        self._batches: list[pa.RecordBatch] = []
        self._rows = self._bytes = 0

    def write(self, batch: pa.RecordBatch) -> None:
        if self._converted:
            arrays = batch.columns
            for place in self._converted:
                wanted = self._schema.field(place)
                arrays[place] = (
                    pa.array(json_texts(column_values(batch.schema.field(place), arrays[place])), pa.string())
                    if is_json(wanted)
                    else arrays[place].cast(wanted.type)
                )
            batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        self._batches.append(batch)
        self._rows += len(batch)
        self._bytes += batch.nbytes
        if self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._write_group()

    def close(self) -> None:
        if self._batches:
            self._write_group()
        self._writer.close()

    def _write_group(self) -> None:
        self._writer.write_table(pa.Table.from_batches(self._batches, self._schema))
        self._batches, self._rows, self._bytes = [], 0, 0


def _parquet_field(field: pa.Field) -> pa.Field:
    """Return a column as Parquet can have it; of JSON where Parquet has no such type, as for an object without members."""
    types = pa.types
    if any(is_it(field.type) for is_it in (types.is_string, types.is_integer, types.is_floating, types.is_boolean)):
        return field
    if _has_inner(field.type, lambda kind: types.is_string_view(kind) or types.is_binary_view(kind)):
        # Arrow cannot cut them for Parquet's pages.
        plain = plain_type(field.type)
        return json_field(field.name) if plain == field.type else field.with_type(plain)
    try:
        sample = pa.Table.from_arrays([pa.nulls(1, field.type)], schema=pa.schema([field.with_nullable(True)]))
        pq.write_table(sample, pa.BufferOutputStream())
    except (pa.ArrowException, OSError):
        return json_field(field.name)
    return field


class _StreamEncoder:
    """Writes an Arrow stream, in which each batch may have other dictionaries; a batch has few bytes, because it is read as a whole."""

    def __init__(self, handle: IO[bytes], schema: pa.Schema) -> None:
        self._writer = ipc.new_stream(handle, schema, options=ipc.IpcWriteOptions(compression="zstd"))

    def write(self, batch: pa.RecordBatch) -> None:
        rows = max(len(batch) // (batch.nbytes // _BATCH_BYTES + 1), 1)
        for start in range(0, len(batch), rows):
            self._writer.write_batch(batch.slice(start, rows))

    def close(self) -> None:
        self._writer.close()


class _ArrowEncoder:
    """Writes an Arrow file. Its dictionaries may only grow, so each batch gets the values of those before it, too."""

    def __init__(self, handle: IO[bytes], schema: pa.Schema) -> None:
        self._schema = pa.schema(list(map(_file_field, schema)), schema.metadata)
        self._dictionaries: dict[int, pa.Array] = {}
        # Feather's default, which all its readers support.
        options = ipc.IpcWriteOptions(compression="lz4", emit_dictionary_deltas=True)
        self._writer = ipc.new_file(handle, self._schema, options=options)

    def write(self, batch: pa.RecordBatch) -> None:
        batch = bring_to(batch, self._schema)
        arrays = batch.columns
        for place, field in enumerate(self._schema):
            if pa.types.is_dictionary(field.type):
                arrays[place] = self._with_known_values(place, arrays[place])
        self._writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=self._schema))

    def _with_known_values(self, place: int, column: pa.Array) -> pa.Array:
        known = self._dictionaries.get(place)
        if known is not None and not known.equals(column.dictionary):
            none = pa.DictionaryArray.from_arrays(pa.array([], column.type.index_type), known)
            column = pa.chunked_array([none.cast(column.type), column]).unify_dictionaries().chunk(1)
        self._dictionaries[place] = column.dictionary
        return column

    def close(self) -> None:
        self._writer.close()


def _file_field(field: pa.Field) -> pa.Field:
    """Return a column as an Arrow file can have it: dictionaries inside of other values cannot grow."""
    return field.with_type(plain_type(field.type)) if _has_inner(field.type, pa.types.is_dictionary) else field


def _has_inner(kind: pa.DataType, is_meant: Callable[[pa.DataType], bool]) -> bool:
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return any(is_meant(part) or _has_inner(part, is_meant) for part in inner)
