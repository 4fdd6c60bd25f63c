"""Nights of one suite with planted events: each says what a careful reader of its rows would say."""

from __future__ import annotations

import pytest

from tests.evaluation.year import LEVEL, Year, largest_count, play
from tests.evaluation.year_plan import NIGHTS, events

#: All events but the decay, close together.
SAMPLE = 16


def test_a_sample_of_nights_says_what_was_planted(tmp_path):
    """No event has a wrong verdict, each fall is told, and what is told is about what fell."""
    year = Year(list(play(tmp_path, seed=1, nights=SAMPLE)))
    assert [(night.number, night.verdict, night.said) for night in year.wrong()] == []
    assert [night.verdict for night in year.nights if night.event is None] == ["first"]
    assert [
        (event.name, year.found_after(event))
        for event in events(SAMPLE)
        if event.is_to_be_found and event.first <= SAMPLE
    ] == [
        ("one model falls by 0.10", 1),
        ("30 % of answers fail", 1),
        ("one model's smallest slice falls by 0.45", 1),
    ]


def test_what_a_night_says_is_about_what_was_planted(tmp_path):
    """The reasons name the scorer's error, the slice, and the model that fell."""
    said = {night.event.name: night.said for night in play(tmp_path, seed=1, nights=11) if night.event is not None}
    assert (
        "0 of 300 answers scored; 300 that the scorer could not decide (300 times: KeyError: 'renamed')"
        in said["scorer fails on all answers"]
    )
    assert said["one model falls by 0.10"].startswith("accuracy of openai/gpt-oss-20b fell by 0.")
    assert (
        "accuracy of openai/gpt-oss-20b in category=garden fell by 0."
        in said["one model's smallest slice falls by 0.45"]
    )


def test_the_bound_of_false_alarms():
    """Of 100 nights at level 1 % more than 4 false alarms have a chance below 1 %."""
    assert (largest_count(100), largest_count(300), LEVEL) == (4, 8, 0.01)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("models", [2, 4])
def test_a_year_of_nights_says_what_was_planted(tmp_path, models):
    """No event has a wrong verdict, no more nights are wrong than the level allows, and the falls and the decay are found."""
    year = Year(list(play(tmp_path, seed=1, models=models)))
    assert len(year.nights) == NIGHTS
    assert [(night.number, night.verdict, night.said) for night in year.wrong()] == []
    assert year.false_alarms() <= largest_count(len(year.quiet))
    assert year.false_at_any_fall() <= largest_count(len(year.quiet))
    assert [event.name for event in events() if event.is_to_be_found and year.found_after(event) is None] == []
    falls = [event for event in events() if event.is_to_be_found and not event.is_gradual]
    for event in falls:
        told, since = year.told_on(event)
        assert told == since >= len(year.nights_of(event)) - 1, event.name
