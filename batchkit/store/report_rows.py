"""Queries of reports: shards with their batches, attempts, and a limited selection of requests.

No query reads all requests or all answers of a large workload: such queries read a sample and return its size. All queries use
the primary keys and the partial indexes.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import and_, bindparam, func, select

from batchkit.models import RequestState, ShardId, ShardState
from batchkit.store.attempts import spent_on_bad_answers
from batchkit.store.reuse import IS_ANSWER
from batchkit.store.rows import columns_for
from batchkit.store.tables import FAILED, UNFINISHED, attempts, batches, bodies, events, requests, results, shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import BindParameter
    from sqlalchemy.engine import Connection

    from batchkit.models import WorkloadId

#: Workloads up to this size are counted whole when a count has no index: one second for a million rows.
WHOLE_BELOW = 1_000_000
#: In larger ones this many ranges are read, spread evenly over the input.
RANGES = 200
_ROWS_PER_RANGE = 500
#: About this many attempts without an answer are read, those of the latest shards.
ATTEMPTS_READ = 200_000
#: How many answers are read at a time: each may have a megabyte.
_ANSWERS_PER_READ = 16

#: The fractions of multiples of the golden ratio never repeat (Knuth, TAOCP 3, 6.4).
_SCATTER, _SCATTER_BASE = 2_654_435_769, 1 << 32

_MOMENTS = ("submitting -> submitted", "submitted -> ended", "ended -> merged")


class ShardRow(NamedTuple):
    """A shard with or without a batch, and the counts of its merge.

    ``batch_status`` and ``batch_raw`` (the provider's object as JSON) are None before there is a batch.
    """

    number: int
    state: str
    endpoint: str
    window: str
    lines: int
    succeeded: int
    failed: int
    expired: int
    merged_at: float | None
    batch_status: str | None
    batch_raw: str | None


class Moments(NamedTuple):
    """When a shard was submitted, seen as ended, and merged: Unix seconds of our own clock, None for not yet."""

    number: int
    submitted_at: float
    ended_at: float | None
    merged_at: float | None


class AttemptReason(NamedTuple):
    """Why attempts returned no usable answer; ``kind`` is an ``OutcomeKind``."""

    kind: str
    code: str | None
    attempts: int
    sample: str | None


class Sampled(NamedTuple):
    """The size of a sample, and of the whole."""

    counted: int
    total: int

    @property
    def is_whole(self) -> bool:
        """Return whether the sample is the whole."""
        return self.counted >= self.total


class ReportRow(NamedTuple):
    """One request with the place of its line, and its result if it has one; ``body`` is the answer as JSON in UTF-8.

    ``body_seq`` is set if it is the answer to another request.
    """

    seq: int
    custom_id: str
    state: str
    attempts: int
    expiries: int
    shard_id: ShardId
    line_offset: int
    line_length: int
    status_code: int | None
    error_code: str | None
    error_message: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    body_seq: int | None
    body: bytes | None


class AnswerSample(NamedTuple):
    """The tokens and the body of one answer."""

    prompt_tokens: int
    completion_tokens: int
    body: bytes


def shard_rows(connection: Connection, workload_id: WorkloadId) -> Iterator[ShardRow]:
    """Read the workload's shards by number, except withdrawn ones."""
    columns = columns_for(
        ShardRow,
        shards,
        window=shards.c.completion_window,
        lines=shards.c.line_count,
        batch_status=batches.c.status,
        batch_raw=batches.c.raw,
    )
    query = (
        select(*columns)
        .outerjoin(batches, batches.c.shard_id == shards.c.id)
        .where(shards.c.workload_id == workload_id, shards.c.state != "withdrawn")
        .order_by(shards.c.number)
    )
    return map(ShardRow._make, connection.execute(query))


def moments(connection: Connection, workload_id: WorkloadId) -> list[Moments]:
    """Read from the journal when each shard was submitted, seen as ended and merged, by number."""
    query = (
        select(shards.c.number, events.c.kind, func.max(events.c.at))
        .join(shards, shards.c.id == events.c.shard_id)
        .where(events.c.workload_id == workload_id, events.c.kind.in_(_MOMENTS))
        .group_by(shards.c.number, events.c.kind)
    )
    found: dict[int, dict[str, float]] = {}
    for number, kind, at in connection.execute(query):
        found.setdefault(number, {})[kind] = at
    submitted, ended, merged = _MOMENTS
    return [
        Moments(number, at[submitted], at.get(ended), at.get(merged))
        for number, at in sorted(found.items())
        if submitted in at
    ]


def attempt_reasons(
    connection: Connection, workload_id: WorkloadId, *, limit: int, most: int = ATTEMPTS_READ
) -> tuple[list[AttemptReason], Sampled]:
    """Group the attempts without an answer by outcome and code, most frequent first.

    Also returns how many were read, and how many there are by the counts of the shards. ``sample`` is one of the provider's
    messages.
    """
    shard_ids, total = _late_shards(connection, workload_id, most)
    among = attempts.c.shard_id.in_(_written(shard_ids))
    count = func.count()
    groups = (
        select(attempts.c.kind, attempts.c.error_code, count, func.min(attempts.c.error_message))
        .where(among)
        .group_by(attempts.c.kind, attempts.c.error_code)
        .order_by(count.desc(), attempts.c.kind, attempts.c.error_code)
        .limit(limit)
    )
    counted = int(connection.execute(select(count).select_from(attempts).where(among)).scalar_one())
    return [AttemptReason(*row) for row in connection.execute(groups)], Sampled(counted, max(total, counted))


def attempts_histogram(
    connection: Connection,
    workload_id: WorkloadId,
    request_count: int,
    *,
    whole_below: int = WHOLE_BELOW,
    ranges: int = RANGES,
) -> tuple[dict[int, int], Sampled]:
    """Count requests by their number of attempts: all of a workload up to ``whole_below``, else those in evenly spread ``ranges``."""
    counts: dict[int, int] = {}
    for first, last in _ranges(request_count, whole_below, ranges):
        query = (
            select(requests.c.attempts, func.count())
            .where(requests.c.workload_id == workload_id, requests.c.seq.between(first, last))
            .group_by(requests.c.attempts)
        )
        for attempts_made, count in connection.execute(query):
            counts[attempts_made] = counts.get(attempts_made, 0) + count
    return dict(sorted(counts.items())), Sampled(sum(counts.values()), request_count)


def tokens_round_robin(
    connection: Connection, workload_id: WorkloadId, request_count: int, *, groups: int, repeats: int
) -> list[tuple[int, int]] | None:
    """Sum the tokens of ``groups`` of requests that alternate in the input, ``repeats`` in a row, with those of bad answers.

    Returns (prompt tokens, completion tokens) for each group; None for a workload that is too large to be read whole.
    """
    if request_count > WHOLE_BELOW:
        return None
    group = (results.c.seq // repeats) % groups
    query = (
        select(group, func.sum(results.c.prompt_tokens), func.sum(results.c.completion_tokens))
        .where(
            results.c.workload_id == workload_id,
            results.c.seq.between(0, request_count),
            # The tokens of a failed request are in its attempts.
            results.c.state == RequestState.SUCCEEDED.value,
        )
        .group_by(group)
    )
    found = [(0, 0)] * groups
    for number, into, out in connection.execute(query):
        found[number] = (int(into or 0), int(out or 0))
    for seq, into, out in spent_on_bad_answers(connection, workload_id):
        before = found[seq // repeats % groups]
        found[seq // repeats % groups] = (before[0] + into, before[1] + out)
    return found


def worst_seqs(
    connection: Connection, workload_id: WorkloadId, *, limit: int, most_attempts: int = ATTEMPTS_READ
) -> list[int]:
    """Return up to ``limit`` requests, the worst first.

    First failed ones, some of each reason if there are too many; then cancelled ones; then pending ones; then those with the
    most attempts among the latest shards; then the first ones of the input.
    """
    chosen: dict[int, None] = {}
    chosen.update(dict.fromkeys(_failed_seqs(connection, workload_id, limit)))
    for state in (RequestState.CANCELLED, RequestState.PENDING):
        in_state = and_(requests.c.workload_id == workload_id, requests.c.state == state.value, UNFINISHED)
        query = select(requests.c.seq).where(in_state).order_by(requests.c.seq).limit(limit)
        chosen.update(dict.fromkeys(connection.scalars(query)))
    shard_ids, _ = _late_shards(connection, workload_id, most_attempts)
    most_sent = (
        select(attempts.c.seq)
        .where(attempts.c.shard_id.in_(_written(shard_ids)))
        .group_by(attempts.c.seq)
        .order_by(func.max(attempts.c.attempt).desc(), attempts.c.seq)
        .limit(limit)
    )
    chosen.update(dict.fromkeys(connection.scalars(most_sent)))
    first = select(requests.c.seq).where(requests.c.workload_id == workload_id, requests.c.seq.between(0, limit - 1))
    chosen.update(dict.fromkeys(connection.scalars(first.order_by(requests.c.seq))))
    return list(chosen)[:limit]


def report_rows(connection: Connection, workload_id: WorkloadId, seqs: Sequence[int]) -> Iterator[ReportRow]:
    """Read requests with their results and answers, in the order of ``seqs``, a few at a time."""
    columns = columns_for(ReportRow, requests, results, bodies)
    for start in range(0, len(seqs), _ANSWERS_PER_READ):
        some = seqs[start : start + _ANSWERS_PER_READ]
        query = (
            select(*columns)
            .outerjoin(results, and_(results.c.workload_id == workload_id, results.c.seq == requests.c.seq))
            .outerjoin(bodies, IS_ANSWER)
            .where(requests.c.workload_id == workload_id, requests.c.seq.in_(some))
        )
        found = {row.seq: row for row in connection.execute(query)}
        for seq in some:
            row = found.pop(seq, None)
            if row is not None:
                yield ReportRow._make(row)._replace(body=None if row.body is None else row.body.encode())


def answer_sample(
    connection: Connection, workload_id: WorkloadId, request_count: int, *, size: int
) -> Iterator[AnswerSample]:
    """Read the answers of up to ``size`` successful requests, spread over the whole input, a few at a time."""
    places = spread_places(request_count, size)
    for start in range(0, len(places), _ANSWERS_PER_READ):
        some = places[start : start + _ANSWERS_PER_READ]
        query = (
            select(results.c.prompt_tokens, results.c.completion_tokens, bodies.c.body)
            .join(bodies, IS_ANSWER)
            .where(
                results.c.workload_id == workload_id,
                results.c.seq.in_(some),
                results.c.state == RequestState.SUCCEEDED.value,
            )
            .order_by(results.c.seq)
        )
        for into, out, body in connection.execute(query):
            yield AnswerSample(into or 0, out or 0, body.encode())


def spread_places(count: int, size: int) -> list[int]:
    """Return ``size`` of the places below ``count``, always the same ones: one from each stretch, but not always its first.

    Inputs repeat, for example when models alternate: every hundredth place might hold one model only.
    """
    if count <= size:
        return list(range(count))
    edges = [count * number // size for number in range(size + 1)]
    return [
        start + (number * _SCATTER % _SCATTER_BASE) * (end - start) // _SCATTER_BASE
        for number, (start, end) in enumerate(pairwise(edges))
    ]


def _late_shards(connection: Connection, workload_id: WorkloadId, most: int) -> tuple[tuple[ShardId, ...], int]:
    """Return the latest merged shards with up to ``most`` attempts without an answer, and the number of such attempts of all shards.

    Requests with many attempts are in the latest shards. At least one shard is returned, if there is one.
    """
    lost = shards.c.line_count - shards.c.succeeded
    query = (
        select(shards.c.id, lost)
        .where(shards.c.workload_id == workload_id, shards.c.state == ShardState.MERGED.value, lost > 0)
        .order_by(shards.c.id.desc())
    )
    chosen: list[ShardId] = []
    total = 0
    for shard_id, unanswered in connection.execute(query):
        if not chosen or total + unanswered <= most:
            chosen.append(shard_id)
        total += unanswered
    return tuple(chosen), total


def _written(shard_ids: tuple[ShardId, ...]) -> BindParameter[tuple[ShardId, ...]]:
    """Return a parameter that is written into the statement: a database takes only some ten thousand bound values."""
    return bindparam("among", shard_ids, expanding=True, literal_execute=True)


def _failed_seqs(connection: Connection, workload_id: WorkloadId, limit: int) -> list[int]:
    """Return failed requests in input order; if there are too many, equally many of each frequent reason."""
    failed = and_(results.c.workload_id == workload_id, FAILED)
    codes = connection.execute(
        select(results.c.error_code, func.count()).where(failed).group_by(results.c.error_code)
    ).all()
    share = limit if sum(count for _, count in codes) <= limit else max(limit // max(len(codes), 1), 1)
    found: list[int] = []
    for code, _ in sorted(codes, key=lambda group: (-group[1], group[0] or "")):
        is_code = results.c.error_code.is_(None) if code is None else results.c.error_code == code
        query = select(results.c.seq).where(failed, is_code).order_by(results.c.seq).limit(share)
        found += connection.scalars(query)
        if len(found) >= limit:
            break
    return sorted(found)[:limit]


def _ranges(request_count: int, whole_below: int, ranges: int) -> Iterator[tuple[int, int]]:
    """Yield the ranges of seq that are read, both ends included."""
    if request_count <= whole_below:
        yield 0, max(request_count - 1, 0)
        return
    step = request_count // ranges
    for number in range(ranges):
        yield number * step, number * step + min(_ROWS_PER_RANGE, step) - 1
