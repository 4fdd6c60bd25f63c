from __future__ import annotations

import math
import threading

import pytest

from batchkit.provider.call_verdicts import CallVerdict
from batchkit.provider.rate_limits import HeaderLimit, LimitDimension, LimitPeriod, NamedLimit
from batchkit.sending.gates import GateKey, Gates
from batchkit.sending.limits import KnownLimits
from batchkit.sending.reservations import Amounts, Reservation

from .simulated import ANSWER, KEY, judged

ASKED = Amounts(input_tokens=100, output_tokens=50)
USED = Amounts(input_tokens=100, output_tokens=10)


def admit(gates: Gates, now: float = 0.0, key: GateKey = KEY, asked: Amounts = ASKED) -> Reservation:
    """Admit a request that must be admitted."""
    reservation = Reservation(asked)
    assert gates.try_admit(key, reservation, now) == 0.0
    return reservation


def refuses(gates: Gates, now: float, asked: Amounts = ASKED) -> float:
    """Return when to ask again."""
    again = gates.try_admit(KEY, Reservation(asked), now)
    assert again > now
    return again


def test_the_window_is_a_limit_that_only_an_end_can_lift():
    """Eight in the beginning; the answer of one makes room for one."""
    gates = Gates()
    admitted = [admit(gates) for _ in range(8)]
    assert refuses(gates, 0.0) == math.inf
    gates.ended(KEY, admitted[0], ANSWER, 1.0, used=USED)
    admit(gates, 1.0)
    assert refuses(gates, 1.0) == math.inf
    assert gates.snapshot(KEY, 1.0).in_flight == 8


def test_keys_have_gates_of_their_own():
    """A model that is parked does not stop another one, nor another tier of the same."""
    gates = Gates()
    gates.ended(KEY, admit(gates), judged(CallVerdict.LIMITED_LONG, 500.0), 1.0)
    assert refuses(gates, 2.0) == 501.0
    admit(gates, 2.0, GateKey("another"))
    admit(gates, 2.0, GateKey(KEY.model, "flex"))
    assert [parked.key for parked in gates.parked(2.0)] == [KEY]
    assert set(gates.keys()) == {KEY, GateKey("another"), GateKey(KEY.model, "flex")}


def test_the_first_429_with_a_wait_pauses_without_a_cut():
    """All that was in flight may be refused; a second round without an answer in between cuts."""
    gates = Gates()
    admitted = [admit(gates) for _ in range(8)]
    for reservation in admitted:
        gates.ended(KEY, reservation, judged(CallVerdict.LIMITED_SHORT, 5.0), 1.0)
    assert refuses(gates, 1.0) == 6.0
    assert gates.snapshot(KEY, 1.0).window == 8
    assert gates.snapshot(KEY, 1.0).paused_until == 6.0
    gates.ended(KEY, admit(gates, 6.0), judged(CallVerdict.LIMITED_SHORT, 5.0), 6.5)
    assert gates.snapshot(KEY, 7.0).window == 6


@pytest.mark.parametrize(
    ("verdict", "window"),
    [
        (CallVerdict.CAPACITY, 6),
        (CallVerdict.IN_DOUBT, 6),
        (CallVerdict.LIMITED_SHORT, 6),
        (CallVerdict.SERVER_ERROR, 8),
        (CallVerdict.NOT_SENT, 8),
        (CallVerdict.TOO_LARGE_FOR_LIMIT, 8),
        (CallVerdict.ACCOUNT, 8),
        (CallVerdict.TIER, 8),
    ],
)
def test_congestion_cuts_once(verdict, window):
    """Eight ends of one round are one cut; errors that are no congestion are none."""
    gates = Gates()
    for reservation in [admit(gates) for _ in range(8)]:
        gates.ended(KEY, reservation, judged(verdict), 1.0)
    assert gates.snapshot(KEY, 1.0).window == window
    assert gates.snapshot(KEY, 1.0).in_flight == 0


