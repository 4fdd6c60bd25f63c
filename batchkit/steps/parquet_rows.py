"""Results as a Parquet file: one typed row per request, written group by group.

Imported only where such a file is written: pyarrow takes half a second and 40 MB, and is an extra.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import IO, TYPE_CHECKING, Any, Final

import pyarrow as pa
from pyarrow import parquet as pq

from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.steps.embeddings import embedding_of
from batchkit.steps.export_columns import ALWAYS_THERE, PARQUET_COLUMNS, REPEATED
from batchkit.store.results import TABLE_COLUMNS, Ending

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from batchkit.models import ShardId
    from batchkit.steps.replaced import ReplacedHalves

#: A reader reads one group at a time. A writer holds two in memory: one is filled while the previous one is compressed.
_GROUP_ROWS = 10_000
_GROUP_BYTES = 16_000_000
#: Arrow's default pool would keep 40 MB more.
_POOL = pa.system_memory_pool()

_SCHEMA = pa.schema(
    [
        pa.field(name, pa.type_for_alias(kind), nullable=name not in ALWAYS_THERE)
        for name, kind in PARQUET_COLUMNS.items()
    ]
)
_EMBEDDING = pa.field("embedding", pa.list_(pa.float64()))
#: Python 3.11 looks up a member of an enumeration in Python: once, not for each row.
_SUCCEEDED: Final = RequestState.SUCCEEDED.value
#: Long texts need no minimum and maximum.
_LONG = frozenset({"text", "response", "error_message", "embedding"})


def write(
    parts: Iterable[Sequence[Sequence[Any]]],
    batch_ids: Mapping[ShardId, str | None],
    handle: IO[bytes],
    *,
    replaced: ReplacedHalves,
    has_embeddings: bool = False,
) -> Iterator[int]:
    """Write rows into an open file; yield numbers of rows. ``parts`` has ``TABLE_COLUMNS`` with the values of some rows each.

    ``text`` is the assistant's answer or a transcript; only a success has one. ``response`` is the whole body as JSON. Lone
    surrogates become U+FFFD in both; ``replaced`` counts the bodies that have any. With ``has_embeddings`` the last
    column, ``embedding``, is a list with the vector of each answer to one input.
    """
    schema = _SCHEMA.append(_EMBEDDING) if has_embeddings else _SCHEMA
    gatherer = _Gatherer(batch_ids, replaced, schema)
    statistics = [name for name in schema.names if name not in _LONG]
    with (
        pq.ParquetWriter(
            handle,
            schema,
            compression="zstd",
            use_dictionary=list(REPEATED),
            write_statistics=statistics,
            memory_pool=_POOL,
        ) as writer,
        ThreadPoolExecutor(1, thread_name_prefix="batchkit-parquet") as compressor,
    ):
        writing: Future[None] | None = None
        for part in parts:
            rows = gatherer.add(part)
            if gatherer.is_full:
                if writing is not None:
                    writing.result()
                writing = compressor.submit(writer.write_table, gatherer.take())
            yield rows
        if writing is not None:
            writing.result()
        writer.write_table(gatherer.take())


class _Endings(dict[int, tuple[str, int | None, int, str | None]]):
    """``status``, ``status_code``, ``attempts`` and ``batch_id`` for the number of each ending."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None]) -> None:
        super().__init__()
        self._batch_ids = batch_ids

    def __missing__(self, number: int) -> tuple[str, int | None, int, str | None]:
        state, status_code, attempts, shard_id = Ending.of(number)
        self[number] = state.value, status_code, attempts, self._batch_ids.get(shard_id)
        return self[number]


class _Gatherer:
    """Collects rows as columns until they fill a group."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None], replaced: ReplacedHalves, schema: pa.Schema) -> None:
        self._endings = _Endings(batch_ids)
        self._schema = schema
        self._replaced = replaced
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Return whether the rows fill a group."""
        return self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES

    def take(self) -> pa.Table:
        """Return the group, and begin the next one."""
        table = pa.Table.from_batches(self._batches, self._schema)
        self._batches, self._rows, self._bytes = [], 0, 0
        return table

    def add(self, part: Sequence[Sequence[Any]]) -> int:
        """Add some rows; return how many."""
        columns: dict[str, Sequence[Any]] = dict(zip(TABLE_COLUMNS, part, strict=True))
        bodies = [
            jsonl.without_lone_surrogates(body) if self._replaced.note(body) else body for body in columns["body"]
        ]
        statuses, status_codes, attempts, batch_ids = zip(
            *map(self._endings.__getitem__, columns["ending"]), strict=True
        )
        columns |= {
            "status": statuses,
            "status_code": status_codes,
            "attempts": attempts,
            "batch_id": batch_ids,
            "text": [
                jsonl.answer_text(body) if status == _SUCCEEDED else None
                for status, body in zip(statuses, bodies, strict=True)
            ],
        }
        if _EMBEDDING.name in self._schema.names:
            columns[_EMBEDDING.name] = [
                embedding_of(body) if status == _SUCCEEDED else None
                for status, body in zip(statuses, bodies, strict=True)
            ]
        # The database returned valid UTF-8: it need not be checked again.
        responses = pa.array(bodies, pa.binary(), memory_pool=_POOL).view(pa.string())
        arrays = [
            responses if field.name == "response" else pa.array(columns[field.name], field.type, memory_pool=_POOL)
            for field in self._schema
        ]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=self._schema))
        self._rows += len(bodies)
        self._bytes += responses.nbytes
        return len(bodies)
