"""What replies of ordinary endpoints say about limits, and what they mean."""

from __future__ import annotations

import json  # noqa: TID251 - the bodies are the server's
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.provider.call_reply import CallEnd, CallReply
from batchkit.provider.call_verdicts import CallVerdict, judge
from batchkit.provider.dialect import OrdinaryCalls
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.rate_limits import LimitDimension, LimitPeriod, limit_of_words, limits_of_headers

NOW = 1_750_000_000.0
DAY = "Rate limit reached for model `m` in organization `org_1` on tokens per day (TPD): Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s. Visit ..."
HUGE = "Request too large for model `m` in organization `o` service tier `on_demand` on tokens per minute (TPM): Limit 6000, Requested 8120, please reduce your message size"


def reply(status: int, error: object = None, *, kind: str = "application/json", **headers: str) -> CallReply:
    """Return a complete reply with an error body."""
    body = b"" if error is None else json.dumps({"error": error}).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return CallReply(
        end=CallEnd.ANSWERED,
        status=status,
        body=body,
        headers={"content-type": kind, **names},
        message="POST /x: HTTP 1",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DAY, ("tokens", "day", 100_000, 97_050, 3_619)),
        (HUGE, ("tokens", "minute", 6_000, None, 8_120)),
        ("on requests per minute (RPM): Limit 30, Used 30, Requested 1. Please", ("requests", "minute", 30, 30, 1)),
        ("on requests per day (RPD): Limit 1,000, Used 1,000, Requested 1", ("requests", "day", 1_000, 1_000, 1)),
        ("on input tokens per minute (ITPM): Limit 9, Used 8, Requested 7", ("input tokens", "minute", 9, 8, 7)),
        ("on output tokens per minute (OTPM): Limit 9", ("output tokens", "minute", 9, None, None)),
        (
            "on seconds of audio per hour (ASPH): Limit 7200, Used 7200, Requested 31",
            ("audio seconds", "hour", 7_200, 7_200, 31),
        ),
        ("Limit reached on audio seconds per day (ASD): Limit: 28800", ("audio seconds", "day", 28_800, None, None)),
        (
            "Rate limit reached for gpt on tokens per min (TPM): Limit 30000, Used 1, Requested 2",
            ("tokens", "minute", 30_000, 1, 2),
        ),
        ("on tokens per day (TPD): Limit 0, Used 5, Requested 1", ("tokens", "day", None, 5, 1)),
        ("on tokens per day (TPD): Limit 99999999999999999, Used 5", ("tokens", "day", None, 5, None)),
        ("too many requests", None),
        ("", None),
        (None, None),
    ],
)
def test_a_refusal_names_its_limit(text, expected):
    """Dimension, period, limit, used, requested; a number that cannot be one is left out."""
    found = limit_of_words(text)
    values = found and (found.dimension, found.period, found.limit, found.used, found.requested)
    assert values == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, []),
        (
            {
                "limit-requests": "14400",
                "remaining-requests": "14370",
                "reset-requests": "2m59.56s",
                "limit-tokens": "6000",
            },
            [("requests", "day", 14_400, 14_370, 179.56), ("tokens", "minute", 6_000, None, None)],
        ),
        ({"remaining-tokens": "0", "reset-tokens": "7.66s"}, [("tokens", "minute", None, 0, 7.66)]),
        ({"limit-tokens": "-5", "remaining-tokens": "nan"}, []),
        ({"limit-tokens": "1e300", "remaining-tokens": "9" * 400}, []),
        ({"limit-tokens": "6000", "reset-tokens": "9999h"}, [("tokens", "minute", 6_000, None, 60)]),
    ],
)
def test_headers_have_limits(headers, expected):
    """Those of requests count per day where the dialect says so."""
    found = limits_of_headers({f"x-ratelimit-{name}": value for name, value in headers.items()}, GROQ.calls)
    assert [(seen.dimension, seen.period, seen.limit, seen.remaining, seen.reset_seconds) for seen in found] == expected


def test_headers_of_other_servers_count_per_minute():
    """This is the default."""
    (found,) = limits_of_headers({"x-ratelimit-limit-requests": "500"}, OrdinaryCalls())
    assert (found.dimension, found.period) == (LimitDimension.REQUESTS, LimitPeriod.MINUTE)


