from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.provider.headers import LONGEST_WAIT_SECONDS, parse_duration, rate_limit_reset, retry_after

NOW = 1_750_000_000.0  # Sun, 15 Jun 2025 15:06:40 GMT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2m59.56s", 179.56),
        ("7.66s", 7.66),
        ("6s", 6.0),
        ("120ms", 0.12),
        ("1h0m1s", 3601.0),
        ("24h", 86_400.0),
        ("1.5h", 5400.0),
        ("12\u00b5s", 12e-6),
        (" 6s ", 6.0),
        ("6", None),
        ("s", None),
        ("", None),
        ("6s later", None),
        ("-6s", None),
        ("1d", None),
        ("1s" * 40, None),
    ],
)
def test_durations(text: str, seconds: float | None) -> None:
    """Go durations are parsed; anything else is None."""
    assert parse_duration(text) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry-after": "12"}, 12.0),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "-3"}, 0.0),
        ({"retry-after": "1e9"}, LONGEST_WAIT_SECONDS),
        ({"retry-after": "9m38.016s"}, 578.016),
        ({"retry-after": "Sun, 15 Jun 2025 15:07:40 GMT"}, 60.0),
        ({"retry-after": "Sunday, 15-Jun-25 15:07:40 GMT"}, 60.0),
        ({"retry-after": "Sun Jun 15 15:07:40 2025"}, 60.0),
        ({"retry-after": "Sun, 15 Jun 2025 15:00:00 GMT"}, 0.0),
        ({"retry-after": "Sun, 15 Jun 2025 16:00:10 GMT", "date": "Sun, 15 Jun 2025 16:00:00 GMT"}, 10.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "  "}, None),
        ({}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    """All spellings give seconds from now, never negative, never more than a day."""
    assert retry_after(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"x-ratelimit-reset-requests": "2m59.56s", "x-ratelimit-reset-tokens": "7.66s"}, 7.66),
        (
            {
                "x-ratelimit-reset-requests": "2m",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "7s",
                "x-ratelimit-remaining-tokens": "100",
            },
            120.0,
        ),
        (
            {
                "x-ratelimit-reset-requests": "2m",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "7s",
                "x-ratelimit-remaining-tokens": "0",
            },
            120.0,
        ),
        ({"x-ratelimit-reset": "30"}, 30.0),
        ({"x-ratelimit-reset": "1750000045"}, 45.0),
        ({"x-ratelimit-reset-requests": "tomorrow"}, None),
        ({"x-ratelimit-limit-requests": "14400"}, None),
        ({}, None),
    ],
)
def test_rate_limit_reset(headers: dict[str, str], seconds: float | None) -> None:
    """The exhausted limit decides; if none is exhausted, the earliest reset does."""
    assert rate_limit_reset(headers, now=NOW) == (None if seconds is None else pytest.approx(seconds))


@given(st.text(), st.text(), st.text())
def test_no_header_crashes(wait: str, date: str, reset: str) -> None:
    """Whatever the headers contain, the result is None or seconds between 0 and a day."""
    found = retry_after({"retry-after": wait, "date": date}, now=NOW)
    reset_in = rate_limit_reset({"x-ratelimit-reset-x": reset, "x-ratelimit-remaining-x": wait}, now=NOW)
    for seconds in (found, reset_in):
        assert seconds is None or 0 <= seconds <= LONGEST_WAIT_SECONDS
