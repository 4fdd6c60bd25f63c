from __future__ import annotations

import pytest

from batchkit.provider.rate_limits import HeaderLimit, LimitDimension, LimitPeriod, NamedLimit
from batchkit.sending.limits import Budget, KnownLimits, LimitSource
from batchkit.sending.reservations import Amounts

TOKENS, REQUESTS = LimitDimension.TOKENS, LimitDimension.REQUESTS
MINUTE, DAY = LimitPeriod.MINUTE, LimitPeriod.DAY


def of(tokens: float = 0.0, **more: float) -> Amounts:
    """Return the amounts of one request."""
    return Amounts(input_tokens=tokens, **more)


def times(budget: Budget, amounts: Amounts, count: int) -> list[float]:
    """Return when so many requests leave, from time 0."""
    now, found = 0.0, []
    for _ in range(count):
        now += budget.wait(amounts, now)
        assert budget.wait(amounts, now) == 0.0
        budget.charge(amounts, now)
        found.append(round(now, 3))
    return found


def test_requests_leave_evenly_after_a_small_burst():
    """30 a minute: six at once, then one every two seconds."""
    budget = Budget(KnownLimits(requests_per_minute=30), 0.0)
    assert times(budget, of(), 10) == [0, 0, 0, 0, 0, 0, 2, 4, 6, 8]


@pytest.mark.parametrize(
    ("known", "amounts", "spacing"),
    [
        (KnownLimits(requests_per_minute=1), of(), 60),
        (KnownLimits(requests_per_minute=600), of(), 0.1),
        (KnownLimits(tokens_per_minute=6_000), of(300), 3),
        (KnownLimits(tokens_per_minute=6_000), of(6_000), 60),
        (KnownLimits(tokens_per_minute=6_000), of(60_000), 60),
        (KnownLimits(tokens_per_minute=6_000), of(100, output_tokens=200), 3),
        (KnownLimits(input_tokens_per_minute=6_000), of(100, output_tokens=900), 1),
        (KnownLimits(output_tokens_per_minute=6_000), of(100, output_tokens=900), 9),
        (KnownLimits(requests_per_minute=30, tokens_per_minute=6_000), of(100), 2),
        (KnownLimits(requests_per_minute=30, tokens_per_minute=6_000), of(400), 4),
    ],
)
def test_the_slowest_limit_decides(known, amounts, spacing):
    """Whatever it counts; a request that is larger than a limit takes all of it."""
    found = times(Budget(known, 0.0), amounts, 200)
    assert found[-1] - found[-2] == pytest.approx(spacing, abs=1e-3)


@pytest.mark.parametrize(
    ("known", "amounts", "at_once", "wait"),
    [
        (KnownLimits(requests_per_day=1_000), of(), 1_000, 86.4),
        (KnownLimits(tokens_per_day=100_000), of(10_000), 10, 8_640),
        (KnownLimits(audio_seconds_per_hour=7_200), of(audio_seconds=600), 12, 300),
        (KnownLimits(audio_seconds_per_day=28_800), of(audio_seconds=28_800), 1, 86_400),
    ],
)
def test_long_limits_are_used_at_once_and_refilled_all_the_time(known, amounts, at_once, wait):
    """Nobody wants a day's limit to be spread over the day."""
    budget = Budget(known, 0.0)
    assert times(budget, amounts, at_once) == [0.0] * at_once
    assert budget.wait(amounts, 0.0) == pytest.approx(wait)


def test_what_was_not_used_is_given_back():
    """The reservation has the most output; the usage has the real one."""
    budget = Budget(KnownLimits(tokens_per_minute=6_000), 0.0)
    asked = of(100, output_tokens=2_900)
    totals = budget.charge(asked, 0.0)
    assert budget.wait(asked, 0.0) == pytest.approx(30)
    budget.settle(asked, of(100, output_tokens=100), totals, 1.0)
    assert budget.wait(asked, 2.0) == 0.0


def seen(remaining: float, limit: float | None = 6_000, dimension=TOKENS, period=MINUTE) -> HeaderLimit:
    """Return a limit of headers."""
    return HeaderLimit(dimension=dimension, period=period, limit=limit, remaining=remaining)