@pytest.mark.parametrize("verdict", [CallVerdict.SERVER_ERROR, CallVerdict.NOT_SENT, CallVerdict.IN_DOUBT])
def test_ten_failures_park_with_a_reason(verdict):
    """Then one probe a pause; its answer ends it."""
    gates = Gates()
    for number in range(10):
        gates.ended(KEY, admit(gates, float(number)), judged(verdict), number + 0.5)
    (parked,) = gates.parked(10.0)
    assert (parked.reason, parked.since, parked.until) == (f"it was {verdict}", 0.5, 10.5)
    assert refuses(gates, 10.0) == 10.5
    probe = admit(gates, 10.5)
    assert refuses(gates, 10.5) == math.inf
    gates.ended(KEY, probe, ANSWER, 11.0, used=USED)
    assert gates.parked(11.0) == []
    # An outage says nothing of the capacity: a window that it cut doubles again.
    for now in (12.0, 13.0, 14.0):
        for reservation in [admit(gates, now) for _ in range(gates.snapshot(KEY, now).window)]:
            gates.ended(KEY, reservation, ANSWER, now, used=USED)
    assert gates.snapshot(KEY, 15.0).window >= 4


def test_a_probe_that_is_given_back_makes_room_for_another():
    """A thread that could not send after all keeps nobody waiting."""
    gates = Gates()
    for number in range(10):
        gates.ended(KEY, admit(gates, float(number)), judged(CallVerdict.NOT_SENT), float(number))
    gates.give_back(KEY, admit(gates, 20.0), 20.0)
    admit(gates, 20.0)


def test_the_budget_says_when_to_ask_again():
    """And nothing is counted for a request that is not admitted."""
    gates = Gates(lambda _key: KnownLimits(requests_per_minute=60, tokens_per_minute=6_000))
    for _ in range(8):
        admit(gates)
    gates = Gates(lambda _key: KnownLimits(tokens_per_minute=6_000))
    admit(gates, 0.0, asked=Amounts(input_tokens=3_000))
    for _ in range(5):
        assert refuses(gates, 0.0, Amounts(input_tokens=3_000)) == pytest.approx(30)
    assert gates.snapshot(KEY, 0.0).in_flight == 1


@pytest.mark.parametrize(
    ("verdict", "left"),
    [
        (CallVerdict.ANSWER, 890),
        (CallVerdict.LIMITED_SHORT, 1_000),
        (CallVerdict.CAPACITY, 1_000),
        (CallVerdict.NOT_SENT, 1_000),
        (CallVerdict.IN_DOUBT, 850),
        (CallVerdict.SERVER_ERROR, 850),
    ],
)
def test_what_was_certainly_not_used_is_given_back(verdict, left):
    """A call in doubt may have been executed, so its reservation stays."""
    gates = Gates(lambda _key: KnownLimits(tokens_per_day=1_000))
    used = USED if verdict is CallVerdict.ANSWER else None
    gates.ended(KEY, admit(gates), judged(verdict), 0.0, used=used)
    assert round(gates.snapshot(KEY, 0.0).limits[0].remaining) == left


def test_an_end_counts_once():
    """A second one, or one of a request that was not admitted, changes nothing."""
    gates = Gates()
    reservation = admit(gates)
    for _ in range(3):
        gates.ended(KEY, reservation, ANSWER, 1.0, used=USED)
        gates.give_back(KEY, reservation, 1.0)
    gates.ended(KEY, Reservation(ASKED), ANSWER, 1.0)
    assert gates.snapshot(KEY, 1.0).in_flight == 0


