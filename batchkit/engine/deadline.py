"""Decisions about a deadline: windows, lanes, the cutoff, and what is told of it. Pure: the time is passed in, in Unix seconds.

A batch is promised by the end of its window, which is a day away at least, and costs about half. A single call is answered at once. So
requests wait in batches up to the *cutoff*: the last moment at which everything that is missing can still be answered by single calls.

=================================  =============================================================================================
what is known of the sync lane     the cutoff: so long before the deadline
=================================  =============================================================================================
it can carry what is missing       1.5 times what that takes, and the time that a cancel and a poll take
it can only just carry it          now
it cannot carry what is missing    a quarter of the time from its beginning to the deadline, the cancel and the poll
nothing                            the same
=================================  =============================================================================================
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from batchkit import formatting
from batchkit.models import Lane
from batchkit.sharding import hours_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchkit.models import BatchId, Workload
    from batchkit.sharding import Windows

#: The sync lane is expected to be slower than it should be.
_SAFETY = 1.5
#: The share of the time that is kept for the sync lane when its rate says nothing about it.
_KEPT_SHARE = 0.25
_SECONDS_PER_HOUR = 3_600


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """A deadline ``at`` that was given at ``began_at``, and what it takes to keep it.

    ``rate`` is how many requests per second the sync lane answers, None when nothing is known of it. ``cancel_seconds`` is how long a
    batch may take to stop, ``poll_seconds`` how long its end may stay unseen.
    """

    at: float
    began_at: float
    rate: float | None
    cancel_seconds: float
    poll_seconds: float

    @property
    def switch_seconds(self) -> float:
        """How long a request may take from the decision to leave its batch until it can be sent again."""
        return self.cancel_seconds + self.poll_seconds

    def drain_seconds(self, missing: int) -> float | None:
        """Return how long the sync lane takes for so many requests; None when nothing is known of its rate."""
        return None if not self.rate else missing / self.rate

    def cutoff(self, missing: int, now: float) -> float:
        """Return when so many ``missing`` requests have to leave their batches; ``now`` or earlier: at once."""
        drain = self.drain_seconds(missing)
        if drain is None or drain > self.at - now:
            return self.at - _KEPT_SHARE * (self.at - self.began_at) - self.switch_seconds
        return self.at - _SAFETY * drain - self.switch_seconds

    def window(self, windows: Windows, missing: int, now: float) -> str:
        """Return the longest of the provider's windows that ends before the cutoff, else the shortest one.

        Those are the shortest one, its doubles, and the longest one: not every number of hours between them may be accepted.
        """
        left = self.cutoff(missing, now) - now
        found = window = windows.shortest
        while hours_of(window) * _SECONDS_PER_HOUR <= left:
            found = window
            window = windows.longer(window, windows.longest)
            if window == found:
                break
        return found

    def lane(self, missing: int, now: float) -> Lane:
        """Return the lane to begin with: a batch needs at least as much time as stopping it takes."""
        return Lane.SYNC if now + self.switch_seconds > self.cutoff(missing, now) else Lane.BATCH

    def to_stop(self, running: Mapping[BatchId, int], waiting: int) -> list[BatchId]:
        """Return which of the ``running`` batches to stop now, by the requests that each lacks: the smallest remainder comes last.

        Only as many as keep the sync lane busy until the next ones have stopped, so that the others get more time to be answered;
        ``waiting`` requests have left their batches. All of them when nothing is known of the lane's rate.
        """
        enough = math.inf if not self.rate else self.rate * self.switch_seconds * _SAFETY
        chosen = []
        for batch_id, missing in sorted(running.items(), key=lambda item: -item[1]):
            if waiting >= enough:
                break
            chosen.append(batch_id)
            waiting += missing
        return chosen


def terms_of(workload: Workload, *, cancel_seconds: float, poll_seconds: float) -> Terms | None:
    """Return the terms of a workload's deadline; None without one."""
    if workload.deadline is None or workload.deadline_since is None:
        return None
    return Terms(
        at=workload.deadline,
        began_at=workload.deadline_since,
        rate=workload.sync_rate,
        cancel_seconds=cancel_seconds,
        poll_seconds=poll_seconds,
    )


class Outlook(StrEnum):
    """Whether a deadline will be, or was, met."""

    ON_TIME = "on_time"
    #: The sync lane cannot carry what is missing: it depends on the batches.
    AT_RISK = "at_risk"
    #: Nothing is known of the sync lane's rate.
    UNKNOWN = "unknown"
    MET = "met"
    MISSED = "missed"


