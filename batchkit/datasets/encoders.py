"""The formats that tables are written in, a batch of rows at a time."""

from __future__ import annotations

import csv
import io
from typing import IO, TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import ipc
from pyarrow import parquet as pq

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
from batchkit.datasets.values import text_of
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

#: The reader of a Parquet file loads a group at once.
_GROUP_ROWS: Final = 50_000
_GROUP_BYTES: Final = 32_000_000
#: Of a batch in a snapshot.
_BATCH_BYTES: Final = 8_000_000


class Encoder(Protocol):
    """Writes batches of one schema in one format."""

    def write(self, batch: pa.RecordBatch) -> None:
        """Write some rows."""
        ...

    def close(self) -> None:
        """Write the end of the format; the underlying file stays open."""
        ...


def encoder_of(kind: str, handle: IO[bytes], schema: pa.Schema, *, raw_csv: bool) -> Encoder:
    """Return the encoder of a format: ``jsonl``, ``csv``, ``parquet``, ``stream`` (of Arrow) or ``arrow`` (a file)."""
    match kind:
        case "jsonl":
            return _JsonlEncoder(handle)
        case "csv":
            return _CsvEncoder(handle, schema, raw=raw_csv)
        case "parquet":
            return _ParquetEncoder(handle, schema)
        case "stream":
            return _StreamEncoder(handle, schema)
        case _:
            return _ArrowEncoder(handle, schema)


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
                arrays[place] = _for_parquet(batch.schema.field(place), arrays[place], self._schema.field(place))
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


def _for_parquet(field: pa.Field, column: pa.Array, wanted: pa.Field) -> pa.Array:
    """Return a column as the field that ``_parquet_field`` made of its own."""
    if is_json(wanted):
        return pa.array(json_texts(column_values(field, column)), pa.string())
    return pc.run_end_decode(column) if pa.types.is_run_end_encoded(field.type) else column.cast(wanted.type)


def _parquet_field(field: pa.Field) -> pa.Field:
    """Return a column as Parquet can have it; of JSON where Parquet has no such type, as for an object without members."""
    types = pa.types
    if types.is_run_end_encoded(field.type):
        return field.with_type(field.type.value_type)
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
