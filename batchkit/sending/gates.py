"""The gates of the sync lane: whether a request may be sent now, for each pair of model and service tier.

One object serves all threads of a process. It decides by what it is told; the time is passed in, in monotonic seconds.

=====================  =========================================================================================================
end of a call          what the gates make of it (the window: ``window``, the parking: ``breaker``, the budget: ``limits``)
=====================  =========================================================================================================
answer                 the window may grow; the charge is corrected by what was used
429, short             wait as long as asked, without a cut; a second one without an answer in between also cuts
429, of the day        park until the moment that the server names
498, 503, in doubt     cut once a round trip
5xx                    slows the growth; many in a row park
not sent               many in a row park
413, configuration     nothing: it is about the request or the account
=====================  =========================================================================================================

A key without an answer is parked after 10 failed calls in a row, or after a minute of refusals with the smallest window.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from batchkit.backoff import backoff_seconds
from batchkit.provider.call_verdicts import CallVerdict
from batchkit.sending.breaker import Breaker
from batchkit.sending.estimate import RunningRatio
from batchkit.sending.limits import Budget, KnownLimits
from batchkit.sending.rates import MeasuredRate
from batchkit.sending.reservations import Amounts, Ticket
from batchkit.sending.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.call_verdicts import CallJudgement
    from batchkit.sending.limits import LimitState
    from batchkit.sending.reservations import Reservation

_BROKEN = frozenset({CallVerdict.SERVER_ERROR, CallVerdict.NOT_SENT, CallVerdict.IN_DOUBT})
#: Ends of requests that certainly used no tokens.
_UNUSED = frozenset(CallVerdict) - {CallVerdict.ANSWER, CallVerdict.SERVER_ERROR, CallVerdict.IN_DOUBT}
#: A long limit without a wait is tried again after so many seconds.
_LONG_WAIT_SECONDS = 600.0
_NOTHING = Amounts(requests=0.0)


class GateKey(NamedTuple):
    """What has limits of its own; ``tier`` is the service tier that is asked for, None for none."""

    model: str
    tier: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """A key that nothing is sent for, since when, and until when; monotonic seconds."""

    key: GateKey
    reason: str
    since: float
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSnapshot:
    """One key as it is now; rates are per second over the last minute. ``paused_until`` is a short wait that the server asked for."""

    key: GateKey
    in_flight: int
    window: int
    answers_per_second: float
    tokens_per_second: float
    limits: tuple[LimitState, ...]
    paused_until: float | None = None
    parked: Parked | None = None


def _unknown(_key: GateKey) -> KnownLimits:
    return KnownLimits()


class Gates:
    """Admits requests; safe for any number of threads.

    ``known`` returns the limits that the user gave for a key. A window starts with ``start`` requests in flight and has at most
    ``most``.
    """

    def __init__(
        self, known: Callable[[GateKey], KnownLimits] = _unknown, *, start: int = 8, most: int = 1_000
    ) -> None:
        self._known = known
        self._start = start
        self._most = most
        self._lock = threading.Lock()
        self._gates: dict[GateKey, _Gate] = {}

    def try_admit(self, key: GateKey, reservation: Reservation, now: float) -> float:
        """Return 0.0 when the request is admitted, and count it; its end must be told with ``ended``.

        Else return when to ask again, in monotonic seconds; ``math.inf`` when only the end of another request can help.
        """
        with self._lock:
            return self._gate(key, now).try_admit(reservation, now)

    def ended(
        self,
        key: GateKey,
        reservation: Reservation,
        judgement: CallJudgement,
        now: float,
        *,
        used: Amounts | None = None,
    ) -> None:
        """Note the end of an admitted request. ``used`` are the amounts of an answer's usage, None where it has none.

        A reservation that was not admitted, or has ended already, changes nothing.
        """
        with self._lock:
            ticket, reservation.ticket = reservation.ticket, None
            if ticket is not None:
                self._gate(key, now).ended(ticket, reservation.amounts, judgement, now, used)

    def give_back(self, key: GateKey, reservation: Reservation, now: float) -> None:
        """Take back the admission of a request that was not sent after all."""
        with self._lock:
            ticket, reservation.ticket = reservation.ticket, None
            if ticket is not None:
                self._gate(key, now).give_back(ticket, now)

    def parked(self, now: float) -> list[Parked]:
        """Return the keys that nothing is sent for, those whose wait ends first at the beginning."""
        with self._lock:
            found = [parked for key, gate in self._gates.items() if (parked := gate.parked(key, now)) is not None]
        return sorted(found, key=lambda parked: parked.until)

    def snapshot(self, key: GateKey, now: float) -> GateSnapshot:
        """Return how a key is now."""
        with self._lock:
            return self._gate(key, now).snapshot(key, now)

    def answers_per_second(self, now: float) -> float:
        """Return how many answers a second came over the last minute, of all keys."""
        with self._lock:
            return sum(gate.snapshot(key, now).answers_per_second for key, gate in self._gates.items())

    def keys(self) -> list[GateKey]:
        """Return the keys that were asked for."""
        with self._lock:
            return list(self._gates)

    def seconds_for(self, key: GateKey, requests: float, mean: Amounts, now: float) -> float | None:
        """Return how many seconds ``requests`` more requests of ``mean`` amounts take; None when nothing is known of that yet.

        The slower one of what the limits allow and what was measured, and not before a parked key is tried again.
        """
        with self._lock:
            return self._gate(key, now).seconds_for(requests, mean, now)

    def _gate(self, key: GateKey, now: float) -> _Gate:
        gate = self._gates.get(key)
        if gate is None:
            gate = self._gates[key] = _Gate(self._known(key), Window(start=self._start, most=self._most), now)
        return gate


class _Gate:
    """The gates of one key."""

    def __init__(self, known: KnownLimits, window: Window, now: float) -> None:
        self._budget = Budget(known, now)
        self._window = window
        self._breaker = Breaker()
        self._ratio = RunningRatio()
        self._rate = MeasuredRate()
        self._in_flight = 0
        self._paused_until = 0.0
        # Rounds of refusals without an answer in between.
        self._refusals = 0

    def try_admit(self, reservation: Reservation, now: float) -> float:
        if again := max(self._breaker.ask_again_at(now), self._paused_until if now < self._paused_until else 0.0):
            return again
        if self._in_flight >= self._window.size:
            return math.inf
        amounts = self._corrected(reservation.amounts)
        if wait := self._budget.wait(amounts, now):
            return now + wait
        self._in_flight += 1
        self._window.admitted(self._in_flight)
        reservation.ticket = Ticket(
            amounts=amounts,
            round=self._window.round,
            trip=self._breaker.trip,
            is_probe=self._breaker.admitted(),
            totals=self._budget.charge(amounts, now),
        )
        return 0.0

    def give_back(self, ticket: Ticket, now: float) -> None:
        self._in_flight -= 1
        self._budget.settle(ticket.amounts, _NOTHING, ticket.totals, now)
        if ticket.is_probe:
            self._breaker.probe_given_back(ticket.trip)

    def ended(
        self, ticket: Ticket, estimated: Amounts, judgement: CallJudgement, now: float, used: Amounts | None
    ) -> None:
        self._in_flight -= 1
        verdict = judgement.verdict
        if used is not None and verdict is CallVerdict.ANSWER:
            self._ratio.add(used=used.input_tokens, estimated=estimated.input_tokens)
            self._budget.settle(ticket.amounts, used, ticket.totals, now)
        elif verdict in _UNUSED:
            unused = _NOTHING if verdict is CallVerdict.NOT_SENT else Amounts()
            self._budget.settle(ticket.amounts, unused, ticket.totals, now)
        self._budget.observe(judgement.limits, ticket.totals, now)
        if judgement.named is not None and verdict is not CallVerdict.TOO_LARGE_FOR_LIMIT:
            self._budget.refused(judgement.named, ticket.totals, now)
        self._react(ticket, judgement, now, tokens=(used or ticket.amounts).tokens)

    def _react(self, ticket: Ticket, judgement: CallJudgement, now: float, *, tokens: float) -> None:
        match judgement.verdict:
            case CallVerdict.ANSWER:
                self._refusals = 0
                self._window.succeeded(ticket.round, self._in_flight)
                self._close(ticket)
                self._rate.add(tokens, now)
            case CallVerdict.LIMITED_LONG:
                wait = _LONG_WAIT_SECONDS if judgement.wait_seconds is None else judgement.wait_seconds
                self._breaker.park(max(now + wait, self._breaker.until), judgement.message, now)
            case CallVerdict.LIMITED_SHORT | CallVerdict.CAPACITY:
                self._refused(ticket, judgement, now)
            case CallVerdict.SERVER_ERROR | CallVerdict.IN_DOUBT | CallVerdict.NOT_SENT:
                self._broken(ticket, judgement, now)
            case _:
                # It is about the request or the account; but the server answers, which ends a probe.
                self._close(ticket)

    def _close(self, ticket: Ticket) -> None:
        if self._breaker.succeeded(ticket.trip):
            self._window.restart()

    def _refused(self, ticket: Ticket, judgement: CallJudgement, now: float) -> None:
        is_current = ticket.round == self._window.round
        is_plain_wait = judgement.verdict is CallVerdict.LIMITED_SHORT and judgement.wait_seconds is not None
        if is_current and is_plain_wait and not self._refusals:
            self._window.next_round()
        else:
            self._window.refused(ticket.round, self._in_flight)
        if is_current:
            self._refusals += 1
        wait = judgement.wait_seconds
        if wait is None and self._refusals > 1:
            wait = backoff_seconds(self._refusals - 1, 1.0)
        if wait is not None:
            self._paused_until = max(self._paused_until, now + wait)
        self._fail(ticket, judgement, now)

    def _broken(self, ticket: Ticket, judgement: CallJudgement, now: float) -> None:
        if judgement.verdict is CallVerdict.IN_DOUBT:
            self._window.refused(ticket.round, self._in_flight)
        else:
            self._window.failed()
        if judgement.wait_seconds is not None:
            self._paused_until = max(self._paused_until, now + judgement.wait_seconds)
        self._fail(ticket, judgement, now)

    def _fail(self, ticket: Ticket, judgement: CallJudgement, now: float) -> None:
        self._breaker.failed(
            ticket.trip,
            judgement.message,
            now,
            is_at_floor=self._window.is_at_floor,
            is_broken=judgement.verdict in _BROKEN,
        )

    def parked(self, key: GateKey, now: float) -> Parked | None:
        breaker = self._breaker
        if not breaker.is_open:
            return None
        return Parked(key=key, reason=breaker.reason, since=breaker.since, until=max(now, breaker.until))

    def snapshot(self, key: GateKey, now: float) -> GateSnapshot:
        answers, tokens = self._rate.per_second(now)
        return GateSnapshot(
            key=key,
            in_flight=self._in_flight,
            window=self._window.size,
            answers_per_second=answers,
            tokens_per_second=tokens,
            limits=self._budget.states(now),
            paused_until=self._paused_until if now < self._paused_until else None,
            parked=self.parked(key, now),
        )

    def seconds_for(self, requests: float, mean: Amounts, now: float) -> float | None:
        answers, _ = self._rate.per_second(now)
        allowed = self._budget.seconds_for(requests, self._corrected(mean), now)
        measured = requests / answers if answers else None
        times = [seconds for seconds in (allowed, measured) if seconds is not None]
        if not times:
            return None
        return max(times) + (max(0.0, self._breaker.until - now) if self._breaker.is_open else 0.0)

    def _corrected(self, amounts: Amounts) -> Amounts:
        return replace(amounts, input_tokens=amounts.input_tokens * self._ratio.value)