@pytest.mark.parametrize(
    ("answered", "verdict", "wait"),
    [
        (reply(200), CallVerdict.ANSWER, None),
        (reply(200, kind="text/html; charset=utf-8"), CallVerdict.WRONG_ADDRESS, None),
        (reply(400, {"message": "bad", "code": "invalid"}), CallVerdict.ANSWER, None),
        (reply(404, {"message": "no such model", "code": "model_not_found"}), CallVerdict.ANSWER, None),
        (reply(422, {"message": "no"}), CallVerdict.ANSWER, None),
        (reply(404, {"message": "Unknown request URL", "code": "unknown_url"}), CallVerdict.WRONG_ADDRESS, None),
        (replace(reply(404), body=b'{"detail": "Not Found"}'), CallVerdict.WRONG_ADDRESS, None),
        (reply(404, kind="text/html"), CallVerdict.WRONG_ADDRESS, None),
        (reply(405), CallVerdict.WRONG_ADDRESS, None),
        (reply(400, kind="text/html"), CallVerdict.SERVER_ERROR, None),
        (reply(413, kind="text/html"), CallVerdict.ANSWER, None),
        (reply(413, {"message": HUGE, "type": "tokens", "code": "rate_limit_exceeded"}), CallVerdict.TOO_LARGE_FOR_LIMIT, None),
        (reply(413, {"message": "too large", "type": "tokens"}), CallVerdict.TOO_LARGE_FOR_LIMIT, None),
        (reply(413, {"message": "Request Entity Too Large", "code": "request_too_large"}), CallVerdict.ANSWER, None),
        (reply(429, {"message": HUGE, "type": "tokens"}), CallVerdict.TOO_LARGE_FOR_LIMIT, None),
        (reply(429, {"message": DAY, "type": "tokens"}), CallVerdict.LIMITED_LONG, 578.016),
        (reply(429, {"message": DAY, "type": "tokens"}, retry_after="12"), CallVerdict.LIMITED_SHORT, 12),
        (reply(429, {"message": "on tokens per day (TPD): Limit 9"}), CallVerdict.LIMITED_LONG, None),
        (reply(429, {"message": "on tokens per minute (TPM): Limit 9"}), CallVerdict.LIMITED_SHORT, None),
        (reply(429, retry_after="90"), CallVerdict.LIMITED_SHORT, 90),
        (reply(429, retry_after="91"), CallVerdict.LIMITED_LONG, 91),
        (reply(429, retry_after="1e9"), CallVerdict.LIMITED_LONG, 86_400),
        (reply(429), CallVerdict.LIMITED_SHORT, None),
        (reply(429, {"message": "x"}, x_ratelimit_reset_tokens="7.5s", x_ratelimit_remaining_tokens="0"), CallVerdict.LIMITED_SHORT, 7.5),
        (reply(429, {"message": "You exceeded your current quota", "code": "insufficient_quota"}), CallVerdict.ACCOUNT, None),
        (reply(498, {"message": "full", "code": "capacity_exceeded"}), CallVerdict.CAPACITY, None),
        (reply(503, retry_after="3"), CallVerdict.CAPACITY, 3),
        (reply(500), CallVerdict.SERVER_ERROR, None),
        (reply(502, kind="text/html"), CallVerdict.SERVER_ERROR, None),
        (reply(408, {"message": "slow"}), CallVerdict.SERVER_ERROR, None),
        (reply(400, {"message": "`service_tier` `auto` is not available for this org"}), CallVerdict.TIER, None),
        (reply(400, {"message": "no", "param": "service_tier"}), CallVerdict.TIER, None),
        (reply(401, {"message": "Invalid API Key", "code": "invalid_api_key"}), CallVerdict.ACCOUNT, None),
        (reply(402), CallVerdict.ACCOUNT, None),
        (reply(403, {"message": "no"}), CallVerdict.ACCOUNT, None),
        (reply(403, {"message": "The model m is blocked", "code": "model_permission_blocked"}), CallVerdict.ANSWER, None),
        (reply(307, location="https://login.example/?token=secret"), CallVerdict.REDIRECT, None),
        (CallReply(end=CallEnd.NOT_SENT), CallVerdict.NOT_SENT, None),
        (CallReply(end=CallEnd.IN_DOUBT, status=200), CallVerdict.IN_DOUBT, None),
    ],
)  # fmt: skip
def test_each_end_has_one_meaning(answered, verdict, wait):
    """By status, headers and words."""
    found = judge(answered, dialect=GROQ, now=NOW)
    assert (found.verdict, found.wait_seconds) == (verdict, wait)


def test_a_request_that_is_too_large_for_the_limit_has_a_remedy():
    """The message says by how much, and that waiting never helps."""
    found = judge(reply(413, {"message": HUGE, "type": "tokens"}), dialect=GROQ, now=NOW)
    assert "the request asks for 8,120, the limit is 6,000 tokens per minute" in found.message
    assert "lower its max_completion_tokens by 2,120 or more" in found.message
    assert "waiting never helps" in found.message


def test_configuration_errors_have_hints_and_no_secrets():
    """A redirect shows its target without the query."""
    found = judge(reply(307, location="https://login.example/?token=secret"), dialect=GROQ, now=NOW)
    assert "https://login.example/" in found.message
    assert "secret" not in found.message
    assert found.hint == GROQ.hints.address
    assert judge(reply(401, {"message": "no"}), dialect=GROQ, now=NOW).hint == GROQ.hints.by_status[401]


@given(
    status=st.integers(100, 999),
    body=st.one_of(
        st.binary(max_size=200),
        st.recursive(
            st.none() | st.integers() | st.floats() | st.text(),
            lambda inner: (
                st.lists(inner)
                | st.dictionaries(st.sampled_from(["error", "message", "code", "detail", "type", "param"]), inner)
            ),
        ).map(lambda value: json.dumps(value).encode()),
    ),
    value=st.text(st.characters(max_codepoint=255), max_size=40),
)
def test_no_reply_breaks_the_reading(status, body, value):
    """Whatever a server sends has a meaning, within bounds."""
    names = (
        "retry-after",
        "x-ratelimit-limit-tokens",
        "x-ratelimit-remaining-tokens",
        "x-ratelimit-reset-tokens",
        "date",
    )
    answered = CallReply(
        end=CallEnd.ANSWERED, status=status, body=body, headers=dict.fromkeys(names, value), message="m"
    )
    found = judge(answered, dialect=GROQ, now=NOW)
    assert found.wait_seconds is None or 0 <= found.wait_seconds <= 86_400
    assert len(found.message) < 700


@given(
    st.text(max_size=300)
    | st.builds(
        lambda number, rest: f"on tokens per day (TPD): Limit {number}, Used {number}{rest}",
        st.integers() | st.floats(),
        st.text(),
    )
)
def test_no_words_break_the_reading(text):
    """Numbers that come out are usable."""
    found = limit_of_words(text)
    if found is not None:
        assert found.limit is None or 1 <= found.limit <= 1e12
        assert found.used is None or 0 <= found.used <= 1e12
