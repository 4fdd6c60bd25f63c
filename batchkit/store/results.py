"""Results, read back: the streams that exports are made of.

Like ``bulk`` this goes to the driver itself and knows which database it is: SQLAlchemy's rows cost more than all the rest
of an export. Bodies come as bytes, because nobody here looks into them as text.
"""

from __future__ import annotations

from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit.models import RequestState, ShardId
from batchkit.store.driver import driver_errors

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

#: So few that a block of ordinary rows stays below the 128 kB from which on the C library gives memory back to the system:
#: to take it again costs two page faults a row, more than all else.
_ROWS_PER_BLOCK = 16
_ROWS_PER_MESSAGE = 256

# The likeliest first: the database compares them one by one.
_STATES = tuple(sorted(RequestState, key=lambda state: state != RequestState.SUCCEEDED))
_ATTEMPTS_BASE = 1 << 16
_STATES_BASE = 1 << 3
_CODES_BASE = 1 << 10

_SHARD = "coalesce(results.shard_id, requests.shard_id)"
_STATE_NUMBER = "CASE requests.state" + "".join(f" WHEN '{state}' THEN {n}" for n, state in enumerate(_STATES)) + " END"
_KEY = (
    f"(({_SHARD} * {_CODES_BASE} + coalesce(results.status_code + 1, 0)) * {_STATES_BASE} + {_STATE_NUMBER})"
    f" * {_ATTEMPTS_BASE} + requests.attempts"
)
_LINE_COLUMNS = f"requests.custom_id, results.request_id, {_KEY}, results.error_code, results.error_message"
_FACT_COLUMNS = "results.finish_reason, results.prompt_tokens, results.completion_tokens, results.total_tokens"
_ROW_COLUMNS = (
    "requests.seq, requests.custom_id, requests.state, requests.attempts, requests.shard_id, results.shard_id,"
    f" results.status_code, results.request_id, results.error_code, results.error_message, {_FACT_COLUMNS}"
)
_TABLES = (
    "requests LEFT JOIN results ON results.workload_id = requests.workload_id AND results.seq = requests.seq"
    " LEFT JOIN bodies ON bodies.shard_id = results.shard_id AND bodies.seq = results.seq"
)
# Without sorting the planner goes along the primary keys of requests and results side by side and looks into bodies for each:
# nothing is gathered on the server first. Left to itself it hashes and sorts all bodies, because it counts on giving out all.
_NO_DETOURS = ("enable_sort", "max_parallel_workers_per_gather", "jit")

#: (custom_id, request id, key of its ``Circumstances``, error code, error message, body)
LineRow = tuple[str, str | None, int, str | None, str | None, bytes | None]
#: The same, and before the body: (finish reason, prompt tokens, completion tokens, total tokens)
TableRow = tuple[
    str,
    str | None,
    int,
    str | None,
    str | None,
    str | None,
    int | None,
    int | None,
    int | None,
    bytes | None,
]


class Circumstances(NamedTuple):
    """What many requests have in common: how they ended, after how many attempts, and in which shard.

    That is the shard that gave the result; when there is none, the last one that carried the request.
    """

    state: RequestState
    status_code: int | None
    attempts: int
    shard_id: ShardId

    @classmethod
    def of(cls, key: int) -> Circumstances:
        """Read the number that stands for them in a ``LineRow``."""
        rest, attempts = divmod(key, _ATTEMPTS_BASE)
        rest, state = divmod(rest, _STATES_BASE)
        shard_id, code = divmod(rest, _CODES_BASE)
        return cls(_STATES[state], code - 1 if code else None, attempts, ShardId(shard_id))


class ExportRow(NamedTuple):
    """One request with its result, if it has one; ``body`` is the answer as JSON in UTF-8."""

    seq: int
    custom_id: str
    state: str
    attempts: int
    shard_id: ShardId
    result_shard_id: ShardId | None
    status_code: int | None
    request_id: str | None
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    body: bytes | None


def stream(connection: Connection, workload_id: WorkloadId) -> Generator[ExportRow, None, None]:
    """Stream every request of a workload in input order, in constant memory.

    Whoever stops reading in the middle closes it before the connection. On Postgres nothing else can be asked in a transaction
    whose stream is not read to its end.
    """
    with closing(_blocks(connection, workload_id, _ROW_COLUMNS)) as blocks:
        for block in blocks:
            yield from map(ExportRow._make, block)


def stream_lines(connection: Connection, workload_id: WorkloadId) -> Iterator[list[LineRow]]:
    """Stream what a line of an export needs, in blocks; otherwise as ``stream``, for half its time."""
    return _blocks(connection, workload_id, _LINE_COLUMNS)


def stream_table(connection: Connection, workload_id: WorkloadId) -> Iterator[list[TableRow]]:
    """Stream what a table needs; otherwise as ``stream_lines``."""
    return _blocks(connection, workload_id, f"{_LINE_COLUMNS}, {_FACT_COLUMNS}")


def statement(connection: Connection, columns: str = _ROW_COLUMNS) -> str:
    """Write the query of a stream for the connection's database; its one parameter is the workload's id."""
    body, parameter = (
        ("CAST(bodies.body AS BLOB)", "?")
        if connection.dialect.name == "sqlite"
        else ("convert_to(bodies.body, 'UTF8')", "%s")
    )
    return f"SELECT {columns}, {body} FROM {_TABLES} WHERE requests.workload_id = {parameter} ORDER BY requests.seq"  # noqa: S608 - constants of this file


def _blocks(connection: Connection, workload_id: WorkloadId, columns: str) -> Generator[list[Any], None, None]:
    sql = statement(connection, columns)
    read = _sqlite_blocks if connection.dialect.name == "sqlite" else _postgres_blocks
    with driver_errors(connection, sql):
        yield from read(connection, sql, workload_id)


def _sqlite_blocks(connection: Connection, sql: str, workload_id: WorkloadId) -> Iterator[list[Any]]:
    driver: Any = connection.connection.driver_connection
    # Whoever stops reading in the middle must not leave a cursor open.
    with closing(driver.cursor()) as cursor:
        cursor.execute(sql, (workload_id,))
        while block := cursor.fetchmany(_ROWS_PER_BLOCK):
            yield block


def _postgres_blocks(connection: Connection, sql: str, workload_id: WorkloadId) -> Iterator[list[Any]]:
    for setting in _NO_DETOURS:
        connection.exec_driver_sql(f"SET LOCAL {setting} = 0")
    dbapi: Any = connection.dialect.dbapi
    driver: Any = connection.connection.driver_connection
    # One statement whose rows arrive while earlier ones are written: fetching from a cursor would let client and server wait
    # for each other in turns. A libpq before 17 hands rows over one by one.
    size = _ROWS_PER_MESSAGE if dbapi.capabilities.has_stream_chunked() else 1
    with (
        driver.cursor(binary=True) as cursor,
        closing(cursor.stream(sql, (workload_id,), binary=True, size=size)) as rows,
    ):
        while block := list(islice(rows, _ROWS_PER_BLOCK)):
            yield block
