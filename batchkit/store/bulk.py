"""The fast paths for many rows: multi-row statements on SQLite, binary COPY on Postgres.

This is the only file that cares which database it is; ``bulk_for`` chooses. All calls run inside the caller's transaction.
Measured: SQLAlchemy's own path for dictionaries costs three to four times as much, one statement per row eleven times.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy.exc import IntegrityError

from batchkit.store import binary
from batchkit.store.driver import copy_in

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, WorkloadId

#: (shard, seq, custom_id, line offset, line length)
RequestRow = tuple[int, int, str, int, int]
#: (seq, state, attempts, expiries)
StateRow = tuple[int, str, int, int]
#: (seq, line offset, line length)
MoveRow = tuple[int, int, int]
#: (seq, body as JSON text)
BodyRow = tuple[int, str]
#: (seq, attempt, kind, status code, error code, error message, prompt tokens, completion tokens)
AttemptRow = tuple[int, int, str, int | None, str | None, str | None, int | None, int | None]
#: (seq, state, attempt, status code, request id, error code, error message, finish reason, three token counts)
ResultRow = tuple[
    int,
    str,
    int,
    int | None,
    str | None,
    str | None,
    str | None,
    str | None,
    int | None,
    int | None,
    int | None,
]

#: (seq, attempt, request id, finish reason, three token counts) of a success with status 200
SuccessRow = tuple[int, int, str | None, str | None, int | None, int | None, int | None]

_RESULT_COLUMNS = (
    "seq, state, attempt, status_code, request_id, error_code, error_message, finish_reason,"
    " prompt_tokens, completion_tokens, total_tokens"
)
_ATTEMPT_COLUMNS = "seq, attempt, kind, status_code, error_code, error_message, prompt_tokens, completion_tokens"
_SUCCESS_COLUMNS = "seq, attempt, request_id, finish_reason, prompt_tokens, completion_tokens, total_tokens"
_RESULT_UPSERT = (
    "ON CONFLICT (workload_id, seq) DO UPDATE SET state = excluded.state, shard_id = excluded.shard_id,"
    " attempt = excluded.attempt, status_code = excluded.status_code, request_id = excluded.request_id,"
    " error_code = excluded.error_code, error_message = excluded.error_message,"
    " finish_reason = excluded.finish_reason, prompt_tokens = excluded.prompt_tokens,"
    " completion_tokens = excluded.completion_tokens, total_tokens = excluded.total_tokens"
    " WHERE results.state <> 'succeeded'"
)


_RESULT_TYPES = ("int8", "text", "int2", "int2", "text", "text", "text", "text", "int4", "int4", "int4")


class Bulk(Protocol):
    """What both databases can do quickly. Rows are tuples; their columns are named beside the types above."""

    def add_requests(self, workload_id: WorkloadId, rows: Iterable[RequestRow]) -> None:
        """Insert the requests of new shards, in flight."""
        ...

    def set_states(self, workload_id: WorkloadId, rows: Sequence[StateRow]) -> None:
        """Write the state and counters of requests."""
        ...

    def move_to_shard(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[MoveRow]) -> int:
        """Put pending requests into a new shard, in flight; returns how many were still pending."""
        ...

    def add_bodies(self, shard_id: ShardId, rows: Sequence[BodyRow]) -> None:
        """Store answers; a second one for the same request of the same shard replaces the first."""
        ...

    def add_attempts(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[AttemptRow]) -> None:
        """Store failed rides."""
        ...

    def add_results(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[ResultRow]) -> None:
        """Store final results; a success that stands already is left alone."""
        ...

    def add_successes(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[SuccessRow]) -> None:
        """Store successes with status 200, which is what most results are; one that stands already is left alone."""
        ...


def bulk_for(connection: Connection) -> Bulk:
    """Choose the fast path of the connection's database."""
    return SqliteBulk(connection) if connection.dialect.name == "sqlite" else PostgresBulk(connection)


