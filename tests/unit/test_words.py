"""Values in readable form."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from batchkit import formatting


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0 s"),
        (0.9, "0 s"),
        (59.9, "59 s"),
        (60, "1 min 00 s"),
        (425, "7 min 05 s"),
        (3_600 * 3 + 60 * 12, "3 h 12 min"),
        (86_400 * 2 + 3_600 * 4, "2 d 4 h"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds, text):
    """Seconds become the two largest units, rounded down."""
    assert formatting.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "10 s"),
        (11, "20 s"),
        (50, "50 s"),
        (51, "1 min"),
        (61, "2 min"),
        (7_199, "120 min"),
        (7_201, "3 h"),
        (86_400 * 2 + 1, "3 days"),
    ],
)
def test_an_estimate_is_rounded_up(seconds, text):
    """An estimate is never exact to the second, nor too early."""
    assert formatting.rough_duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 bytes"),
        (1, "1 byte"),
        (999, "999 bytes"),
        (1_000, "1.0 kB"),
        (999_940, "999.9 kB"),
        (999_960, "1.0 MB"),
        (1_234_567_890, "1.2 GB"),
    ],
)
def test_a_size_is_in_powers_of_a_thousand(count, text):
    """Bytes are counted as the provider counts them."""
    assert formatting.size(count) == text


@pytest.mark.parametrize(
    ("count", "text"), [(9_999, "9,999"), (10_000, "10.0k"), (999_960, "1.0M"), (12_345_678, "12.3M")]
)
def test_large_counts_are_short(count, text):
    """Up to 9,999 a count is exact, then it has three digits."""
    assert formatting.short_count(count) == text


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 10, "0 %"), (1, 1_000_000, "0.1 %"), (1, 3, "33.3 %"), (999_999, 1_000_000, "99.9 %"), (5, 5, "100 %")],
)
def test_a_percentage_is_0_or_100_only_when_it_is_exact(part, whole, text):
    """One remaining request keeps a million from being 100 %."""
    assert formatting.percent(part, whole) == text


def test_nouns_agree_with_their_counts():
    """One request, two requests, three batches."""
    assert formatting.counted(1, "request") == "1 request"
    assert formatting.counted(2_000, "request") == "2,000 requests"
    assert formatting.counted(3, "batch", "batches") == "3 batches"


def test_foreign_text_cannot_move_the_cursor():
    """Escape sequences and line breaks in a provider's message do not reach a terminal."""
    assert formatting.printable("a\n\tb\x1b[31mred\x07", 100) == "a b\ufffd[31mred\ufffd"
    assert formatting.printable("x" * 50, 10) == "xxxxxxx..."


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        ("2026-03-03 14:05", "14:05 UTC"),
        ("2026-03-04 14:05", "Wed 14:05 UTC"),
        ("2026-03-02 23:59", "Mon 23:59 UTC"),
        ("2026-03-09 14:05", "Mon 9 Mar 14:05 UTC"),
        ("2027-01-01 00:00", "Fri 1 Jan 2027 00:00 UTC"),
    ],
)
def test_a_time_nearby_is_written_with_its_day(moment, text):
    """The weekday is added on another day, and the date where the weekday might mean another week."""
    at, now = (
        datetime.strptime(words_, "%Y-%m-%d %H:%M").replace(tzinfo=UTC).timestamp()
        for words_ in (moment, "2026-03-03 12:00")
    )
    assert formatting.when(at, now, utc=True) == text


def test_a_time_is_local_unless_it_says_utc():
    """A terminal shows local time."""
    now = 1_750_000_000.0
    assert formatting.when(now, now) == f"{datetime.fromtimestamp(now):%H:%M}"  # noqa: DTZ006 - local time is meant


def test_models_lose_their_makers_while_they_stay_different():
    """The maker of a model is left out unless two models then have the same name; the order is kept."""
    assert formatting.short_models(["b/large", "a/small", "b/large"]) == {"b/large": "large", "a/small": "small"}
    assert formatting.short_models(["a/small", "b/small", "plain"]) == {
        name: name for name in ("a/small", "b/small", "plain")
    }
