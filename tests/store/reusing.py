"""Rows of workloads with reuse: those that bought answers, those that got them, and requests that follow others."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from sqlalchemy import text

from batchkit.models import ShardState
from batchkit.store import reuse, workloads
from batchkit.store.bulk import bulk_for
from batchkit.store.reuse import AnsweredBy
from tests.factories import add_shard, add_workload

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, Workload


def digest(name: str) -> bytes:
    """Return the digest of a question."""
    return blake2b(name.encode(), digest_size=16).digest()


def donor(connection: Connection, name: str = "donor", *, shards: int = 1, lines: int = 3, **columns: Any) -> Workload:
    """Insert a workload with reuse, all of whose questions, ``NAME 0`` and so on, are answered."""
    workload = add_workload(connection, name, reuse="on", **columns)
    for _ in range(shards):
        shard = add_shard(connection, workload, lines=lines, state=ShardState.MERGED)
        note(connection, shard, name)
    return workload


def note(connection: Connection, shard: Shard, name: str) -> None:
    """Note what the requests of a shard ask."""
    query = text("UPDATE requests SET digest = :digest WHERE workload_id = :workload_id AND seq = :seq")
    rows = [
        {"digest": digest(f"{name} {seq}"), "workload_id": shard.workload_id, "seq": seq}
        for seq in range(shard.first_seq, shard.last_seq + 1)
    ]
    connection.execute(query, rows)


def heir(connection: Connection, name: str, questions: Sequence[str]) -> Workload:
    """Insert a workload that has reused the answers of questions, each in the oldest workload that has it."""
    workload = add_workload(connection, name, reuse="on")
    known: dict[bytes, reuse.KnownRequest] = {}
    for found in reuse.find_known(connection, [digest(question) for question in questions]):
        known.setdefault(found.digest, found)
    given = [known[digest(question)] for question in questions]
    bulk_for(connection).add_answered_requests(
        workload.id, [(seq, f"{name}-{seq}", found.shard_id, 0, 9) for seq, found in enumerate(given)]
    )
    pairs = [
        AnsweredBy(seq, found.workload_id, found.seq, found.result_shard_id)
        for seq, found in enumerate(given)
        if found.result_shard_id is not None
    ]
    assert reuse.add_answered(connection, workload.id, pairs) == len(questions)
    workloads.set_values(connection, workload.id, request_count=len(questions), reused_requests=len(questions))
    return workloads.get(connection, workload.id)


def follow(connection: Connection, shard: Shard, count: int, *, first_seq: int) -> None:
    """Insert followers of the requests of a shard, in turn."""
    leaders = range(shard.first_seq, shard.last_seq + 1)
    rows = [
        (seq, f"follower-{seq}", shard.id, 0, 9, leaders[seq % len(leaders)])
        for seq in range(first_seq, first_seq + count)
    ]
    bulk_for(connection).add_followers(shard.workload_id, rows)
    workload = workloads.get(connection, shard.workload_id)
    total = (workload.request_count or 0) + count
    workloads.set_values(connection, workload.id, request_count=total, repeated_requests=count)