class SqliteBulk:
    """Multi-row VALUES: fewer statements and fewer bound values are what SQLite rewards."""

    # A few sizes only: every size is a statement of its own, and prepared statements of many rows are large.
    _rows_per_statement = (256, 64, 16, 4, 1)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _insert(
        self, target: str, constants: Sequence[Any], columns: int, rows: Sequence[Sequence[Any]], tail: str = ""
    ) -> None:
        """Insert rows of ``columns`` values, each behind the same ``constants``."""
        row = f"({', '.join('?' * columns)})"
        bound = ", ".join("?" * len(constants))
        start = 0
        for size in self._rows_per_statement:
            sql = f"INSERT INTO {target} SELECT {bound}, * FROM (VALUES {', '.join([row] * size)}) WHERE true {tail}"  # noqa: S608 - constants of this file
            while len(rows) - start >= size:
                values = chain(constants, chain.from_iterable(rows[start : start + size]))
                self._connection.exec_driver_sql(sql, tuple(values))
                start += size

    def _update(self, sql: str, rows: Sequence[tuple[Any, ...]]) -> int:
        return self._connection.exec_driver_sql(sql, list(rows)).rowcount if rows else 0

    def add_requests(self, workload_id: WorkloadId, rows: Iterable[RequestRow]) -> None:
        """Insert the requests of new shards, in flight."""
        self._insert(
            "requests (workload_id, state, shard_id, seq, custom_id, line_offset, line_length)",
            (workload_id, "in_flight"),
            5,
            list(rows),
        )

    def set_states(self, workload_id: WorkloadId, rows: Sequence[StateRow]) -> None:
        """Write the state and counters of requests."""
        self._update(
            "UPDATE requests SET state = ?, attempts = ?, expiries = ? WHERE workload_id = ? AND seq = ?",
            [(state, attempts, expiries, workload_id, seq) for seq, state, attempts, expiries in rows],
        )

    def move_to_shard(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[MoveRow]) -> int:
        """Put pending requests into a new shard, in flight; returns how many were still pending."""
        moved = start = 0
        for size in self._rows_per_statement:
            # The rows come first and find their requests by the primary key, one after the other (see the query plans' tests).
            sql = (
                "UPDATE requests SET state = 'in_flight', shard_id = ?, line_offset = moves.column2,"  # noqa: S608 - constants
                f" line_length = moves.column3 FROM (VALUES {', '.join(['(?, ?, ?)'] * size)}) AS moves"
                " WHERE workload_id = ? AND seq = moves.column1 AND state = 'pending'"
            )
            while len(rows) - start >= size:
                values = (shard_id, *chain.from_iterable(rows[start : start + size]), workload_id)
                moved += self._connection.exec_driver_sql(sql, values).rowcount
                start += size
        return moved

    def add_bodies(self, shard_id: ShardId, rows: Sequence[BodyRow]) -> None:
        """Store answers; a second one for the same request of the same shard replaces the first."""
        self._insert(
            "bodies (shard_id, seq, body)",
            (shard_id,),
            2,
            rows,
            "ON CONFLICT (shard_id, seq) DO UPDATE SET body = excluded.body",
        )

    def add_attempts(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[AttemptRow]) -> None:
        """Store failed rides."""
        self._insert(
            f"attempts (workload_id, shard_id, {_ATTEMPT_COLUMNS})",
            (workload_id, shard_id),
            8,
            rows,
        )

    def add_results(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[ResultRow]) -> None:
        """Store final results; a success that stands already is left alone."""
        self._insert(
            f"results (workload_id, shard_id, {_RESULT_COLUMNS})",
            (workload_id, shard_id),
            11,
            rows,
            _RESULT_UPSERT,
        )

    def add_successes(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[SuccessRow]) -> None:
        """Store successes with status 200, which is what most results are; one that stands already is left alone."""
        self._insert(
            f"results (workload_id, shard_id, state, status_code, {_SUCCESS_COLUMNS})",
            (workload_id, shard_id, "succeeded", 200),
            7,
            rows,
            _RESULT_UPSERT,
        )


