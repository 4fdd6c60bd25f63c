"""The gates before simulated servers, in virtual time."""

from __future__ import annotations

import math

import pytest

from batchkit.provider.call_verdicts import CallVerdict
from batchkit.sending.gates import Gates
from batchkit.sending.limits import KnownLimits
from batchkit.sending.reservations import Amounts

from .simulated import KEY, Plan, Slots, judged, run


@pytest.mark.parametrize(
    ("capacity", "share", "seed"),
    [
        *((8, 0.9, seed) for seed in range(4)),
        *((20, 0.92, seed) for seed in range(4)),
        (100, 0.95, 1),
        pytest.param(100, 0.95, 2, marks=pytest.mark.slow),
        pytest.param(400, 0.95, 1, marks=pytest.mark.slow),
    ],
)
def test_the_window_finds_the_capacity_and_keeps_it(capacity, share, seed):
    """After a minute nearly all of the capacity is used; also a minute after it was halved, and after it was doubled again."""
    server = Slots(at=lambda now: capacity if not 180 <= now < 360 else capacity // 2, seed=seed)
    lane = run(server, Gates(), until=540)
    assert 0.95 * capacity <= lane.gates.snapshot(KEY, lane.now).window <= 1.1 * capacity or capacity < 20
    assert lane.rate(60, 180) >= share * capacity
    assert lane.rate(240, 360) >= share * capacity / 2
    assert lane.rate(420, 540) >= share * capacity


def test_most_requests_are_not_refused():
    """Trying for more capacity costs less than one refusal in a hundred requests."""
    lane = run(Slots(at=lambda _now: 100), Gates(), until=120)
    assert lane.refused < len(lane.answered) / 100


@pytest.mark.parametrize("style", ["bucket", "sliding", "fixed"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("seed", range(1, 4))
def test_a_free_plan_is_used_up_steadily(style, known, seed):
    """300 requests at 30 a minute and 6,000 tokens a minute take hardly longer than they must; once the limits are known none is refused after a minute."""
    limits = KnownLimits(requests_per_minute=30, tokens_per_minute=6_000) if known else KnownLimits()
    server = Plan(style=style, seed=seed)
    asked = Amounts(input_tokens=100, output_tokens=90)
    lane = run(
        server,
        Gates(lambda _key: limits),
        requests=300,
        estimated=asked,
        real=asked,
        used=Amounts(input_tokens=100, output_tokens=60),
    )
    # A limit that no header has is found by the first refusal, whenever that is.
    found = 0.0 if known or not server.refused_at else server.refused_at[0]
    assert [at for at in server.refused_at if at > found + 60] == []
    # At 30 a minute they take 10 minutes.
    assert lane.now <= 1.1 * 600
    pauses = [later - at for at, later in zip(lane.sent, lane.sent[1:], strict=False) if at > 60]
    assert max(pauses) < 6


@pytest.mark.parametrize("style", ["bucket", "sliding", "fixed"])
def test_a_limit_of_tokens_is_kept(style):
    """When tokens are what is short, they decide the speed: 200 requests of 400 tokens at 6,000 a minute."""
    asked = Amounts(input_tokens=300, output_tokens=100)
    server = Plan(style=style)
    lane = run(
        server,
        Gates(lambda _key: KnownLimits(requests_per_minute=30, tokens_per_minute=6_000)),
        requests=200,
        estimated=asked,
        real=asked,
        used=asked,
    )
    assert [at for at in server.refused_at if at > 60] == []
    assert lane.now <= 1.1 * 200 * 400 / 6_000 * 60


def test_a_wrong_estimate_is_corrected_by_the_answers():
    """A prompt that has three times as many tokens as its length tells is refused in the beginning only."""
    server = Plan(has_headers=False)
    lane = run(
        server,
        Gates(lambda _key: KnownLimits(requests_per_minute=30, tokens_per_minute=6_000)),
        requests=200,
        estimated=Amounts(input_tokens=100, output_tokens=100),
        real=Amounts(input_tokens=300, output_tokens=100),
        used=Amounts(input_tokens=300, output_tokens=100),
    )
    assert [at for at in server.refused_at if at > 60] == []
    assert lane.now <= 1.1 * 200 * 400 / 6_000 * 60


@pytest.mark.parametrize("wait", [None, 1.0, 5.0])
@pytest.mark.parametrize("verdict", [CallVerdict.LIMITED_SHORT, CallVerdict.CAPACITY, CallVerdict.SERVER_ERROR])
def test_a_server_that_refuses_for_an_hour_is_asked_rarely_and_used_at_once_afterwards(verdict, wait):
    """The key is parked meanwhile, with a reason; it never stalls: two minutes after the end everything runs as before."""
    server = Slots(at=lambda now: 0 if 60 <= now < 3_660 else 1_000, refusal=judged(verdict, wait))
    lane = run(server, Gates(most=20), until=3_600)
    (parked,) = lane.gates.parked(lane.now)
    assert parked.reason == f"it was {verdict}"
    assert parked.since < 130
    # One probe a minute, after what it took to be sure.
    assert sum(at > 300 for at in lane.sent) <= 60

    server = Slots(at=lambda now: 0 if 60 <= now < 3_660 else 1_000, refusal=judged(verdict, wait))
    lane = run(server, Gates(most=20), until=4_000)
    assert lane.gates.parked(lane.now) == []
    assert lane.rate(3_780, 4_000) >= 0.9 * 20


def test_a_limit_of_the_day_parks_until_the_moment_that_it_names():
    """Nothing is sent before that, and then one request alone."""
    server = Slots(at=lambda now: 0 if 10 <= now < 588 else 1_000, refusal=judged(CallVerdict.LIMITED_LONG, 578.0))
    lane = run(server, Gates(most=20), until=700)
    refused = next(at for at in lane.sent if at >= 10)
    later = [at for at in lane.sent if at > 12]
    assert later[0] >= refused + 578
    assert later[1] > later[0] + 0.4  # the first one's answer came before
    assert lane.rate(650, 700) > 0.9 * 20


@pytest.mark.parametrize("seconds", [0.01, 0.2, 5.0])
def test_nothing_stalls_when_a_server_is_always_full(seconds):
    """A server without any room, whatever its speed, is asked at most a few hundred times an hour."""
    lane = run(Slots(at=lambda _now: 0, seconds=seconds), Gates(), until=3_600)
    assert 30 < len(lane.sent) < 300
    assert math.isfinite(lane.now)
