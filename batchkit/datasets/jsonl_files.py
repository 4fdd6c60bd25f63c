"""JSON Lines files as a table.

They are read by our own parser and not by polars or Arrow: those learn the types from the first lines, and drop members or write
nulls if a later line does not fit.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from batchkit.datasets.kinds import Kind
from batchkit.datasets.rows import absent_field, is_absent, is_json, json_field, json_texts
from batchkit.datasets.streams import digest_of, open_bytes, reading
from batchkit.datasets.table import Table
from batchkit.datasets.values import json_text
from batchkit.errors import InputUnreadable
from batchkit.files import jsonl

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class JsonlTable(Table):
    r"""Rows of files with one JSON object a line.

    The columns are all names, in the order of their first occurrence; in a column that some object does not have, null means that
    (see ``rows``). Types are learned from all lines in a first pass; a column with values of several kinds is a JSON column. So are
    objects whose members differ; others become structs, lists become lists. Only ``\n`` ends a line; blank lines are skipped.
    """

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        super().__init__(name)
        self._paths = tuple(paths)

    def _find_schema(self) -> pa.Schema:
        kinds: dict[str, Kind] = {}
        absent: set[str] = set()
        is_first = True
        for record in islice(self._records(), self.limit):
            if record.keys() != kinds.keys():
                absent |= kinds.keys() - record.keys() if is_first else kinds.keys() ^ record.keys()
            for name, value in record.items():
                kind = kinds.get(name)
                if kind is None:
                    kind = kinds[name] = Kind()
                kind.see(value)
            is_first = False
        if not kinds:
            raise InputUnreadable(self._paths[0], "has no row", "write one JSON object a line")
        return pa.schema([_field(name, kind, is_absent=name in absent) for name, kind in kinds.items()])

    def _read(self, rows: int) -> Iterator[pa.RecordBatch]:
        schema = self.schema
        records = islice(self._records(), self.limit)
        while block := list(islice(records, rows)):
            yield pa.RecordBatch.from_arrays([_array(field, block) for field in schema], schema=schema)

    def _content_digest(self) -> str:
        return digest_of("jsonl", self._paths)

    def _records(self) -> Iterator[dict[str, Any]]:
        for path in self._paths:
            with open_bytes(path) as handle, reading(path):
                for number, line in enumerate(handle, 1):
                    data = (line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line).strip()
                    if data:
                        yield _record(path, number, data)


def _record(path: Path, number: int, data: bytes) -> dict[str, Any]:
    hint = "write one JSON object a line"
    if number == 1 and data[:1] in b"[{":
        hint += "; `jq -c '.[]'` converts a list, or a document of many lines"
    try:
        value = jsonl.loads_exactly(data)
    except jsonl.MalformedJson as error:
        raise InputUnreadable(path, f"line {number:,}: not JSON: {error}", hint) from error
    if not isinstance(value, dict):
        raise InputUnreadable(path, f"line {number:,}: {_kind_name(value)} instead of an object", hint)
    return value


def _kind_name(value: Any) -> str:
    names = {list: "a list", str: "a text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number")


def _field(name: str, kind: Kind, *, is_absent: bool) -> pa.Field:
    if not is_absent:
        return kind.field(name)
    return absent_field(json_field(name) if kind.has_null else kind.field(name))


def _array(field: pa.Field, records: Sequence[Mapping[str, Any]]) -> pa.Array:
    name = field.name
    if not is_json(field):
        return pa.array([record.get(name) for record in records], field.type)
    if not is_absent(field):
        return pa.array(json_texts(record.get(name) for record in records), pa.string())
    return pa.array([json_text(record[name]) if name in record else None for record in records], pa.string())
