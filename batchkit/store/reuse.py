"""Answers that other requests get, too: finding them by what was asked, giving them, and keeping them when their workload goes.

A request that is sent has a ``digest`` (see ``steps.reuse``) when its workload allows reuse. A request that is not sent has the
result of another one: its row in ``results`` names the body by ``shard_id`` and ``body_seq``, and has no tokens.
"""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import and_, bindparam, exists, func, or_, select, text

from batchkit.models import OutcomeKind, RequestState
from batchkit.store.driver import driver_errors
from batchkit.store.rows import AnswerFacts, ResultRow, fields_of
from batchkit.store.tables import FOLLOWS, attempts, bodies, requests, results, workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection

    from batchkit.models import ShardId, WorkloadId

#: How many digests one statement of SQLite looks up; Postgres takes an array of any length.
_DIGESTS_AT_ONCE = 256
_PAIRS_PER_STATEMENT = (256, 16, 1)

_KNOWN_COLUMNS: Final = (
    "requests.digest, requests.workload_id, requests.seq, requests.shard_id, requests.line_offset,"
    " requests.line_length, results.state, results.shard_id"
)
_OF_REQUEST: Final = "results.workload_id = requests.workload_id AND results.seq = requests.seq"
# LIMIT and OFFSET keep Postgres from joining in another way than by looking up each row: for the thousands of rows of a block it
# would read all of a table that has less than a few millions.
_FIND_IN_POSTGRES: Final = (
    f"SELECT {_KNOWN_COLUMNS} FROM unnest(%s::bytea[]) AS given (digest)"  # noqa: S608 - constants, as below
    " CROSS JOIN LATERAL (SELECT * FROM requests WHERE requests.digest = given.digest OFFSET 0) AS requests"
    f" LEFT JOIN LATERAL (SELECT * FROM results WHERE {_OF_REQUEST} LIMIT 1) AS results ON true"
)
_FIND_IN_SQLITE: Final = (
    f"SELECT {_KNOWN_COLUMNS} FROM requests LEFT JOIN results ON {_OF_REQUEST}"  # noqa: S608 - constants of this file
    f" WHERE requests.digest IN ({', '.join('?' * _DIGESTS_AT_ONCE)})"
)


class KnownRequest(NamedTuple):
    """A request with a certain digest, the place of its line, and the state and the shard of its result, None without one."""

    digest: bytes
    workload_id: WorkloadId
    seq: int
    shard_id: ShardId
    line_offset: int
    line_length: int
    result_state: str | None
    result_shard_id: ShardId | None


class KeptAnswer(NamedTuple):
    """The answer of a request, as JSON, and the shard of its result."""

    workload_id: WorkloadId
    seq: int
    shard_id: ShardId
    body: str


class AnsweredBy(NamedTuple):
    """The request whose answer another one got: (its seq, the workload and seq of the answered one, the shard of its result)."""

    seq: int
    workload_id: WorkloadId
    answered_seq: int
    shard_id: ShardId


def find_known(connection: Connection, digests: Sequence[bytes]) -> Iterator[KnownRequest]:
    """Find the requests with some digests, of all workloads; several may have the same one."""
    if connection.dialect.name != "sqlite":
        yield from _fetch(connection, _FIND_IN_POSTGRES, (list(digests),))
        return
    # Neighbours in the index are looked up together.
    ordered = sorted(digests)
    for start in range(0, len(ordered), _DIGESTS_AT_ONCE):
        some = ordered[start : start + _DIGESTS_AT_ONCE]
        some += some[-1:] * (_DIGESTS_AT_ONCE - len(some))
        yield from _fetch(connection, _FIND_IN_SQLITE, tuple(some))


def _fetch(connection: Connection, sql: str, values: tuple[Any, ...]) -> list[KnownRequest]:
    cursor: Any = connection.exec_driver_sql(sql, values).cursor
    with driver_errors(connection, sql):
        return list(map(KnownRequest._make, cursor.fetchall()))


def kept_answers(connection: Connection, found: Sequence[KnownRequest]) -> list[KeptAnswer]:
    """Read the answers of a few requests: those of successes, and those that the rules of their workload rejected."""
    is_rejected = exists().where(
        attempts.c.shard_id == results.c.shard_id,
        attempts.c.seq == bodies.c.seq,
        attempts.c.kind == OutcomeKind.INVALID.value,
    )
    by_workload: dict[WorkloadId, list[int]] = {}
    for known in found:
        by_workload.setdefault(known.workload_id, []).append(known.seq)
    answers: list[KeptAnswer] = []
    for workload_id, seqs in by_workload.items():
        query = (
            select(results.c.workload_id, results.c.seq, results.c.shard_id, bodies.c.body)
            .join(bodies, IS_ANSWER)
            .where(
                results.c.workload_id == workload_id,
                results.c.seq.in_(seqs),
                or_(results.c.state == RequestState.SUCCEEDED.value, is_rejected),
            )
        )
        answers += map(KeptAnswer._make, connection.execute(query))
    return answers