def outlook(terms: Terms, *, missing: int, now: float, ended_at: float | None) -> Outlook:
    """Return whether the deadline will be kept; ``ended_at`` is when the last answer was stored, None while some are missing."""
    if ended_at is not None:
        return Outlook.MET if ended_at <= terms.at else Outlook.MISSED
    if now >= terms.at:
        return Outlook.MISSED
    drain = terms.drain_seconds(missing)
    if drain is None:
        return Outlook.UNKNOWN
    return Outlook.ON_TIME if now + drain <= terms.at else Outlook.AT_RISK


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Where a workload stands before its deadline ``at``, or after it. Times are Unix seconds, None when unknown.

    ``cutoff`` is when what is missing leaves its batches, None once it has, or when nothing is missing in batches. ``expected_at`` is
    when the sync lane could have answered all that is ``missing``, if it began now; ``ended_at`` when the last answer was stored.
    ``in_time`` and ``late`` count the answers and errors that were stored by the deadline and after it, by their lanes.
    """

    at: float
    outlook: Outlook
    missing: int
    cutoff: float | None
    expected_at: float | None
    ended_at: float | None
    in_time: Mapping[Lane, int]
    late: Mapping[Lane, int]


def standing(
    terms: Terms,
    *,
    missing: int,
    now: float,
    ended_at: float | None,
    in_batches: bool,
    answers: Mapping[Lane, tuple[int, int]],
) -> Standing:
    """Return where a workload stands; ``answers`` are those stored in time and late, by lane, and ``in_batches`` says that it has not left them."""
    drain = terms.drain_seconds(missing)
    is_open = ended_at is None and now < terms.at
    return Standing(
        at=terms.at,
        outlook=outlook(terms, missing=missing, now=now, ended_at=ended_at),
        missing=missing,
        cutoff=terms.cutoff(missing, now) if in_batches and is_open else None,
        expected_at=None if drain is None or ended_at is not None else now + drain,
        ended_at=ended_at,
        in_time={lane: counts[0] for lane, counts in answers.items() if counts[0]},
        late={lane: counts[1] for lane, counts in answers.items() if counts[1]},
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePlan:
    """What is known of a deadline before anything is sent.

    ``lane`` is the one to begin with, ``window`` that of its batches, and ``is_in_time`` says that this window ends before the
    ``cutoff``. ``drainable`` of the ``requests`` can be answered by single calls until then, and ``start_by`` is from when on they
    cannot all be; both are None when nothing is known of the rate. ``problem`` is why the deadline cannot be met, None when it can;
    ``earliest`` is then when it could be.
    """

    terms: Terms
    now: float
    requests: int
    lane: Lane
    window: str
    is_in_time: bool
    cutoff: float
    drainable: int | None = None
    start_by: float | None = None
    problem: str | None = None
    earliest: float | None = None


def plan(
    terms: Terms, windows: Windows, *, requests: int, now: float, default: Lane = Lane.BATCH, window: str | None = None
) -> DeadlinePlan:
    """Plan the deadline of ``requests`` that are to be sent; ``window`` is given where the deadline does not decide it.

    Requests whose ``default`` lane is the sync lane, because they are few or the user chose it, need no batch.

    A deadline cannot be met when it has passed, and when neither lane can be expected to: no window ends in time, and the limits do
    not let so many single calls through.
    """
    cutoff, window = terms.cutoff(requests, now), window or terms.window(windows, requests, now)
    chosen = Lane.SYNC if default is Lane.SYNC else terms.lane(requests, now)
    window_end = now + hours_of(window) * _SECONDS_PER_HOUR
    drain = terms.drain_seconds(requests)
    problem = earliest = None
    if terms.at <= now:
        problem, earliest = "it has passed", None if drain is None else now + drain
    elif drain is not None and now + drain > terms.at and (chosen is Lane.SYNC or window_end > terms.at):
        per_minute = f"{(terms.rate or 0.0) * 60:,.3g}"
        none_in_time = (
            "" if chosen is Lane.SYNC else f", and no batch is promised before {windows.shortest} have passed"
        )
        problem = (
            f"{formatting.counted(requests, 'single call')} take {formatting.duration(drain)} at {per_minute} a minute"
            f"{none_in_time}"
        )
        earliest = now + drain
    return DeadlinePlan(
        terms=terms,
        now=now,
        requests=requests,
        lane=chosen,
        window=window,
        is_in_time=window_end <= cutoff,
        cutoff=cutoff,
        drainable=None if not terms.rate else min(int(terms.rate * max(terms.at - now, 0.0)), requests),
        start_by=None if drain is None else terms.at - drain,
        problem=problem,
        earliest=earliest,
    )
