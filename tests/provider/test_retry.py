from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from batchkit.errors import (
    ConfigurationError,
    Forbidden,
    NotFound,
    OutcomeUnknown,
    ProviderError,
    ProviderRefused,
    ProviderUnreachable,
    RateLimited,
    TooLarge,
    Unauthorized,
)
from batchkit.models import BatchId, FileId

from .conftest import short_read_timeout
from .server import Reply, answer, as_json, hang_up, raw, refusal, reset, silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import ScriptedServer

BATCH = {"id": "batch_1", "status": "in_progress"}
HTML = answer(b"<html>bad gateway</html>", 502, content_type="text/html")

PASSING: dict[str, Reply] = {
    "hung up": hang_up,
    "reset": reset,
    "read time-out": silence,
    "cut body": raw(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"),
    "not JSON": answer(b"ok"),
    "500": refusal(500),
    "502 page": HTML,
    "408": refusal(408),
    "425": refusal(425),
    "429": refusal(429),
    "498": refusal(498),
    "503": refusal(503),
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING.keys())
def test_temporary_trouble_is_retried(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime, trouble: Reply
) -> None:
    """A call without a costly effect is repeated after growing waits until it works."""
    server.script(trouble, trouble, as_json(BATCH))
    assert connect(**short_read_timeout(trouble)).get_batch(BatchId("batch_1")).id == "batch_1"
    assert server.calls() == ["GET /batches/batch_1"] * 3
    assert time.slept == [0.5, 1.0]


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING.keys())
def test_attempts_end(server: ScriptedServer, connect: Callable[..., BatchApi], trouble: Reply) -> None:
    """After ``attempts`` attempts the last error is raised."""
    server.otherwise = trouble
    with pytest.raises((OutcomeUnknown, RateLimited)):
        connect(**short_read_timeout(trouble)).get_batch(BatchId("batch_1"))
    assert len(server.seen) == 3


REFUSALS: dict[int, type[ProviderRefused]] = {
    307: ProviderRefused,
    400: ProviderRefused,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: ProviderRefused,
    410: NotFound,
    413: TooLarge,
    422: ProviderRefused,
}


@pytest.mark.parametrize(("status", "kind"), REFUSALS.items())
@pytest.mark.parametrize("body", [b"", b"<html></html>", b'{"detail": "no"}'])
def test_refusals_are_not_retried(
    server: ScriptedServer, provider: BatchApi, status: int, kind: type[ProviderRefused], body: bytes
) -> None:
    """A refusal keeps its kind, whatever its body, and is not repeated."""
    server.otherwise = answer(body, status)
    with pytest.raises(ProviderRefused) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert len(server.seen) == 1


def test_unreachable_is_retried(connect: Callable[..., BatchApi], time: FakeTime) -> None:
    """A refused connection is retried, then raised as ``ProviderUnreachable``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnreachable):
        connect(base_url=f"http://127.0.0.1:{port}/openai/v1").get_batch(BatchId("batch_1"))
    assert time.slept == [0.5, 1.0]


def test_an_unknown_host_is_unreachable(connect: Callable[..., BatchApi]) -> None:
    """A name that does not resolve proves that nothing was sent (RFC 6761 reserves .invalid)."""
    provider = connect(base_url="https://batchkit.invalid/openai/v1", attempts=1)
    with pytest.raises(ProviderUnreachable):
        provider.get_batch(BatchId("batch_1"))


def test_backoff_grows_to_its_limit(server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime) -> None:
    """The waits double from half a second to eight, and jitter reduces them by up to half."""
    server.otherwise = refusal(500)
    with pytest.raises(OutcomeUnknown):
        connect(attempts=8).get_batch(BatchId("batch_1"))
    assert time.slept == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0]
    time.slept.clear()
    with pytest.raises(OutcomeUnknown):
        connect(attempts=3, jitter=lambda: 0.0).get_batch(BatchId("batch_1"))
    assert time.slept == [0.25, 0.5]


def test_total_time_ends_the_attempts(server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime) -> None:
    """No wait begins that would end after the total time, however many attempts are left."""
    server.otherwise = refusal(500)
    with pytest.raises(OutcomeUnknown):
        connect(attempts=100, total_seconds=10.0).get_batch(BatchId("batch_1"))
    assert time.slept == [0.5, 1.0, 2.0, 4.0]
    assert len(server.seen) == 5


@pytest.mark.parametrize(
    ("value", "wait"),
    [
        ("3", 3.3),
        ("2.5", 2.75),
        ("7.66s", 8.426),
        ("120ms", 0.5),
        ("20", 21.0),
        ("Sun, 15 Jun 2025 15:06:45 GMT", 5.5),
    ],
)
def test_retry_after_is_honoured(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, value: str, wait: float
) -> None:
    """The server's wait is kept, plus up to a tenth (at most a second), in every spelling in use."""
    server.script(refusal(429, retry_after=value), as_json(BATCH))
    provider.get_batch(BatchId("batch_1"))
    assert time.slept == [pytest.approx(wait)]


