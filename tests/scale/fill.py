"""Stores of any size, filled by the database itself: the rows that batchkit writes, without files and mostly without answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import text

from batchkit.files import jsonl
from batchkit.store import workloads
from tests.factories import NOW, add_workload, chat_body

if TYPE_CHECKING:
    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId
    from batchkit.store.engine import Store

#: How many of 100 merged requests have failed permanently.
FAILED_PER_CENT = 1

_ENDPOINT = "/v1/chat/completions"
_SHA256 = "0123456789abcdef" * 4
_EVENTS = (
    "(none) -> planned",
    "planned -> uploaded",
    "uploaded -> submitting",
    "submitting -> submitted",
    "submitted -> ended",
    "ended -> merged",
)


@dataclass(frozen=True)
class Filling:
    """One workload: the number of shards in each state, and the number of requests in each shard.

    Of 1,000 merged requests ``pending_per_mille`` are pending again. ``body_bytes`` is the length of each answer, 0 for none.
    """

    merged: int = 0
    submitted: int = 0
    planned: int = 0
    lines: int = 1_000
    pending_per_mille: int = 0
    body_bytes: int = 0

    @property
    def shards(self) -> int:
        """Return the number of shards."""
        return self.merged + self.submitted + self.planned

    @property
    def requests(self) -> int:
        """Return the number of requests."""
        return self.shards * self.lines


def fill(store: Store, filling: Filling, *, name: str = "scale") -> WorkloadId:
    """Add a workload with all its rows and return its id."""
    with store.write() as connection:
        workload = add_workload(connection, name, at=NOW)
        first = int(connection.execute(text("SELECT coalesce(max(id), 0) + 1 FROM shards")).scalar_one())
        for statement in (
            _shards(connection, workload.id, filling),
            _batches(workload.id, filling),
            *(_events(workload.id, step) for step in range(len(_EVENTS))),
            _requests(connection, workload.id, filling, first),
            _results(workload.id, 0, filling.requests),
            *([_bodies(workload.id, filling, 0, filling.requests)] if filling.body_bytes else []),
        ):
            connection.exec_driver_sql(statement)
        workloads.set_values(connection, workload.id, request_count=filling.requests)
    return workload.id


def merge(store: Store, workload_id: WorkloadId, filling: Filling) -> None:
    """Answer every request of a workload's open shards as merges do: existing rows are updated, shard by shard."""
    change = (
        "UPDATE requests SET state = 'succeeded', attempts = 1"
        " WHERE workload_id = :workload AND seq BETWEEN :first AND :last AND state = 'in_flight'"
    )
    for first in range(0, filling.requests, filling.lines):
        with store.write() as connection:
            values = {"workload": workload_id, "first": first, "last": first + filling.lines - 1}
            connection.execute(text(change), values)
            connection.exec_driver_sql(_results(workload_id, values["first"], values["last"]))
            if filling.body_bytes:
                connection.exec_driver_sql(_bodies(workload_id, filling, values["first"], values["last"]))


def analyse(store: Store) -> None:
    """Update the planner's statistics, which Postgres does by itself after a while."""
    with store.write() as connection:
        connection.execute(text("ANALYZE"))


def _numbers(connection: Connection, count: int) -> str:
    """Return a row source of the numbers from 0 in a column ``i``."""
    if connection.dialect.name == "sqlite":
        return (
            "(WITH RECURSIVE counted(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM counted"  # noqa: S608 - a number
            f" LIMIT {count}) SELECT i FROM counted) AS numbers"
        )
    return f"(SELECT i FROM generate_series(0, {count - 1}) AS i) AS numbers"  # noqa: S608 - a number


def _rest(value: str, divisor: int) -> str:
    # Without `%`, which a driver would take for a placeholder.
    return f"({value} - {value} / {divisor} * {divisor})"


def _shards(connection: Connection, workload_id: WorkloadId, filling: Filling) -> str:
    lines, sent = filling.lines, filling.merged + filling.submitted
    key = f"'key-of-{workload_id}-' || numbers.i"
    return (
        "INSERT INTO shards (workload_id, number, state, endpoint, completion_window, key, path, sha256, line_count,"  # noqa: S608 - constants of this file
        " byte_count, first_seq, last_seq, input_file_id, batch_id, submitting_since, merged_at, succeeded, failed,"
        " prompt_tokens, completion_tokens, next_lines, next_completion_window)"
        f" SELECT {workload_id}, numbers.i + 1,"
        f" CASE WHEN numbers.i < {filling.merged} THEN 'merged' WHEN numbers.i < {sent} THEN 'submitted' ELSE 'planned' END,"
        f" '{_ENDPOINT}', '24h', {key}, 'scale-0123abcd/shards/' || {key} || '.jsonl', '{_SHA256}', {lines},"
        f" {lines * 700}, numbers.i * {lines}, (numbers.i + 1) * {lines} - 1,"
        f" CASE WHEN numbers.i < {sent} THEN 'file_01jzk4x9f2' || {key} END,"
        f" CASE WHEN numbers.i < {sent} THEN 'batch_01jzk4x9f2' || {key} END,"
        f" CASE WHEN numbers.i < {sent} THEN {NOW} END, CASE WHEN numbers.i < {filling.merged} THEN {NOW} END,"
        f" {lines}, 0, {lines * 100}, {lines * 200}, {lines}, '24h'"
        f" FROM {_numbers(connection, filling.shards)} ORDER BY numbers.i"
    )


