"""How long it will still take."""

from __future__ import annotations

from batchkit.cli.pace import Pace


def test_without_evidence_nothing_is_promised():
    """One step forward is no rate."""
    pace = Pace()
    pace.see(0, 0)
    assert pace.remaining_seconds(60, 100) is None
    pace.see(60, 50)
    assert pace.remaining_seconds(61, 50) is None


def test_the_estimate_follows_the_observed_rate():
    """Ten a second for a minute: the other six hundred take another minute."""
    pace = Pace()
    for second in range(0, 61, 10):
        pace.see(second, second * 10)
    assert pace.remaining_seconds(60, 600) == 60


def test_silence_makes_the_estimate_longer():
    """Whoever has been silent for ten minutes is not expected back in ten seconds."""
    pace = Pace()
    pace.see(0, 0)
    pace.see(5, 450)
    pace.see(10, 891)
    assert pace.remaining_seconds(10, 109) == 109 * 10 / 891
    assert pace.remaining_seconds(610, 109) == 600


def test_only_the_last_while_counts():
    """A fast beginning an hour ago is no promise for the rest."""
    pace = Pace(window_seconds=100)
    for second in range(0, 50, 10):
        pace.see(second, second * 100)
    for second in range(1_000, 1_101, 10):
        pace.see(second, 4_000 + (second - 1_000))
    remaining = pace.remaining_seconds(1_100, 100)
    assert remaining is not None
    assert 90 <= remaining <= 110


def test_requests_that_have_to_ride_again_lower_the_rate():
    """What is done can shrink when answers turn out to have expired."""
    pace = Pace()
    pace.see(0, 0)
    pace.see(10, 500)
    pace.see(20, 1_000)
    pace.see(30, 600)
    assert pace.remaining_seconds(30, 600) == 30


def test_when_nothing_moves_forward_the_end_is_unknown():
    """No gain, no estimate; and an estimate of weeks says nothing either."""
    pace = Pace()
    pace.see(0, 100)
    pace.see(10, 200)
    pace.see(20, 300)
    pace.see(30, 100)
    assert pace.remaining_seconds(40, 10) is None
    slow = Pace()
    for second in (0, 100, 200):
        slow.see(second, second // 100)
    assert slow.remaining_seconds(200, 1_000_000) is None


def test_nothing_left_takes_no_time():
    """The last request leaves nothing to wait for."""
    assert Pace().remaining_seconds(0, 0) == 0