def test_retry_after_counts_for_a_503(server: ScriptedServer, provider: BatchApi, time: FakeTime) -> None:
    """A server that is down for a moment may say for how long (RFC 9110, section 10.2.3)."""
    server.script(refusal(503, retry_after="4"), as_json(BATCH))
    provider.get_batch(BatchId("batch_1"))
    assert time.slept == [pytest.approx(4.4)]


def test_a_long_503_is_not_waited_for(server: ScriptedServer, provider: BatchApi, time: FakeTime) -> None:
    """A long maintenance is left to the caller."""
    server.otherwise = refusal(503, retry_after="600")
    with pytest.raises(OutcomeUnknown):
        provider.get_batch(BatchId("batch_1"))
    assert (len(server.seen), time.slept) == (1, [])


@pytest.mark.parametrize(
    "value",
    [
        "0",
        "-5",
        "-0",
        "nan",
        "inf",
        "1e-9",
        "0ms",
        "soon",
        "Sun, 15 Jun 2025 15:06:39 GMT",
        "Thu, 01 Jan 1970 00:00:00 GMT",
    ],
)
@pytest.mark.parametrize("status", [429, 503])
def test_a_wait_of_zero_is_the_ordinary_one(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, status: int, value: str
) -> None:
    """No ``Retry-After`` turns the retries into a hot loop."""
    server.script(refusal(status, retry_after=value), refusal(status, retry_after=value), as_json(BATCH))
    provider.get_batch(BatchId("batch_1"))
    assert time.slept == [0.5, 1.0]


@pytest.mark.parametrize("value", ["31536000", "1e300", "9" * 300, "Fri, 31 Dec 9999 23:59:59 GMT", "8760h"])
def test_a_wait_of_a_year_is_a_day_for_the_caller(
    server: ScriptedServer, provider: BatchApi, time: FakeTime, value: str
) -> None:
    """The call itself does not wait for it."""
    server.otherwise = refusal(429, retry_after=value)
    with pytest.raises(RateLimited) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert caught.value.retry_after_seconds == 86_400.0
    assert (len(server.seen), time.slept) == (1, [])


@pytest.mark.parametrize("value", ["0", "-5", "Thu, 01 Jan 1970 00:00:00 GMT"])
def test_a_wait_of_zero_is_passed_to_the_caller_unchanged(
    server: ScriptedServer, provider: BatchApi, value: str
) -> None:
    """The caller has its own minimum."""
    server.otherwise = refusal(429, retry_after=value)
    with pytest.raises(RateLimited) as caught:
        provider.create_batch(input_file_id=FileId("f"), endpoint="/v1", window="24h", metadata={})
    assert caught.value.retry_after_seconds == 0.0


@pytest.mark.parametrize(
    ("headers", "message", "seconds"),
    [
        ({"retry_after": "31"}, "no", 31.0),
        ({"retry_after": "2m59.56s"}, "no", 179.56),
        ({"retry_after": "99999999"}, "no", 86_400.0),
        ({"x_ratelimit_reset_requests": "1h2m", "x_ratelimit_remaining_requests": "0"}, "no", 3720.0),
        ({}, "Rate limit reached. Please try again in 9m38.016s. Visit ...", 578.016),
    ],
)
def test_a_long_wait_is_passed_to_the_caller(
    server: ScriptedServer,
    provider: BatchApi,
    time: FakeTime,
    *,
    headers: dict[str, str],
    message: str,
    seconds: float,
) -> None:
    """A wait above the cap is raised at once, with its seconds, so that the caller can plan it."""
    server.otherwise = refusal(429, message, "rate_limit_exceeded", **headers)
    with pytest.raises(RateLimited) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert caught.value.retry_after_seconds == pytest.approx(seconds)
    assert caught.value.code == "rate_limit_exceeded"
    assert (len(server.seen), time.slept) == (1, [])


