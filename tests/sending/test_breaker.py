from __future__ import annotations

import math

from batchkit.sending.breaker import Breaker


def fail(breaker: Breaker, now: float, *, floor: bool = False, broken: bool = True) -> None:
    """Let a request of now fail."""
    breaker.failed(breaker.trip, "down", now, is_at_floor=floor, is_broken=broken)


def test_ten_failures_in_a_row_park_it():
    """Nine do not."""
    breaker = Breaker()
    for _ in range(9):
        fail(breaker, 5.0)
    assert breaker.ask_again_at(5.0) == 0.0
    fail(breaker, 6.0)
    assert (breaker.ask_again_at(6.0), breaker.since, breaker.reason) == (7.0, 5.0, "down")


def test_an_answer_in_between_counts_anew():
    """The failures have to be in a row."""
    breaker = Breaker()
    for _ in range(5):
        for _ in range(9):
            fail(breaker, 5.0)
        breaker.succeeded(breaker.trip)
    assert not breaker.is_open


def test_refusals_park_it_at_the_floor_after_a_minute():
    """Refusals above the floor are the window's business, and fewer seconds are not enough."""
    breaker = Breaker()
    for _ in range(100):
        fail(breaker, 0.0, broken=False)
    fail(breaker, 200.0, broken=False)
    assert not breaker.is_open
    breaker = Breaker()
    fail(breaker, 10.0, floor=True, broken=False)
    fail(breaker, 69.0, floor=True, broken=False)
    assert not breaker.is_open
    fail(breaker, 70.0, floor=True, broken=False)
    assert (breaker.is_open, breaker.since) == (True, 10.0)


def test_one_probe_at_a_time_and_growing_pauses():
    """1, 2, 4, ... 60 seconds; a second request waits for the probe's end."""
    breaker = Breaker(failures=1)
    now, pauses = 0.0, []
    fail(breaker, now)
    for _ in range(9):
        pauses.append(breaker.until - now)
        now = breaker.until
        assert breaker.ask_again_at(now - 0.01) == now
        assert breaker.ask_again_at(now) == 0.0
        assert breaker.admitted()
        assert breaker.ask_again_at(now) == math.inf
        fail(breaker, now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    breaker.admitted()
    breaker.succeeded(breaker.trip)
    assert (breaker.is_open, breaker.ask_again_at(now)) == (False, 0.0)
    assert not breaker.admitted()
    fail(breaker, now)
    assert breaker.until == now + 1


def test_the_ends_of_requests_from_before_change_nothing():
    """200 requests in flight that fail together are one failure; a late answer does not end a wait for tomorrow."""
    breaker = Breaker()
    old = breaker.trip
    for _ in range(200):
        breaker.failed(old, "down", 1.0, is_at_floor=False, is_broken=True)
    assert breaker.until == 2.0
    breaker.park(50_000.0, "tokens per day", 3.0)
    breaker.succeeded(old)
    assert breaker.ask_again_at(4.0) == 50_000.0


def test_a_probe_that_was_not_sent_leaves_room_for_another():
    """Otherwise the key would wait for ever."""
    breaker = Breaker(failures=1)
    fail(breaker, 0.0)
    breaker.admitted()
    breaker.probe_given_back(breaker.trip)
    assert breaker.ask_again_at(5.0) == 0.0
