"""Streams of results, for exports.

Like ``bulk`` this uses the driver directly: SQLAlchemy's rows would take more time than the rest of an export. Bodies are bytes,
because no caller needs them as text.
"""

from __future__ import annotations

from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from batchkit.models import RequestState, ShardId
from batchkit.store import names, reuse
from batchkit.store.driver import driver_errors
from batchkit.store.rows import AnswerFacts, RequestRow, ResultRow, fields_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

#: A block of ordinary rows stays below 128 kB, from which the C library returns memory to the system: getting it again
#: would cost two page faults a row, more than the rest of the work.
_ROWS_PER_BLOCK = 16
_BLOCKS_PER_TABLE_PART = 16
_ROWS_PER_MESSAGE = 256

_STATES: Final = tuple(sorted(RequestState, key=lambda state: state != RequestState.SUCCEEDED))
_ATTEMPTS_BASE: Final = 1 << 16
_STATES_BASE: Final = 1 << 3
_CODES_BASE: Final = 1 << 10
# The database compares the states one by one: the most frequent one comes first.
_STATE_CASES: Final = " ".join(f"WHEN '{state}' THEN {number}" for number, state in enumerate(_STATES))
_ENDING: Final = (
    f"((coalesce(results.shard_id, requests.shard_id) * {_CODES_BASE} + coalesce(results.status_code + 1, 0)) * {_STATES_BASE}"
    f" + CASE requests.state {_STATE_CASES} END) * {_ATTEMPTS_BASE} + requests.attempts"
)

#: The sources of a stream's columns.
_SOURCES: Final = {
    **{field.name: f"results.{field.name}" for field in fields_of(ResultRow)},
    **{field.name: f"requests.{field.name}" for field in fields_of(RequestRow)},
    "result_shard_id": "results.shard_id",
    "ending": _ENDING,
}
_NAMED: Final = frozenset(field.name for field in fields_of(ResultRow) if field.kind.is_name)
_TABLES = (
    "requests LEFT JOIN results ON results.workload_id = requests.workload_id AND results.seq = requests.seq"
    " LEFT JOIN bodies ON bodies.shard_id = results.shard_id AND bodies.seq = coalesce(results.body_seq, results.seq)"
)
# Without sorting, the planner merges the primary keys of requests and results and looks up the body of each row, so rows arrive
# at once. By default it would hash and sort all bodies first, because it plans for reading all rows.
_NO_DETOURS = ("enable_sort", "max_parallel_workers_per_gather", "jit")

#: The columns of ``stream_lines``. ``ending`` is the number of an ``Ending``, ``body`` the answer as JSON in UTF-8.
#: ``reused_from`` names the request whose answer it is, if that is another one.
LINE_COLUMNS: Final = ("custom_id", "request_id", "ending", "error_code", "error_message", "body", "reused_from")
#: The columns of ``stream_columns``.
TABLE_COLUMNS: Final = (*LINE_COLUMNS, *AnswerFacts._fields)

LineRow = tuple[str, str | None, int, str | None, str | None, bytes | None, str | None]


class Ending(NamedTuple):
    """How a request ended, after how many attempts, and in which shard: the same for most requests of a shard.

    That is the shard of the result or, without one, the request's last shard. A stream has one number for an ending: with four
    columns an export takes a tenth longer, because the driver takes and gives back its locks for each column of each row.
    """

    state: RequestState
    status_code: int | None
    attempts: int
    shard_id: ShardId

    @classmethod
    def of(cls, number: int) -> Ending:
        """Read the number of a row."""
        rest, attempts = divmod(number, _ATTEMPTS_BASE)
        rest, state = divmod(rest, _STATES_BASE)
        shard_id, code = divmod(rest, _CODES_BASE)
        return cls(_STATES[state], code - 1 if code else None, attempts, ShardId(shard_id))


class ExportRow(NamedTuple):
    """One request with its result, if it has one; ``body`` is the answer as JSON in UTF-8.

    ``reused_from`` names the request whose answer it is, if that is another one: ``WORKLOAD/CUSTOM_ID TIME``, the time being when
    the answer was stored.
    """

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
    body: bytes | None
    reused_from: str | None = None
    facts: AnswerFacts = AnswerFacts()


_OWN_COLUMNS: Final = ExportRow._fields[:-1]
_ROW_COLUMNS: Final = (*_OWN_COLUMNS, *AnswerFacts._fields)


def stream(connection: Connection, workload_id: WorkloadId) -> Generator[ExportRow, None, None]:
    """Stream every request of a workload in input order, in constant memory.

    A caller that stops early must close the stream before the connection. On Postgres the transaction can run no other statement
    until the stream is read to its end.
    """
    with closing(_named_columns(connection, workload_id, _ROW_COLUMNS, blocks_at_once=1)) as parts:
        for columns in parts:
            for row in zip(*columns, strict=True):
                yield ExportRow._make((*row[: len(_OWN_COLUMNS)], AnswerFacts._make(row[len(_OWN_COLUMNS) :])))


def stream_lines(connection: Connection, workload_id: WorkloadId) -> Iterator[list[LineRow]]:
    """Stream ``LINE_COLUMNS`` in blocks; otherwise as ``stream``, in half its time."""
    return _blocks(connection, workload_id, LINE_COLUMNS)