def test_the_cap_is_an_option(server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime) -> None:
    """With a larger cap the call waits, with a smaller one it raises."""
    server.script(refusal(429, retry_after="45"), as_json(BATCH))
    connect(retry_after_cap_seconds=60.0).get_batch(BatchId("batch_1"))
    assert time.slept == [46.0]


def test_a_rate_limit_without_a_wait_has_none(server: ScriptedServer, provider: BatchApi) -> None:
    """A 429 that names no wait is raised with None after all attempts."""
    server.otherwise = refusal(429)
    with pytest.raises(RateLimited) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert caught.value.retry_after_seconds is None


def test_a_redirect_is_not_followed(server: ScriptedServer, provider: BatchApi) -> None:
    """The key is not sent to a redirect's target; the error names the target so that the address can be corrected."""
    server.otherwise = answer(b"", 301, location="https://other.example/openai/v1/batches/batch_1?token=secret")
    with pytest.raises(ProviderRefused) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert "https://other.example" in caught.value.message
    assert "token" not in caught.value.message
    assert "base URL" in (caught.value.hint or "")
    assert len(server.seen) == 1


def test_hints_say_what_to_do(server: ScriptedServer, provider: BatchApi) -> None:
    """The plan gate, a wrong key and a missing object each have a hint with the next step."""
    server.script(
        refusal(403, "Not available", "not_available_for_plan"),
        refusal(403, "Not allowed"),
        refusal(401, "Invalid API Key", "invalid_api_key"),
        refusal(404, "No such batch"),
        answer(b"", 401),
    )
    expected = ["Developer tier", "permissions", "GROQ_API_KEY", "/openai/v1", "GROQ_API_KEY"]
    for words in expected:
        with pytest.raises(ProviderError) as caught:
            provider.get_batch(BatchId("batch_1"))
        assert words in (caught.value.hint or "")


def test_quoted_bodies_are_cut(server: ScriptedServer, provider: BatchApi) -> None:
    """A foreign body is quoted on one line, cut to about 300 characters, without encoded payloads."""
    server.script(
        answer(b"word \n\t" * 1_000, 400, content_type="text/plain"), refusal(400, "bad image " + "aGVsbG8" * 90)
    )
    with pytest.raises(ProviderRefused) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert len(caught.value.message) < 350
    assert "\n" not in caught.value.message
    with pytest.raises(ProviderRefused) as caught:
        provider.get_batch(BatchId("batch_1"))
    assert caught.value.message.endswith("bad image [630 characters]")


def test_the_cause_is_kept_without_frames(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """The library's exception stays visible as the cause, but without its frames, whose variables hold the key."""
    server.otherwise = hang_up
    with pytest.raises(OutcomeUnknown) as caught:
        connect(attempts=1).get_batch(BatchId("batch_1"))
    cause = caught.value.__cause__
    assert type(cause).__name__ == "RemoteProtocolError"
    assert cause is not None
    assert (cause.__traceback__, cause.__cause__, cause.__context__) == (None, None, None)


@pytest.mark.parametrize("option", ["connect_timeout_seconds", "read_timeout_seconds", "attempts", "max_connections"])
def test_numbers_must_be_positive(connect: Callable[..., BatchApi], option: str) -> None:
    """Zero for a number that must be positive is a ``ConfigurationError``."""
    with pytest.raises(ConfigurationError):
        connect(**{option: 0})


def test_an_interrupt_is_not_delayed(connect: Callable[..., BatchApi], server: ScriptedServer) -> None:
    """An interrupt during a wait is raised at once."""

    def interrupted(_seconds: float) -> None:
        raise KeyboardInterrupt

    server.otherwise = refusal(500)
    with pytest.raises(KeyboardInterrupt):
        connect(sleep=interrupted).get_batch(BatchId("batch_1"))
    assert len(server.seen) == 1
