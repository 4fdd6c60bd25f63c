from __future__ import annotations

import pytest

from batchkit.sending.window import Window


def fill(window: Window, rounds: int = 1, share: float = 1.0) -> None:
    """Use ``share`` of the window, and answer as many requests as it has, so many times."""
    for _ in range(rounds):
        size = window.size
        window.admitted(round(size * share))
        for _ in range(size):
            window.succeeded(window.round, round(size * share))


def test_it_doubles_until_the_first_cut():
    """Slow start: 8, 16, 32, 64."""
    window = Window()
    sizes = [window.size]
    for _ in range(3):
        fill(window)
        sizes.append(window.size)
    assert sizes == [8, 16, 32, 64]


def test_it_grows_after_as_many_answers_as_it_has():
    """One less is not enough."""
    window = Window()
    window.admitted(8)
    for _ in range(7):
        window.succeeded(0, 8)
    assert window.size == 8
    window.succeeded(0, 8)
    assert window.size == 16


@pytest.mark.parametrize(("share", "size"), [(1.0, 200), (0.8, 200), (0.79, 100), (0.1, 100)])
def test_it_grows_only_while_it_is_used(share, size):
    """Four fifths of it, at some time of the round."""
    window = Window(start=100)
    fill(window, share=share)
    assert window.size == size


def test_a_cut_leaves_seven_tenths():
    """And ends slow start."""
    window = Window(start=100)
    assert window.refused(0, 99)
    assert window.size == 70
    fill(window)
    assert window.size == 98  # just below where it was refused


def test_one_cut_a_round_trip():
    """Refusals of requests from before the cut do not cut again; one of a later request does."""
    window = Window(start=100)
    old = window.round
    assert window.refused(old, 99)
    assert not any(window.refused(old, 90) for _ in range(30))
    assert window.size == 70
    assert window.refused(window.round, 69)
    assert window.size == 49


def test_answers_from_before_a_cut_do_not_let_it_grow():
    """They tell of the old window."""
    window = Window(start=100)
    old = window.round
    window.refused(old, 99)
    window.admitted(70)
    for _ in range(200):
        window.succeeded(old, 70)
    assert window.size == 70


def test_what_was_in_flight_at_the_last_refusal_is_the_new_ceiling():
    """A slow start that overshoots finds the capacity at once: 128 in flight, 28 of them refused."""
    window = Window(start=128)
    window.refused(0, 127)
    for in_flight in range(126, 99, -1):
        window.refused(0, in_flight)
    fill(window)
    assert window.size == 98
    # A refusal that comes late, when much has ended, changes little.
    window.refused(0, 3)
    fill(window)
    assert window.size >= 89


def test_it_rests_below_the_ceiling_and_then_grows_by_a_twentieth():
    """Each growth needs a clean window."""
    window = Window(start=100)
    window.refused(0, 99)
    fill(window, 25)
    assert window.size == 98
    fill(window)
    assert window.size == 103
    fill(window, 2)
    assert window.size == 113


def test_errors_slow_the_growth():
    """An error takes back a quarter of a window: with one in ten it does not grow, with one in a hundred it does."""
    for every, grows in ((10, False), (150, True)):
        window = Window(start=100)
        window.admitted(100)
        for number in range(1_000):
            if number % every == every - 1:
                window.failed()
            window.succeeded(0, 100)
        assert (window.size > 100) is grows


def test_it_can_begin_anew():
    """After an outage it doubles again, without a memory of where it was refused."""
    window = Window(start=100)
    for _ in range(20):
        window.refused(window.round, 1)
    window.restart()
    sizes = []
    for _ in range(5):
        fill(window)
        sizes.append(window.size)
    assert sizes == [2, 4, 8, 16, 32]


def test_it_has_bounds():
    """Never below the floor, never above the most."""
    window = Window(start=8, floor=2, most=20)
    fill(window, 5)
    assert window.size == 20
    for _ in range(20):
        window.refused(window.round, 1)
    assert window.size == 2
    assert window.is_at_floor
    fill(window, 100)
    assert window.size == 20
    assert Window(start=50, most=3).size == 3
