"""Rows that the database accepts: each factory adds what the requested state needs and returns what the store reads.

A shard comes with its requests, and a workload's count grows with them, so that the counts always match.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, insert, select, update

from batchkit.models import (
    Batch,
    BatchId,
    BatchStatus,
    Destination,
    FileId,
    Lane,
    RequestCounts,
    RequestState,
    RetryPolicy,
    ShardState,
)
from batchkit.store import batches, shards, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.rows import AnswerFacts, AttemptRow, ResultRow
from batchkit.store.tables import requests as request_rows
from batchkit.store.tables import shards as shard_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, ShardId, Workload, WorkloadId

CHAT = "/v1/chat/completions"
AUDIO = "/v1/audio/transcriptions"
NOW = 1_750_000_000.0

_numbers = itertools.count(1)

_HAS_FILE = frozenset(
    {ShardState.UPLOADED, ShardState.SUBMITTING, ShardState.SUBMITTED, ShardState.ENDED, ShardState.MERGED}
)
_HAS_BATCH = frozenset({ShardState.SUBMITTED, ShardState.ENDED, ShardState.MERGED})
_REQUEST_STATE = {ShardState.MERGED: RequestState.SUCCEEDED, ShardState.WITHDRAWN: RequestState.PENDING}


def add_workload(
    connection: Connection,
    name: str = "evals",
    *,
    split: bool = True,
    at: float = NOW,
    policy: RetryPolicy | None = None,
    shard_lines: int = 1_000,
    **columns: Any,
) -> Workload:
    """Insert a workload; with ``split`` it counts as completely split, with the requests of its shards."""
    assert workloads.add(
        connection,
        name=name,
        source=f"{name}.jsonl",
        directory=f"{name}-0123abcd",
        window="24h",
        max_window="7d",
        shard_lines=shard_lines,
        shard_bytes=100_000_000,
        policy=policy or RetryPolicy(),
        provider="groq",
        at=at,
    )
    workload = workloads.find(connection, name)
    assert workload is not None
    if split:
        workloads.finish_split(connection, workload.id, sha256="0" * 64, request_count=0, at=at)
    if columns:
        workloads.set_values(connection, workload.id, **columns)
    return workloads.get(connection, workload.id)


def add_shard(
    connection: Connection,
    workload: Workload,
    *,
    state: ShardState = ShardState.PLANNED,
    lines: int = 3,
    seqs: Sequence[int] | None = None,
    request_state: RequestState | None = None,
    endpoint: str = CHAT,
    at: float = NOW,
    **columns: Any,
) -> Shard:
    """Insert a shard in any state, with the file, batch and requests of that state.

    The requests are the given ``seqs``, or the next ``lines`` of the workload; they are in flight in an open shard,
    succeeded in a merged and pending in a withdrawn one, unless ``request_state`` is given.
    """
    first = _next_seq(connection, workload.id)
    seqs = list(range(first, first + lines)) if seqs is None else list(seqs)
    number = shards.next_number(connection, workload.id)
    key = f"key-{next(_numbers)}"
    shard_id = shards.add(
        connection,
        workload_id=workload.id,
        number=number,
        destination=Destination(endpoint),
        window=workload.window,
        key=key,
        path=f"{workload.directory}/shards/{key}.jsonl",
        sha256="f" * 64,
        line_count=len(seqs),
        byte_count=100 * len(seqs),
        first_seq=min(seqs),
        last_seq=max(seqs),
        next_lines=workload.shard_lines,
        next_window=workload.window,
        waits=0,
        at=at,
    )
    bulk_for(connection).add_requests(
        workload.id, [(seq, custom_id(seq), shard_id, 100 * place, 99) for place, seq in enumerate(seqs)]
    )
    _grow(connection, workload.id, len(seqs))
    values: dict[str, Any] = {"state": state.value}
    if state in _HAS_FILE:
        values["input_file_id"] = f"file-{shard_id}"
    if state is ShardState.SUBMITTING:
        values["submitting_since"] = at
    if state is ShardState.SENDING:
        values["lane"] = Lane.SYNC.value
    if state is ShardState.MERGED:
        values["merged_at"] = at
    if state in _HAS_BATCH:
        values["batch_id"] = f"batch-{shard_id}"
    connection.execute(update(shard_rows).where(shard_rows.c.id == shard_id).values(**values, **columns))
    shard = shards.get(connection, shard_id)
    if state in _HAS_BATCH:
        status = BatchStatus.IN_PROGRESS if state is ShardState.SUBMITTED else BatchStatus.COMPLETED
        add_batch(connection, shard, status=status)
    settle(connection, shard, seqs, request_state or _REQUEST_STATE.get(state, RequestState.IN_FLIGHT))
    return shard


def settle(connection: Connection, shard: Shard, seqs: Iterable[int], state: RequestState) -> None:
    """Set the state of a shard's requests, with one attempt and the result of that state."""
    seqs = list(seqs)
    if state is not RequestState.IN_FLIGHT:
        bulk_for(connection).set_states(shard.workload_id, [(seq, state.value, 1, 0) for seq in seqs])
    if state is RequestState.SUCCEEDED:
        bulk_for(connection).add_results([success(shard, seq) for seq in seqs])
        bulk_for(connection).add_bodies(shard.id, [(seq, chat_body(f"answer {seq}")) for seq in seqs])
    if state is RequestState.FAILED:
        bulk_for(connection).add_results([failure(shard, seq) for seq in seqs])