def test_limits_come_from_headers_and_words():
    """And the snapshot says which."""
    gates = Gates()
    tokens = HeaderLimit(dimension=LimitDimension.TOKENS, period=LimitPeriod.MINUTE, limit=6_000, remaining=5_000)
    gates.ended(KEY, admit(gates), judged(CallVerdict.ANSWER, limits=(tokens,)), 1.0, used=USED)
    day = NamedLimit(dimension=LimitDimension.TOKENS, period=LimitPeriod.DAY, limit=100_000, used=99_990, requested=150)
    gates.ended(KEY, admit(gates, 1.0), judged(CallVerdict.LIMITED_LONG, 121.0, named=day), 2.0)
    limits = {str(limit.period): (limit.limit, str(limit.source)) for limit in gates.snapshot(KEY, 2.0).limits}
    assert limits == {"minute": (6_000, "headers"), "day": (100_000, "refusal")}
    assert refuses(gates, 2.0) == 123.0


def test_a_request_that_is_too_large_teaches_no_limit():
    """It is refused whatever is left, so the others are not slowed."""
    gates = Gates()
    named = NamedLimit(dimension=LimitDimension.TOKENS, period=LimitPeriod.MINUTE, limit=6_000, requested=8_120)
    gates.ended(KEY, admit(gates), judged(CallVerdict.TOO_LARGE_FOR_LIMIT, named=named), 1.0)
    assert gates.snapshot(KEY, 1.0).limits == ()
    admit(gates, 1.0)


def test_estimates_are_corrected_by_usage():
    """Answers that use twice the estimate double the next reservations."""
    gates = Gates(lambda _key: KnownLimits(tokens_per_day=100_000))
    for _ in range(20):
        gates.ended(KEY, admit(gates), ANSWER, 0.0, used=Amounts(input_tokens=200, output_tokens=10))
    before = gates.snapshot(KEY, 0.0).limits[0].remaining
    admit(gates)
    assert before - gates.snapshot(KEY, 0.0).limits[0].remaining == pytest.approx(200 + 50)


def test_rates_are_those_of_the_last_minute():
    """Answers and their tokens, per second; older ones do not count."""
    gates = Gates()
    for second in range(120):
        for _ in range(2 if second < 60 else 4):
            gates.ended(KEY, admit(gates, float(second)), ANSWER, second + 0.5, used=USED)
    found = gates.snapshot(KEY, 119.9)
    assert found.answers_per_second == pytest.approx(4, rel=0.05)
    assert found.tokens_per_second == pytest.approx(440, rel=0.05)
    assert gates.snapshot(KEY, 400.0).answers_per_second == 0


def test_the_time_left_is_the_slower_one_of_allowed_and_measured():
    """Nothing is known in the beginning; a parked key waits first."""
    assert Gates().seconds_for(KEY, 300, ASKED, 0.0) is None
    gates = Gates(lambda _key: KnownLimits(requests_per_minute=60))
    assert gates.seconds_for(KEY, 300, ASKED, 0.0) == pytest.approx(300)
    for second in range(60):
        if second % 2:
            gates.ended(KEY, admit(gates, float(second)), ANSWER, second + 0.5, used=USED)
    assert gates.seconds_for(KEY, 300, ASKED, 60.0) == pytest.approx(600, rel=0.05)
    gates.ended(KEY, admit(gates, 60.0), judged(CallVerdict.LIMITED_LONG, 1_000.0), 61.0)
    assert gates.seconds_for(KEY, 300, ASKED, 61.0) == pytest.approx(1_600, rel=0.05)


def test_threads_share_the_gates():
    """Nothing is admitted twice, and nothing is lost, however many threads ask."""
    gates = Gates(start=50, most=50)
    highest = []

    def work() -> None:
        for _ in range(300):
            reservation = Reservation(ASKED)
            if gates.try_admit(KEY, reservation, 1.0) == 0.0:
                highest.append(gates.snapshot(KEY, 1.0).in_flight)
                gates.ended(KEY, reservation, ANSWER, 1.0, used=USED)

    threads = [threading.Thread(target=work) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(highest) <= 50
    assert gates.snapshot(KEY, 1.0).in_flight == 0
