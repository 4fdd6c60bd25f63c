"""The requests whose lines the errors of a batch name."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from batchkit.files.spool import disk_errors
from batchkit.store import requests

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy.engine import Connection

    from batchkit.models import Batch, BatchProblem, Shard
    from batchkit.steps.context import StepContext
    from batchkit.store.requests import ShardRequest


class NamedRequest(NamedTuple):
    """A request, its place among those of its shard that are in flight, from 0, and what its batch says about its line."""

    place: int
    request: ShardRequest
    problem: BatchProblem


def named_requests(connection: Connection, context: StepContext, shard: Shard, batch: Batch) -> list[NamedRequest]:
    """Return the requests in flight whose lines the batch's errors name, in the order of the lines. Raises ``SpoolError``."""
    problems = {problem.line: problem for problem in batch.problems if problem.line is not None}
    if not problems:
        return []
    found = requests.of_shard(connection, shard)
    if not shard.is_adopted:
        return [
            NamedRequest(line - 1, found[line - 1], problem)
            for line, problem in sorted(problems.items())
            if 0 < line <= len(found)
        ]
    if shard.path is None:
        return []
    # In an adopted file a line need not be a request that is in flight here.
    line_at = _offsets(context, shard, problems)
    return [
        NamedRequest(place, request, problems[line_at[request.line_offset]])
        for place, request in enumerate(found)
        if request.line_offset in line_at
    ]


def _offsets(context: StepContext, shard: Shard, lines: Collection[int]) -> dict[int, int]:
    """Return the numbers of some lines of the shard's file, from 1, by where they begin in bytes."""
    offset, found = 0, {}
    with context.spool.open_shard(shard) as handle, disk_errors("read", handle.name):
        for number, line in enumerate(islice(handle, max(lines)), 1):
            if number in lines:
                found[offset] = number
            offset += len(line)
    return found