#: The body of a result.
IS_ANSWER: ColumnElement[bool] = and_(
    bodies.c.shard_id == results.c.shard_id, bodies.c.seq == func.coalesce(results.c.body_seq, results.c.seq)
)


def origin(*, is_sqlite: bool) -> str:
    """Return SQL for the name of the request whose answer a row of ``results`` has: ``WORKLOAD/CUSTOM_ID TIME``; NULL for its own."""
    time = (
        "strftime('%Y-%m-%dT%H:%M:%SZ', {}, 'unixepoch')"
        if is_sqlite
        else "to_char(to_timestamp({}) AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
    )
    return (
        "CASE WHEN results.body_seq IS NOT NULL THEN coalesce("  # noqa: S608 - constants
        "(SELECT origins.name || '/' || origin.custom_id || ' ' ||"
        f" coalesce({time.format('answered.merged_at')}, '') FROM shards AS answered"
        " JOIN workloads AS origins ON origins.id = answered.workload_id"
        " JOIN requests AS origin ON origin.workload_id = answered.workload_id AND origin.seq = results.body_seq"
        " WHERE answered.id = results.shard_id),"
        f" (SELECT cleaned.workload || '/' || cleaned.custom_id || ' ' || coalesce({time.format('cleaned.answered_at')}, '')"
        " FROM cleaned_answers AS cleaned WHERE cleaned.shard_id = results.shard_id AND cleaned.seq = results.body_seq)) END"
    )


def hold_workloads(connection: Connection, workload_ids: Sequence[WorkloadId]) -> None:
    """Keep workloads from being cleaned until the transaction ends; other splits and leases do not wait for it."""
    query = select(workloads.c.id).where(workloads.c.id.in_(sorted(workload_ids))).order_by(workloads.c.id)
    connection.execute(query.with_for_update(read=True, key_share=True)).all()


def add_answered(connection: Connection, workload_id: WorkloadId, pairs: Sequence[AnsweredBy]) -> int:
    """Copy the answers of others to requests of a workload, as successes; return how many got one.

    Fewer than ``pairs`` when an answered request is gone, or has another result by now.
    """
    values, columns = _result_of("answered", own_state=False)
    names = ", ".join(columns)
    selected = ", ".join(values)
    if connection.dialect.name != "sqlite":
        sql = (
            f"INSERT INTO results (workload_id, seq, {names}) SELECT %s, given.seq, {selected}"  # noqa: S608 - names of our columns
            " FROM unnest(%s::bigint[], %s::bigint[], %s::bigint[], %s::bigint[])"
            " AS given (seq, workload_id, answered_seq, shard_id) CROSS JOIN LATERAL (SELECT * FROM results"
            " WHERE results.workload_id = given.workload_id AND results.seq = given.answered_seq"
            " AND results.shard_id = given.shard_id LIMIT 1) AS answered"
        )
        given = tuple(map(list, zip(*pairs, strict=True)))
        return connection.exec_driver_sql(sql, (workload_id, *given)).rowcount if pairs else 0
    added = start = 0
    for size in _PAIRS_PER_STATEMENT:
        sql = (
            f"INSERT INTO results (workload_id, seq, {names}) SELECT ?, given.column1, {selected}"  # noqa: S608 - as above
            f" FROM (VALUES {', '.join(['(?, ?, ?, ?)'] * size)}) AS given CROSS JOIN results AS answered"
            " WHERE answered.workload_id = given.column2 AND answered.seq = given.column3"
            " AND answered.shard_id = given.column4"
        )
        while len(pairs) - start >= size:
            values_of_pairs: chain[Any] = chain.from_iterable(pairs[start : start + size])
            added += connection.exec_driver_sql(sql, (workload_id, *values_of_pairs)).rowcount
            start += size
    return added


