"""A server of ordinary endpoints and the sync lane before it, in virtual time: nothing sleeps, nothing is random but by seed."""

from __future__ import annotations

import heapq
import math
import random
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING

from batchkit.provider.call_verdicts import CallJudgement, CallVerdict
from batchkit.provider.rate_limits import HeaderLimit, LimitDimension, LimitPeriod, NamedLimit
from batchkit.sending.gates import GateKey, Gates
from batchkit.sending.reservations import Amounts, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable

KEY = GateKey("a-model")
ANSWER = CallJudgement(verdict=CallVerdict.ANSWER)


def judged(verdict: CallVerdict, wait_seconds: float | None = None, **more) -> CallJudgement:
    """Return a judgement with a message."""
    return CallJudgement(verdict=verdict, wait_seconds=wait_seconds, message=f"it was {verdict}", **more)


@dataclass
class Slots:
    """A server that executes as many requests at once as ``at`` returns for the time, and refuses others after 20 ms."""

    at: Callable[[float], int]
    seed: int = 1
    seconds: float = 1.0
    refusal: CallJudgement = field(default_factory=lambda: judged(CallVerdict.CAPACITY))
    busy: int = 0

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)  # noqa: S311 - a simulation

    def take(self, _amounts: Amounts, now: float) -> tuple[float, CallJudgement]:
        """Return how long the call takes, and its end."""
        if self.busy >= self.at(now):
            return 0.02, self.refusal
        self.busy += 1
        return self.seconds * self._random.uniform(0.5, 1.5), ANSWER

    def leave(self, judgement: CallJudgement, _used: Amounts) -> CallJudgement:
        """Note the end of a call; return what its reply says."""
        self.busy -= judgement is ANSWER
        return judgement


@dataclass
class _Counted:
    """One limit of a server: a bucket that is refilled all the time, a sliding window, or windows that begin at whole minutes."""

    limit: float
    style: str
    used: float = 0.0
    at: float = 0.0
    entries: deque[tuple[float, float]] = field(default_factory=deque)

    def wait(self, cost: float, now: float) -> float:
        """Return how long ``cost`` has to wait."""
        if self.style == "bucket":
            self.used = max(0.0, self.used - (now - self.at) * self.limit / 60)
            self.at = now
            return max(0.0, self.used + cost - self.limit) * 60 / self.limit
        begin = now - 60 if self.style == "sliding" else 60 * math.floor(now / 60)
        while self.entries and (self.entries[0][0] <= begin if self.style == "sliding" else self.entries[0][0] < begin):
            self.entries.popleft()
        self.used = sum(entry[1] for entry in self.entries)
        if self.used + cost <= self.limit:
            return 0.0
        return self.entries[0][0] + 60 - now if self.style == "sliding" else begin + 60 - now

    def charge(self, cost: float, now: float) -> None:
        """Count a request."""
        self.used += cost
        self.entries.append((now, cost))


@dataclass
class Plan:
    """A server with a limit of requests and one of tokens per minute, which counts what a request asks for.

    ``has_headers``: its replies say what is left of the tokens, and its refusals name the limit.
    """

    requests: float = 30.0
    tokens: float = 6_000.0
    style: str = "bucket"
    has_headers: bool = True
    seconds: float = 1.0
    seed: int = 1
    refused_at: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._requests = _Counted(self.requests, self.style)
        self._tokens = _Counted(self.tokens, self.style)
        self._random = random.Random(self.seed)  # noqa: S311 - a simulation

    def take(self, amounts: Amounts, now: float) -> tuple[float, CallJudgement]:
        """Return how long the call takes, and its end."""
        wait = max(self._requests.wait(1.0, now), self._tokens.wait(amounts.tokens, now))
        if wait > 0:
            self.refused_at.append(now)
            of_tokens = self._tokens.wait(amounts.tokens, now) > 0
            named = NamedLimit(
                dimension=LimitDimension.TOKENS if of_tokens else LimitDimension.REQUESTS,
                period=LimitPeriod.MINUTE,
                limit=self.tokens if of_tokens else self.requests,
            )
            return 0.02, judged(CallVerdict.LIMITED_SHORT, wait, named=named if self.has_headers else None)
        self._requests.charge(1.0, now)
        self._tokens.charge(amounts.tokens, now)
        return self.seconds * self._random.uniform(0.5, 1.5), ANSWER

    def leave(self, judgement: CallJudgement, _used: Amounts) -> CallJudgement:
        """Return what the reply says."""
        if judgement is not ANSWER or not self.has_headers:
            return judgement
        left = HeaderLimit(
            dimension=LimitDimension.TOKENS,
            period=LimitPeriod.MINUTE,
            limit=self.tokens,
            remaining=max(0.0, self.tokens - self._tokens.used),
        )
        return CallJudgement(verdict=CallVerdict.ANSWER, limits=(left,))


@dataclass
class Lane:
    """What happened: when answers came, when calls began, and how the gates were left."""

    gates: Gates
    answered: list[float] = field(default_factory=list)
    sent: list[float] = field(default_factory=list)
    refused: int = 0
    now: float = 0.0

    def rate(self, begin: float, end: float) -> float:
        """Return the answers per second between two times."""
        return sum(begin <= at < end for at in self.answered) / (end - begin)


def run(
    server: Slots | Plan,
    gates: Gates,
    *,
    requests: float = math.inf,
    until: float = math.inf,
    estimated: Amounts = Amounts(input_tokens=10, output_tokens=10),  # noqa: B008 - a constant
    real: Amounts = Amounts(input_tokens=10, output_tokens=10),  # noqa: B008 - as above
    used: Amounts = Amounts(input_tokens=10, output_tokens=5),  # noqa: B008 - as above
) -> Lane:
    """Send requests as soon as the gates admit them, refused ones again, until all are answered or the time is over.

    ``estimated`` is what we take a request for, ``real`` what the server counts at its admission, ``used`` what its answer says.
    """
    lane = Lane(gates)
    numbers = count()
    ends: list[tuple[float, int, Reservation, CallJudgement]] = []
    left = requests
    while lane.now < until and (left or ends):
        again = math.inf
        while left:
            reservation = Reservation(estimated)
            again = gates.try_admit(KEY, reservation, lane.now)
            if again:
                break
            left, again = left - 1, math.inf
            lane.sent.append(lane.now)
            seconds, judgement = server.take(real, lane.now)
            heapq.heappush(ends, (lane.now + seconds, next(numbers), reservation, judgement))
        assert ends or again < math.inf, "nothing can ever be sent again"
        assert again > lane.now
        if not ends or again < ends[0][0]:
            lane.now = again
            continue
        lane.now, _, reservation, judgement = heapq.heappop(ends)
        is_answer = judgement is ANSWER
        gates.ended(KEY, reservation, server.leave(judgement, used), lane.now, used=used if is_answer else None)
        if is_answer:
            lane.answered.append(lane.now)
        else:
            lane.refused += 1
            left += 1
    return lane
