"""The facts of a workload for its report: numbers that are read from the store once, without their presentation."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from itertools import accumulate
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from batchkit.engine.progress import Progress, read_progress
from batchkit.files import jsonl
from batchkit.models import BatchStatus, ShardState
from batchkit.reports.spending import SAMPLE, Spending, read_spending
from batchkit.store import report_rows, work_time, workloads

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from sqlalchemy.engine import Connection

    from batchkit.engine.runtime import Runner
    from batchkit.models import Workload
    from batchkit.store.report_rows import AttemptReason, Moments, Sampled, ShardRow

#: The largest number of lines in the timeline; more batches share them.
TIMELINE_LINES = 24
_PROGRESS_POINTS = 200
_REASONS = 12
_END_TIMES = ("completed_at", "expired_at", "cancelled_at", "failed_at")
_SIZES = (10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)


@dataclass(frozen=True, slots=True)
class Step:
    """The number of requests that had their result at a time (Unix seconds)."""

    at: float
    succeeded: int
    failed: int


@dataclass(frozen=True, slots=True)
class Stretch:
    """One line of the timeline: a batch, or several neighbours. Times are Unix seconds of our clock.

    For several batches ``submitted_at`` and ``ended_at`` are medians, ``first_at`` and ``last_at`` the earliest and the latest; the end
    of a running batch is the time of reading.
    """

    first_number: int
    last_number: int
    batches: int
    open_batches: int
    first_at: float
    submitted_at: float
    ended_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Expiry:
    """Attempts of shards with one window and one size class: ``lines`` is the upper end of the class."""

    window: str
    lines: int
    shards: int
    attempts: int
    expired: int


@dataclass(slots=True)
class ShardFacts:
    """The facts of all shards together."""

    steps: list[Step] = field(default_factory=list)
    expiry: list[Expiry] = field(default_factory=list)
    durations: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    endpoints: set[str] = field(default_factory=set)

    @property
    def has_recordings(self) -> bool:
        """Return whether some requests are billed by seconds of audio, not by tokens (console.groq.com/docs/speech-to-text)."""
        return any("/audio/" in endpoint for endpoint in self.endpoints)


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """All facts of a workload in a report except its single requests.

    ``attempts`` counts requests by their attempts, of which ``attempts_seen`` were read; ``reasons`` explains attempts without an
    answer, of which ``reasons_seen`` were read. ``worked_seconds`` is the time in which a command worked on it or a batch ran.
    """

    progress: Progress
    shards: ShardFacts
    timeline: list[Stretch]
    attempts: dict[int, int]
    attempts_seen: Sampled
    reasons: list[AttemptReason]
    reasons_seen: Sampled
    spending: Spending
    worked_seconds: float

    @property
    def workload(self) -> Workload:
        """Return the workload as it is stored."""
        return self.progress.workload

    @property
    def ended_at(self) -> float:
        """Return the time when it was finished, or when it was read."""
        last = self.progress.last_merged_at
        return last if self.progress.is_finished and last is not None else self.progress.read_at


class Reading(NamedTuple):
    """How much is read for what has no index.

    Requests are counted whole below ``requests``, else in so many ``ranges``; so many ``attempts`` and ``answers`` are read.
    """

    requests: int = report_rows.WHOLE_BELOW
    ranges: int = report_rows.RANGES
    attempts: int = report_rows.ATTEMPTS_READ
    answers: int = SAMPLE


#: For a file that is kept.
THOROUGH = Reading()


def read_facts(runner: Runner, workload: Workload, *, reading: Reading = THOROUGH) -> WorkloadFacts:
    """Read the facts of a workload in one snapshot of the store."""
    with runner.store.read() as connection:
        return _read(connection, workloads.get(connection, workload.id), runner.clock(), reading)


def _read(connection: Connection, workload: Workload, now: float, reading: Reading) -> WorkloadFacts:
    progress = read_progress(connection, workload, now=now)
    worked_seconds = progress.worked_seconds
    if worked_seconds is None:
        is_driven = bool(progress.runners)
        worked_seconds = work_time.work_seconds(connection, workload.id, until=now, is_driven=is_driven)
    total = progress.counts.total
    attempts, attempts_seen = report_rows.attempts_histogram(
        connection, workload.id, total, whole_below=reading.requests, ranges=reading.ranges
    )
    reasons, reasons_seen = report_rows.attempt_reasons(connection, workload.id, limit=_REASONS, most=reading.attempts)
    return WorkloadFacts(
        progress=progress,
        shards=read_shards(report_rows.shard_rows(connection, workload.id)),
        timeline=timeline(report_rows.moments(connection, workload.id), now=now),
        attempts=attempts,
        attempts_seen=attempts_seen,
        reasons=reasons,
        reasons_seen=reasons_seen,
        spending=read_spending(connection, workload, progress.usage, sample=reading.answers),
        worked_seconds=worked_seconds,
    )


def read_shards(rows: Iterable[ShardRow]) -> ShardFacts:
    """Return the sums over the shards."""
    facts = ShardFacts()
    merged: list[Step] = []
    classes: dict[tuple[str, int], list[int]] = {}
    for row in rows:
        facts.endpoints.add(row.endpoint)
        if row.batch_status is not None:
            facts.statuses[row.batch_status] = facts.statuses.get(row.batch_status, 0) + 1
            seconds = _duration(row.batch_raw)
            if seconds is not None:
                facts.durations.append(seconds)
        if row.state != ShardState.MERGED or row.merged_at is None:
            continue
        merged.append(Step(row.merged_at, row.succeeded, row.failed))
        if row.batch_status != BatchStatus.FAILED:
            counted = classes.setdefault((row.window, _size_class(row.lines)), [0, 0, 0])
            for place, amount in enumerate((1, row.lines, row.expired)):
                counted[place] += amount
    facts.steps = _thinned(_added_up(merged))
    facts.expiry = [Expiry(*key, *counted) for key, counted in sorted(classes.items(), key=_by_window_and_size)]
    facts.durations.sort()
    return facts


def timeline(moments: Sequence[Moments], *, now: float, lines: int = TIMELINE_LINES) -> list[Stretch]:
    """Distribute batches over at most ``lines`` lines, in the order of their shards."""
    size = max(-(-len(moments) // lines), 1)
    return [_stretch(moments[start : start + size], now) for start in range(0, len(moments), size)]


def percentile(ordered: Sequence[float], share: float) -> float:
    """Return the value at or below which a share of the ordered values lies (nearest rank)."""
    return ordered[max(math.ceil(share * len(ordered)) - 1, 0)]


def _stretch(group: Sequence[Moments], now: float) -> Stretch:
    ended = [now if moment.ended_at is None else moment.ended_at for moment in group]
    last = [end if moment.merged_at is None else moment.merged_at for moment, end in zip(group, ended, strict=True)]
    return Stretch(
        first_number=group[0].number,
        last_number=group[-1].number,
        batches=len(group),
        open_batches=sum(moment.ended_at is None for moment in group),
        first_at=min(moment.submitted_at for moment in group),
        submitted_at=median(moment.submitted_at for moment in group),
        ended_at=median(ended),
        last_at=max(last),
    )


def _added_up(merged: list[Step]) -> list[Step]:
    merged.sort(key=lambda step: step.at)
    return list(
        accumulate(merged, lambda sum_, step: Step(step.at, sum_.succeeded + step.succeeded, sum_.failed + step.failed))
    )


def _thinned(steps: list[Step]) -> list[Step]:
    """Drop points that would not be distinguishable; the last one is kept."""
    if len(steps) <= _PROGRESS_POINTS:
        return steps
    every = len(steps) / _PROGRESS_POINTS
    return [steps[int((number + 1) * every) - 1] for number in range(_PROGRESS_POINTS - 1)] + [steps[-1]]


def _duration(raw: str | None) -> float | None:
    """Return how many seconds a batch took by the provider's clock; None if that is unknown, or if it has not ended."""
    batch: Any = jsonl.loads_leniently(raw.encode()) if raw else None
    if not isinstance(batch, dict):
        return None
    created = batch.get("created_at")
    ended = next(
        (batch[name] for name in _END_TIMES if isinstance(batch.get(name), int | float) and batch[name] > 0), None
    )
    if not isinstance(created, int | float) or ended is None or ended < created:
        return None
    return float(ended - created)


def _size_class(lines: int) -> int:
    return next((size for size in _SIZES if lines <= size), _SIZES[-1])


def _by_window_and_size(item: tuple[tuple[str, int], list[int]]) -> tuple[int, str, int]:
    (window, lines), _ = item
    return len(window), window, lines