def _result_of(source: str, *, own_state: bool) -> tuple[list[str], list[str]]:
    """Return what a result that is a copy of ``source`` has, as SQL, and the columns of it.

    Without ``own_state`` it is a success, whatever the rules of the other workload said of the answer.
    """
    values = {field.name: f"{source}.{field.name}" for field in fields_of(ResultRow) if not field.kind.is_key}
    values |= dict.fromkeys((name for name in AnswerFacts._fields if name.endswith("_tokens")), "0")
    values["body_seq"] = f"coalesce({source}.body_seq, {source}.seq)"
    if not own_state:
        values |= {"state": f"'{RequestState.SUCCEEDED.value}'", "error_code": "NULL", "error_message": "NULL"}
    return list(values.values()), list(values)


def settle_followers(
    connection: Connection, workload_id: WorkloadId, *, first_seq: int | None = None, last_seq: int | None = None
) -> int:
    """Copy the results of decided requests to those that follow them; return how many.

    ``first_seq`` and ``last_seq`` limit the requests that are followed. Whatever brings requests into a final state calls this in
    the same transaction.
    """
    within = "" if first_seq is None else " AND requests.leader_seq BETWEEN :first_seq AND :last_seq"
    waiting = (
        "requests.workload_id = :workload_id AND requests.state = 'in_flight' AND requests.leader_seq IS NOT NULL"
        f"{within}"
    )
    bound = {"workload_id": workload_id} | ({} if first_seq is None else {"first_seq": first_seq, "last_seq": last_seq})
    values, columns = _result_of("results", own_state=True)
    connection.execute(
        text(
            f"INSERT INTO results (workload_id, seq, {', '.join(columns)})"  # noqa: S608 - names of our columns
            f" SELECT requests.workload_id, requests.seq, {', '.join(values)} FROM requests"
            " JOIN results ON results.workload_id = requests.workload_id AND results.seq = requests.leader_seq"
            f" WHERE {waiting}"
        ),
        bound,
    )
    leader = "FROM requests AS leader WHERE leader.workload_id = :workload_id AND leader.seq = requests.leader_seq"
    return connection.execute(
        text(
            f"UPDATE requests SET state = (SELECT leader.state {leader}) WHERE {waiting} AND EXISTS"  # noqa: S608 - as above
            f" (SELECT 1 {leader} AND leader.state IN ('succeeded', 'failed', 'cancelled'))"
        ),
        bound,
    ).rowcount


def reopen_followers(connection: Connection, workload_id: WorkloadId) -> None:
    """Let pending followers wait for the requests that they follow: only those are sent."""
    connection.execute(
        text(
            "UPDATE requests SET state = 'in_flight' WHERE workload_id = :workload_id AND state = 'pending'"
            " AND leader_seq IS NOT NULL"
        ),
        {"workload_id": workload_id},
    )


_WAITING_FOLLOWERS = select(func.count()).where(
    requests.c.workload_id == bindparam("workload_id"), requests.c.state == RequestState.IN_FLIGHT.value, FOLLOWS
)


def waiting_followers(connection: Connection, workload_id: WorkloadId) -> int:
    """Count the followers that wait for the results of other requests."""
    return int(connection.execute(_WAITING_FOLLOWERS, {"workload_id": workload_id}).scalar_one())


def borrowed(connection: Connection, workload_id: WorkloadId, *, like: str) -> dict[ShardId, str]:
    """Return one body of each cleaned shard of which this workload has reused an answer; ``like`` is a pattern of the bodies."""
    rows = connection.execute(text(_BORROWED), {"workload_id": workload_id, "like": like})
    return {row.shard_id: row.body for row in rows}


def shards_with_answers(connection: Connection, shard_ids: Iterable[ShardId]) -> set[ShardId]:
    """Return which of some shards have a body, be it of a workload that was removed."""
    found: set[ShardId] = set()
    for shard_id in shard_ids:
        query = select(bodies.c.seq).where(bodies.c.shard_id == shard_id).limit(1)
        if connection.execute(query).first() is not None:
            found.add(shard_id)
    return found


def hand_on(connection: Connection, workload_id: WorkloadId) -> None:
    """Prepare the removal of a workload: answers of it that other workloads have reused stay, and stay to be found.

    Its other answers are deleted. Workloads that are removed at the same time hand on one after the other.
    """
    if connection.dialect.name != "sqlite":
        # Two of them would each keep the answers that only the other one still has.
        connection.execute(text("LOCK TABLE cleaned_answers IN SHARE ROW EXCLUSIVE MODE"))
    for statement in (_DIGESTS_OF_HEIRS, _UNUSED_BODIES, _ORIGINS, _UNUSED_KEPT_BODIES, _UNUSED_ORIGINS):
        connection.execute(text(statement), {"workload_id": workload_id})