def _batches(workload_id: WorkloadId, filling: Filling) -> str:
    """Insert batches with the provider's object, which is about as long as Groq's."""
    told = jsonl.dumps(
        {
            "id": "@batch_id@",
            "object": "batch",
            "endpoint": _ENDPOINT,
            "errors": None,
            "input_file_id": "@input_file_id@",
            "completion_window": "24h",
            "status": "in_progress",
            "output_file_id": None,
            "error_file_id": None,
            **dict.fromkeys(("finalizing_at", "failed_at", "expired_at", "cancelled_at", "completed_at")),
            "created_at": int(NOW),
            "in_progress_at": int(NOW),
            "expires_at": int(NOW) + 86_400,
            "request_counts": {"total": filling.lines, "completed": 0, "failed": 0},
            "metadata": {"batchkit_workload": "scale", "batchkit_key": "@key@"},
        }
    ).decode()
    raw = f"'{told}'"
    for column in ("batch_id", "input_file_id", "key"):
        raw = raw.replace(f"@{column}@", f"' || {column} || '")
    return (
        "INSERT INTO batches (id, workload_id, shard_id, status, created_at, expires_at, total, completed, failed,"  # noqa: S608 - constants of this file
        " output_file_id, error_file_id, problems, raw, seen_at)"
        " SELECT batch_id, workload_id, id, CASE WHEN state = 'merged' THEN 'completed' ELSE 'in_progress' END,"
        f" {int(NOW)}, {int(NOW) + 86_400}, {filling.lines}, 0, 0,"
        f" CASE WHEN state = 'merged' THEN 'out-' || input_file_id END, NULL, '[]', {raw}, {NOW}"
        f" FROM shards WHERE workload_id = {workload_id} AND batch_id IS NOT NULL ORDER BY id"
    )


def _events(workload_id: WorkloadId, step: int) -> str:
    reached = {0: "true", 4: "state = 'merged'", 5: "state = 'merged'"}.get(step, "batch_id IS NOT NULL")
    return (
        f"INSERT INTO events (at, workload_id, shard_id, kind, detail) SELECT {NOW}, workload_id, id, '{_EVENTS[step]}',"  # noqa: S608 - constants of this file
        f" batch_id FROM shards WHERE workload_id = {workload_id} AND {reached} ORDER BY id"
    )


def _requests(connection: Connection, workload_id: WorkloadId, filling: Filling, first_shard: int) -> str:
    merged, place = filling.merged * filling.lines, _rest("numbers.i", filling.lines)
    return (
        "INSERT INTO requests (workload_id, seq, custom_id, shard_id, line_offset, line_length, state, attempts)"  # noqa: S608 - constants of this file
        f" SELECT {workload_id}, numbers.i, 'request-' || numbers.i || '-of-nightly', {first_shard} + numbers.i / {filling.lines},"
        f" {place} * 700, 699,"
        f" CASE WHEN numbers.i >= {merged} THEN 'in_flight'"
        f" WHEN {_rest('numbers.i', 100)} < {FAILED_PER_CENT} THEN 'failed'"
        f" WHEN {_rest('numbers.i', 1_000)} BETWEEN 1 AND {filling.pending_per_mille} THEN 'pending' ELSE 'succeeded' END,"
        f" CASE WHEN numbers.i < {merged} THEN 1 ELSE 0 END"
        f" FROM {_numbers(connection, filling.requests)} ORDER BY numbers.i"
    )


def _results(workload_id: WorkloadId, first: int, last: int) -> str:
    is_good = "state = 'succeeded'"
    return (
        "INSERT INTO results (workload_id, seq, state, shard_id, attempt, status_code, request_id, error_code, error_message,"  # noqa: S608 - constants of this file
        " finish_reason, prompt_tokens, completion_tokens, total_tokens)"
        f" SELECT workload_id, seq, state, shard_id, 0, CASE WHEN {is_good} THEN 200 ELSE 400 END, 'req_01jzk4x9f2ew8' || seq,"
        f" CASE WHEN {is_good} THEN NULL ELSE 'json_validate_failed' END,"
        f" CASE WHEN {is_good} THEN NULL ELSE 'Failed to validate JSON. Please adjust your prompt.' END,"
        f" CASE WHEN {is_good} THEN 'stop' END, CASE WHEN {is_good} THEN 100 END, CASE WHEN {is_good} THEN 200 END,"
        f" CASE WHEN {is_good} THEN 300 END"
        f" FROM requests WHERE workload_id = {workload_id} AND seq BETWEEN {first} AND {last}"
        " AND state IN ('succeeded', 'failed') ORDER BY seq"
    )


def _bodies(workload_id: WorkloadId, filling: Filling, first: int, last: int) -> str:
    """Insert answers of one length; neither database compresses bodies up to 2 kB."""
    body = chat_body("x" * (filling.body_bytes - len(chat_body("")) - 12))
    head, tail = body[: len(body) // 2], body[len(body) // 2 :]
    return (
        f"INSERT INTO bodies (shard_id, seq, body) SELECT shard_id, seq, '{head}' || ({10**11} + seq) || '{tail}'"  # noqa: S608 - constants of this file
        f" FROM requests WHERE workload_id = {workload_id} AND seq BETWEEN {first} AND {last}"
        " AND state = 'succeeded' ORDER BY seq"
    )