def test_the_servers_count_is_trusted_over_ours():
    """Lower, because others use the account; higher, because cached tokens do not count. What we sent since then is left out."""
    budget = Budget(KnownLimits(tokens_per_minute=6_000), 0.0)
    first = budget.charge(of(3_000), 0.0)
    budget.observe([seen(500)], first, 0.0)
    assert budget.states(0.0)[0].remaining == 500
    budget.observe([seen(5_900)], first, 0.0)
    assert budget.states(0.0)[0].remaining == 5_900
    budget.charge(of(2_000), 0.0)
    # Between 5,900 and 3,900: the server may have counted the second request, or not.
    budget.observe([seen(5_900)], first, 0.0)
    assert budget.states(0.0)[0].remaining == 3_900
    budget.observe([seen(3_950)], first, 0.0)
    assert budget.states(0.0)[0].remaining == 3_900
    budget.observe([seen(3_850)], first, 0.0)
    assert budget.states(0.0)[0].remaining == 3_850


def test_limits_are_learned_from_headers_and_refusals():
    """Each with its source; what the user gave stays the upper bound."""
    budget = Budget(KnownLimits(requests_per_minute=20), 0.0)
    budget.observe([seen(6_000), seen(19, 30, REQUESTS)], {}, 0.0)
    budget.refused(NamedLimit(dimension=TOKENS, period=DAY, limit=100_000, used=97_050, requested=3_619), {}, 0.0)
    found = {
        (state.dimension, state.period): (state.limit, round(state.remaining), state.source)
        for state in budget.states(0.0)
    }
    assert found == {
        (REQUESTS, MINUTE): (20, 19, LimitSource.CONFIGURED),
        (TOKENS, MINUTE): (6_000, 6_000, LimitSource.HEADERS),
        (TOKENS, DAY): (100_000, 2_950, LimitSource.REFUSAL),
    }
    # 669 tokens are missing; the server asks to wait 578.016 s, and we wait a twentieth longer after its refusal.
    assert budget.wait(of(3_619), 0.0) == pytest.approx(578.016 / 0.95)
    budget.observe([seen(9, 10, REQUESTS)], {}, 0.0)
    assert budget.states(0.0)[0].limit == 10


def test_a_refusal_ends_bursts():
    """A server that counts in fixed windows refuses the burst; from then on one leaves every 2.1 seconds."""
    budget = Budget(KnownLimits(requests_per_minute=30), 0.0)
    totals = budget.charge(of(), 0.0)
    budget.refused(NamedLimit(dimension=REQUESTS, period=MINUTE, limit=30), totals, 0.0)
    found = times(budget, of(), 5)
    assert found[2] - found[1] == pytest.approx(60 / 30 / 0.95, abs=1e-3)


@pytest.mark.parametrize(
    "named",
    [
        NamedLimit(dimension=TOKENS, period=None, limit=5),
        NamedLimit(dimension=TOKENS, period=MINUTE),
    ],
)
def test_a_refusal_without_a_number_teaches_nothing(named):
    """There is no limit to keep."""
    budget = Budget(KnownLimits(), 0.0)
    budget.refused(named, {}, 0.0)
    assert budget.states(0.0) == ()


def test_a_limit_that_is_learned_later_has_not_charged_what_was_admitted_before():
    """So the end of such a request gives nothing back to it."""
    budget = Budget(KnownLimits(), 0.0)
    totals = budget.charge(of(5_000), 0.0)
    budget.observe([seen(1_000)], totals, 0.0)
    budget.settle(of(5_000), of(10), totals, 0.0)
    assert budget.states(0.0)[0].remaining == 1_000


@pytest.mark.parametrize(
    ("known", "amounts", "seconds"),
    [
        (KnownLimits(), of(), None),
        (KnownLimits(requests_per_minute=30), of(), 600),
        (KnownLimits(requests_per_minute=30, tokens_per_minute=6_000), of(400), 1_200),
        (KnownLimits(requests_per_day=100), of(), 200 * 864),
        (KnownLimits(requests_per_day=1_000), of(), 0),
    ],
)
def test_the_time_for_the_rest_is_that_of_the_slowest_limit(known, amounts, seconds):
    """For 300 requests; what is left of a day's limit costs no time."""
    assert Budget(known, 0.0).seconds_for(300, amounts, 0.0) == (None if seconds is None else pytest.approx(seconds))