_BORROWED: Final = (
    "SELECT mine.shard_id, max(bodies.body) AS body FROM results AS mine"
    " JOIN cleaned_answers AS kept ON kept.shard_id = mine.shard_id AND kept.seq = mine.body_seq"
    " JOIN bodies ON bodies.shard_id = mine.shard_id AND bodies.seq = mine.body_seq"
    " WHERE mine.workload_id = :workload_id AND mine.body_seq IS NOT NULL AND bodies.body LIKE :like"
    " GROUP BY mine.shard_id"
)
_OF_OTHERS: Final = "{0}.body_seq IS NOT NULL AND {0}.workload_id <> :workload_id"
#: Of those who have reused an answer, one request in the oldest workload takes over what was asked: an answer that thousands have
#: reused is found once. The answer is in a shard of the workload, perhaps one from before its last attempt, or it was handed on.
_DIGESTS_OF_HEIRS: Final = (
    "UPDATE requests SET digest = given.digest FROM ("  # noqa: S608 - constants, as all below
    "SELECT heirs.workload_id, heirs.seq, heirs.digest, row_number() OVER"
    " (PARTITION BY heirs.shard_id, heirs.body_seq ORDER BY heirs.workload_id, heirs.seq) AS place FROM ("
    "SELECT heir.workload_id, heir.seq, heir.shard_id, heir.body_seq, own.digest FROM shards"
    f" JOIN results AS heir ON heir.shard_id = shards.id AND {_OF_OTHERS.format('heir')}"
    " JOIN requests AS own ON own.workload_id = shards.workload_id AND own.seq = heir.body_seq"
    " WHERE shards.workload_id = :workload_id AND own.digest IS NOT NULL"
    " UNION ALL SELECT heir.workload_id, heir.seq, heir.shard_id, heir.body_seq, own.digest FROM requests AS own"
    " JOIN results AS mine ON mine.workload_id = own.workload_id AND mine.seq = own.seq"
    " JOIN results AS heir ON heir.shard_id = mine.shard_id AND heir.body_seq = mine.body_seq"
    f" AND {_OF_OTHERS.format('heir')}"
    " WHERE own.workload_id = :workload_id AND own.digest IS NOT NULL AND mine.body_seq IS NOT NULL"
    ") AS heirs) AS given WHERE given.place = 1 AND requests.workload_id = given.workload_id AND requests.seq = given.seq"
)
_NOT_OF_OTHERS: Final = (
    "NOT EXISTS (SELECT 1 FROM results WHERE results.shard_id = bodies.shard_id AND results.body_seq = bodies.seq"  # noqa: S608 - constants
    f" AND {_OF_OTHERS.format('results')})"
)
_UNUSED_BODIES: Final = (
    "DELETE FROM bodies WHERE shard_id IN (SELECT id FROM shards WHERE workload_id = :workload_id)"  # noqa: S608 - constants
    f" AND {_NOT_OF_OTHERS}"
)
#: The answers that are left, and where they come from.
_ORIGINS: Final = (
    "INSERT INTO cleaned_answers (shard_id, seq, custom_id, workload, answered_at)"
    " SELECT bodies.shard_id, bodies.seq, requests.custom_id, workloads.name, shards.merged_at FROM shards"
    " JOIN workloads ON workloads.id = shards.workload_id"
    " JOIN bodies ON bodies.shard_id = shards.id"
    " JOIN requests ON requests.workload_id = shards.workload_id AND requests.seq = bodies.seq"
    " WHERE shards.workload_id = :workload_id"
)
#: Of workloads that were cleaned before, only what this one has reused: others may have millions of such answers.
_REUSED_HERE: Final = (
    "(shard_id, seq) IN (SELECT mine.shard_id, mine.body_seq FROM results AS mine"
    " JOIN cleaned_answers AS kept ON kept.shard_id = mine.shard_id AND kept.seq = mine.body_seq"
    " WHERE mine.workload_id = :workload_id AND mine.body_seq IS NOT NULL)"
)
_UNUSED_ORIGINS: Final = (
    f"DELETE FROM cleaned_answers WHERE {_REUSED_HERE} AND {_NOT_OF_OTHERS.replace('bodies.', 'cleaned_answers.')}"  # noqa: S608 - constants
)
_UNUSED_KEPT_BODIES: Final = f"DELETE FROM bodies WHERE {_REUSED_HERE} AND {_NOT_OF_OTHERS}"  # noqa: S608 - constants of this file