class PostgresBulk:
    """Binary COPY straight in, or into a temporary table where something collides; updates join with arrays.

    Of an array the planner knows the length, so it looks rows up one by one; a temporary table it would join with a scan.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def _copy(self, target: str, columns: str, write: Callable[[Any], None]) -> None:
        copy_in(self._connection, f"COPY {target} ({columns}) FROM STDIN (FORMAT BINARY)", write)

    def _copy_new(self, target: str, columns: str, write: Callable[[Any], None]) -> bool:
        """Copy rows straight in; False, and nothing is changed, when one of them is there already."""
        savepoint = self._connection.begin_nested()
        try:
            self._copy(target, columns, write)
        except IntegrityError:
            savepoint.rollback()
            return False
        savepoint.commit()
        return True

    def _stage(self, name: str, columns: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        pairs = ", ".join(f"{column} {kind}" for column, kind in zip(columns.split(", "), types, strict=True))
        self._connection.exec_driver_sql(f"CREATE TEMPORARY TABLE IF NOT EXISTS {name} ({pairs}) ON COMMIT DELETE ROWS")
        self._connection.exec_driver_sql(f"TRUNCATE {name}")
        self._copy(name, columns, binary.rows(types, rows))

    def add_requests(self, workload_id: WorkloadId, rows: Iterable[RequestRow]) -> None:
        """Insert the requests of new shards, in flight."""
        self._copy(
            "requests",
            "workload_id, state, shard_id, seq, custom_id, line_offset, line_length",
            binary.requests(workload_id, rows),
        )

    def set_states(self, workload_id: WorkloadId, rows: Sequence[StateRow]) -> None:
        """Write the state and counters of requests."""
        if not rows:
            return
        self._connection.exec_driver_sql(
            "UPDATE requests SET state = given.state, attempts = given.attempts, expiries = given.expiries"
            " FROM unnest(%s::int8[], %s::text[], %s::int2[], %s::int2[]) AS given (seq, state, attempts, expiries)"
            " WHERE requests.workload_id = %s AND requests.seq = given.seq",
            (*map(list, zip(*rows, strict=True)), workload_id),
        )

    def move_to_shard(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[MoveRow]) -> int:
        """Put pending requests into a new shard, in flight; returns how many were still pending."""
        if not rows:
            return 0
        return self._connection.exec_driver_sql(
            "UPDATE requests SET state = 'in_flight', shard_id = %s, line_offset = given.line_offset,"
            " line_length = given.line_length"
            " FROM unnest(%s::int8[], %s::int8[], %s::int4[]) AS given (seq, line_offset, line_length)"
            " WHERE requests.workload_id = %s AND requests.seq = given.seq AND requests.state = 'pending'",
            (shard_id, *map(list, zip(*rows, strict=True)), workload_id),
        ).rowcount

    def add_bodies(self, shard_id: ShardId, rows: Sequence[BodyRow]) -> None:
        """Store answers; a second one for the same request of the same shard replaces the first."""
        if not rows or self._copy_new("bodies", "shard_id, seq, body", binary.bodies(shard_id, rows)):
            return
        self._stage("stage_bodies", "seq, body", ("int8", "text"), rows)
        self._connection.exec_driver_sql(
            "INSERT INTO bodies (shard_id, seq, body) SELECT %s, seq, body FROM stage_bodies"
            " ON CONFLICT (shard_id, seq) DO UPDATE SET body = excluded.body",
            (shard_id,),
        )

    def add_attempts(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[AttemptRow]) -> None:
        """Store failed rides."""
        if not rows:
            return
        self._copy(
            "attempts",
            f"workload_id, shard_id, {_ATTEMPT_COLUMNS}",
            binary.rows(
                ("int8", "int8", "int8", "int2", "text", "int2", "text", "text", "int4", "int4"),
                ((workload_id, shard_id, *row) for row in rows),
            ),
        )

    def add_results(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[ResultRow]) -> None:
        """Store final results; a success that stands already is left alone."""
        if not rows or self._copy_new(
            "results",
            f"workload_id, shard_id, {_RESULT_COLUMNS}",
            binary.rows(("int8", "int8", *_RESULT_TYPES), ((workload_id, shard_id, *row) for row in rows)),
        ):
            return
        self._stage("stage_results", _RESULT_COLUMNS, _RESULT_TYPES, rows)
        self._connection.exec_driver_sql(
            f"INSERT INTO results (workload_id, shard_id, {_RESULT_COLUMNS})"  # noqa: S608 - constants of this file
            f" SELECT %s, %s, {_RESULT_COLUMNS} FROM stage_results {_RESULT_UPSERT}",
            (workload_id, shard_id),
        )

    def add_successes(self, workload_id: WorkloadId, shard_id: ShardId, rows: Sequence[SuccessRow]) -> None:
        """Store successes with status 200, which is what most results are; one that stands already is left alone."""
        target = f"workload_id, shard_id, state, status_code, {_SUCCESS_COLUMNS}"
        if rows and not self._copy_new("results", target, binary.successes(workload_id, shard_id, rows)):
            self.add_results(
                workload_id,
                shard_id,
                [
                    (seq, "succeeded", attempt, 200, request_id, None, None, reason, prompt, completion, total)
                    for seq, attempt, request_id, reason, prompt, completion, total in rows
                ],
            )