def stream_columns(connection: Connection, workload_id: WorkloadId) -> Iterator[list[Sequence[Any]]]:
    """Stream ``TABLE_COLUMNS`` as columns with the values of some rows each; otherwise as ``stream_lines``."""
    return _named_columns(connection, workload_id, TABLE_COLUMNS, blocks_at_once=_BLOCKS_PER_TABLE_PART)


def of_places(connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]) -> list[ExportRow]:
    """Read some requests as ``stream`` does, in input order."""
    rows = _of_places(connection, workload_id, seqs, _ROW_COLUMNS)
    return [
        ExportRow._make((*row[: len(_OWN_COLUMNS)], AnswerFacts._make(row[len(_OWN_COLUMNS) :])))
        for row in zip(*rows, strict=True)
    ]


def lines_of_places(connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]) -> list[LineRow]:
    """Read ``LINE_COLUMNS`` of some requests, in input order."""
    return list(zip(*_of_places(connection, workload_id, seqs, LINE_COLUMNS), strict=True))


def columns_of_places(connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]) -> list[Sequence[Any]]:
    """Read ``TABLE_COLUMNS`` of some requests as columns, in input order."""
    return _of_places(connection, workload_id, seqs, TABLE_COLUMNS)


def _of_places(
    connection: Connection, workload_id: WorkloadId, seqs: Sequence[int], columns: Sequence[str]
) -> list[Sequence[Any]]:
    places = ", ".join(map(str, map(int, seqs)))
    sql = statement(connection, columns).replace(" ORDER BY", f" AND requests.seq IN ({places}) ORDER BY")
    driver: Any = connection.connection.driver_connection
    with driver_errors(connection, sql), closing(driver.cursor()) as cursor:
        cursor.execute(sql, (workload_id,))
        read: list[Sequence[Any]] = list(zip(*cursor.fetchall(), strict=True)) or [()] * len(columns)
    name_of = names.every(connection).get
    return [
        list(map(name_of, values)) if column in _NAMED else values for column, values in zip(columns, read, strict=True)
    ]


def statement(connection: Connection, columns: Iterable[str] = _ROW_COLUMNS) -> str:
    """Return the SQL of a stream for the connection's database; its one parameter is the workload's id."""
    is_sqlite = connection.dialect.name == "sqlite"
    body, parameter = ("CAST(bodies.body AS BLOB)", "?") if is_sqlite else ("convert_to(bodies.body, 'UTF8')", "%s")
    sources = _SOURCES | {"body": body, "reused_from": reuse.origin(is_sqlite=is_sqlite)}
    read = ", ".join(sources[name] for name in columns)
    return f"SELECT {read} FROM {_TABLES} WHERE requests.workload_id = {parameter} ORDER BY requests.seq"  # noqa: S608 - constants of this file


def _named_columns(
    connection: Connection, workload_id: WorkloadId, columns: Sequence[str], *, blocks_at_once: int
) -> Generator[list[Sequence[Any]], None, None]:
    """Yield columns with names in place of their numbers: a dictionary here takes half the time of a join in the database."""
    name_of = names.every(connection).get
    places = [place for place, column in enumerate(columns) if column in _NAMED]
    with closing(_blocks(connection, workload_id, columns)) as blocks:
        while rows := list(chain.from_iterable(islice(blocks, blocks_at_once))):
            read: list[Sequence[Any]] = list(zip(*rows, strict=True))
            for place in places:
                read[place] = list(map(name_of, read[place]))
            yield read


def _blocks(
    connection: Connection, workload_id: WorkloadId, columns: Iterable[str]
) -> Generator[list[Any], None, None]:
    sql = statement(connection, columns)
    read = _sqlite_blocks if connection.dialect.name == "sqlite" else _postgres_blocks
    with driver_errors(connection, sql):
        yield from read(connection, sql, workload_id)


def _sqlite_blocks(connection: Connection, sql: str, workload_id: WorkloadId) -> Iterator[list[Any]]:
    driver: Any = connection.connection.driver_connection
    # A caller that stops early must not leave a cursor open.
    with closing(driver.cursor()) as cursor:
        cursor.execute(sql, (workload_id,))
        while block := cursor.fetchmany(_ROWS_PER_BLOCK):
            yield block


def _postgres_blocks(connection: Connection, sql: str, workload_id: WorkloadId) -> Iterator[list[Any]]:
    for setting in _NO_DETOURS:
        connection.exec_driver_sql(f"SET LOCAL {setting} = 0")
    dbapi: Any = connection.dialect.dbapi
    driver: Any = connection.connection.driver_connection
    # One statement whose rows arrive while earlier ones are written: with a server-side cursor, client and server would wait for
    # each other. A libpq before 17 returns rows one by one.
    size = _ROWS_PER_MESSAGE if dbapi.capabilities.has_stream_chunked() else 1
    with (
        driver.cursor(binary=True) as cursor,
        closing(cursor.stream(sql, (workload_id,), binary=True, size=size)) as rows,
    ):
        while block := list(islice(rows, _ROWS_PER_BLOCK)):
            yield block