def add_batch(connection: Connection, shard: Shard, *, at: float = NOW, **fields: Any) -> Batch:
    """Insert the batch of a shard that has one."""
    assert shard.batch_id is not None
    batch = make_batch(shard.batch_id, input_file_id=shard.input_file_id, **fields)
    batches.add(connection, batch, workload_id=shard.workload_id, shard_id=shard.id, seen_at=at)
    return batch


def make_batch(batch_id: str, *, status: str = BatchStatus.IN_PROGRESS, **fields: Any) -> Batch:
    """Return a batch as the provider could send it."""
    values: dict[str, Any] = {
        "created_at": int(NOW),
        "expires_at": int(NOW) + 86_400,
        "counts": RequestCounts(total=3),
        "raw": {"id": batch_id, "status": status},
    }
    return Batch(BatchId(batch_id), status, **(values | fields))


def custom_id(seq: int) -> str:
    """Return the custom_id of a line's request."""
    return f"row-{seq}"


def success(
    shard: Shard, seq: int, *, attempt: int = 0, prompt: int = 10, completion: int = 5, **facts: str | None
) -> ResultRow:
    """Return a result row of an answered request."""
    told = AnswerFacts("stop", prompt, completion, prompt + completion, **facts)
    return ResultRow(
        shard.workload_id, seq, "succeeded", shard.id, attempt, status_code=200, request_id=f"req-{seq}", facts=told
    )


def failure(
    shard: Shard,
    seq: int,
    *,
    code: str | None = "http_400",
    status: int | None = 400,
    message: str | None = "no",
    attempt: int = 0,
) -> ResultRow:
    """Return a result row of a request that failed permanently."""
    return ResultRow(shard.workload_id, seq, "failed", shard.id, attempt, status, f"req-{seq}", code, message)


def lost_attempt(shard: Shard, seq: int, kind: str = "expired", *, attempt: int = 0, **columns: Any) -> AttemptRow:
    """Return the row of a failed attempt."""
    return AttemptRow(shard.id, seq, shard.workload_id, attempt, kind, **columns)


def chat_body(content: str) -> str:
    """Return the body of a chat completion, as ASCII JSON without escapes."""
    return '{"choices":[{"message":{"role":"assistant","content":"' + content + '"},"finish_reason":"stop"}]}'


def file_id(shard_id: ShardId) -> FileId:
    """Return the id of the input file that ``add_shard`` gives a shard."""
    return FileId(f"file-{shard_id}")


def add_requests(
    connection: Connection, workload_id: WorkloadId, shard_id: ShardId, rows: Iterable[dict[str, Any]]
) -> None:
    """Insert request rows column by column, past the bulk paths."""
    defaults = {
        "workload_id": workload_id,
        "shard_id": shard_id,
        "line_offset": 0,
        "line_length": 1,
        "state": "pending",
    }
    connection.execute(
        insert(request_rows),
        [defaults | {"custom_id": custom_id(row["seq"]), "attempts": 0, "expiries": 0} | row for row in rows],
    )


def _next_seq(connection: Connection, workload_id: WorkloadId) -> int:
    query = select(func.coalesce(func.max(request_rows.c.seq), -1) + 1).where(request_rows.c.workload_id == workload_id)
    return int(connection.execute(query).scalar_one())


def _grow(connection: Connection, workload_id: WorkloadId, count: int) -> None:
    workload = workloads.get(connection, workload_id)
    if workload.request_count is not None:
        workloads.set_values(connection, workload_id, request_count=workload.request_count + count)
