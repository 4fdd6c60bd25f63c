"""Results as a Parquet file: one typed row per request, written group by group.

Imported only where such a file is written: pyarrow takes half a second and 40 MB, and is an extra.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from itertools import chain, islice
from typing import IO, TYPE_CHECKING

import pyarrow as pa
from pyarrow import parquet as pq

from batchkit.files import jsonl
from batchkit.models import RequestState
from batchkit.store.results import Circumstances

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from concurrent.futures import Future

    from batchkit.models import ShardId
    from batchkit.steps.replaced import ReplacedHalves
    from batchkit.store.results import TableRow

#: A group is what a reader takes in at once. Here two lie in memory: one is gathered while the last is compressed.
_GROUP_ROWS = 10_000
_GROUP_BYTES = 16_000_000
_ROWS_PER_BATCH = 256
#: Arrow's usual one keeps 40 MB more of what many small columns have left.
_POOL = pa.system_memory_pool()

_SCHEMA = pa.schema(
    [
        pa.field("custom_id", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("status_code", pa.int16()),
        pa.field("request_id", pa.string()),
        pa.field("finish_reason", pa.string()),
        pa.field("text", pa.string()),
        pa.field("response", pa.string()),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("attempts", pa.int32(), nullable=False),
        pa.field("prompt_tokens", pa.int32()),
        pa.field("completion_tokens", pa.int32()),
        pa.field("total_tokens", pa.int32()),
        pa.field("batch_id", pa.string()),
    ]
)
#: Columns of few different values: worth a dictionary.
_REPEATED = ["status", "status_code", "finish_reason", "error_code", "error_message", "attempts", "batch_id"]
#: Of long texts nobody asks for the least and the greatest.
_LONG = frozenset({"text", "response", "error_message"})


def write(
    blocks: Iterable[Sequence[TableRow]],
    batch_ids: Mapping[ShardId, str | None],
    handle: IO[bytes],
    *,
    replaced: ReplacedHalves,
) -> Iterator[int]:
    """Write rows into an open file; yields how many, as they are taken up.

    ``text`` is what the assistant said, or a transcript; only a success has one. ``response`` is the whole body as JSON. Lone
    surrogates are U+FFFD in both; ``replaced`` counts the bodies that have any.
    """
    gatherer = _Gatherer(batch_ids, replaced)
    rows = chain.from_iterable(blocks)
    statistics = [name for name in _SCHEMA.names if name not in _LONG]
    with (
        pq.ParquetWriter(
            handle,
            _SCHEMA,
            compression="zstd",
            use_dictionary=_REPEATED,
            write_statistics=statistics,
            memory_pool=_POOL,
        ) as writer,
        ThreadPoolExecutor(1, thread_name_prefix="batchkit-parquet") as compressor,
    ):
        writing: Future[None] | None = None
        while block := list(islice(rows, _ROWS_PER_BATCH)):
            gatherer.add(block)
            if gatherer.is_full:
                if writing is not None:
                    writing.result()
                writing = compressor.submit(writer.write_table, gatherer.take())
            yield len(block)
        if writing is not None:
            writing.result()
        writer.write_table(gatherer.take())


class _Shared(dict[int, tuple[str, int | None, int, str | None]]):
    """Status, status code, attempts and batch of each key of ``Circumstances``, found when it is first asked for."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None]) -> None:
        super().__init__()
        self._batch_ids = batch_ids

    def __missing__(self, key: int) -> tuple[str, int | None, int, str | None]:
        common = Circumstances.of(key)
        found = (common.state.value, common.status_code, common.attempts, self._batch_ids.get(common.shard_id))
        self[key] = found
        return found


class _Gatherer:
    """Turns rows into columns, until there are enough for a group."""

    def __init__(self, batch_ids: Mapping[ShardId, str | None], replaced: ReplacedHalves) -> None:
        self._shared = _Shared(batch_ids)
        self._replaced = replaced
        self._batches: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    @property
    def is_full(self) -> bool:
        """Whether there are enough."""
        return self._rows >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES

    def take(self) -> pa.Table:
        """Give the group, and begin the next."""
        table = pa.Table.from_batches(self._batches, _SCHEMA)
        self._batches, self._rows, self._bytes = [], 0, 0
        return table

    def add(self, rows: Sequence[TableRow]) -> None:
        """Take up some rows."""
        custom_ids, request_ids, keys, codes, messages, reasons, prompt, completion, total, stored = zip(
            *rows, strict=True
        )
        bodies = [jsonl.without_lone_surrogates(body) if self._replaced.note(body) else body for body in stored]
        statuses, status_codes, attempts, batch_ids = zip(*[self._shared[key] for key in keys], strict=True)
        texts = [
            jsonl.answer_text(body) if status == RequestState.SUCCEEDED else None
            for status, body in zip(statuses, bodies, strict=True)
        ]
        # The database gave UTF-8: nobody need look at every byte again.
        responses = pa.array(bodies, pa.binary(), memory_pool=_POOL).view(pa.string())
        columns = {
            "custom_id": custom_ids,
            "status": statuses,
            "status_code": status_codes,
            "request_id": request_ids,
            "finish_reason": reasons,
            "text": texts,
            "error_code": codes,
            "error_message": messages,
            "attempts": attempts,
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": total,
            "batch_id": batch_ids,
        }
        arrays = [
            responses if field.name == "response" else pa.array(columns[field.name], field.type, memory_pool=_POOL)
            for field in _SCHEMA
        ]
        self._batches.append(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
        self._rows += len(rows)
        self._bytes += responses.nbytes
