"""Requests that several adopted batches have: the same request, sent more than once by something else.

A request is in flight in one shard at a time, and while one of its batches is not merged, it is in flight in such a batch: the batch
whose files are merged first takes it over, and hands it over to another one if it has no success for it. So a success wins, whatever
the order of the merges. All of this happens in the transaction of the merge, which has locked the workload.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, delete, func, insert, select, update

from batchkit.models import RequestState, Shard, ShardId, ShardState
from batchkit.store import shards as shard_rows
from batchkit.store.tables import FAILED, UNFINISHED, placements, requests, results, shards

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement
    from sqlalchemy.engine import Connection


class Placement(NamedTuple):
    """The line of a request in the file of one of its shards; offset and length are in bytes, the length without the newline."""

    shard_id: ShardId
    seq: int
    line_offset: int
    line_length: int


def add(connection: Connection, placed: Sequence[Placement]) -> None:
    """Insert placements."""
    if placed:
        connection.execute(insert(placements), [placement._asdict() for placement in placed])


def known_ids(connection: Connection, shard: Shard) -> frozenset[str]:
    """Return the custom_ids of requests that this shard has a line for and other batches have, too."""
    query = (
        select(requests.c.custom_id)
        .join(placements, placements.c.seq == requests.c.seq)
        .where(requests.c.workload_id == shard.workload_id, placements.c.shard_id == shard.id)
    )
    return frozenset(connection.scalars(query))


def take_over(connection: Connection, shard: Shard) -> None:
    """Move the requests that are in flight in other shards, and have a line in this one, to this one: it is about to be merged."""
    is_elsewhere = and_(requests.c.shard_id != shard.id, requests.c.state == RequestState.IN_FLIGHT.value)
    condition = _placed(shard, shard.id, is_elsewhere)
    query = select(requests.c.shard_id, func.count()).where(condition).group_by(requests.c.shard_id)
    for holder, count in connection.execute(query).all():
        shard_rows.add_lines(connection, ShardId(holder), -count)
        shard_rows.add_lines(connection, shard.id, count)
    _move(connection, shard.id, condition)


def hand_over(connection: Connection, shard: Shard) -> int:
    """Put the requests that the merge of a shard left without a success in flight in a batch that is not merged yet.

    Returns how many of them had failed.
    """
    query = (
        select(shards.c.id)
        .where(
            shards.c.workload_id == shard.workload_id,
            shards.c.is_adopted,
            shards.c.state.in_([ShardState.SUBMITTED.value, ShardState.ENDED.value]),
            shards.c.id != shard.id,
        )
        .order_by(shards.c.number)
    )
    failed = 0
    for other in connection.scalars(query).all():
        condition = _placed(shard, other, and_(requests.c.shard_id == shard.id, UNFINISHED))
        chosen = select(requests.c.seq).where(condition)
        failed += connection.execute(
            delete(results).where(results.c.workload_id == shard.workload_id, FAILED, results.c.seq.in_(chosen))
        ).rowcount
        moved = _move(connection, other, condition)
        shard_rows.add_lines(connection, shard.id, -moved)
        shard_rows.add_lines(connection, other, moved)
    return failed


def _placed(shard: Shard, holder: ShardId, condition: ColumnElement[bool]) -> ColumnElement[bool]:
    """Return ``condition`` for the requests of the workload that have a line in the file of ``holder``, joined with that line."""
    return and_(
        requests.c.workload_id == shard.workload_id,
        requests.c.seq == placements.c.seq,
        placements.c.shard_id == holder,
        condition,
    )


def _move(connection: Connection, target: ShardId, condition: ColumnElement[bool]) -> int:
    return connection.execute(
        update(requests)
        .where(condition)
        .values(
            state=RequestState.IN_FLIGHT.value,
            shard_id=target,
            line_offset=placements.c.line_offset,
            line_length=placements.c.line_length,
        )
    ).rowcount
