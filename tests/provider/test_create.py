from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from batchkit.errors import (
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
from batchkit.models import Batch, BatchId, FileId

from .conftest import short_read_timeout
from .server import Reply, answer, as_json, hang_up, raw, refusal, reset, sent_then_silence, silence

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.client import BatchApi

    from .conftest import FakeTime
    from .server import ScriptedServer

HTML = b"<html><title>502 Bad Gateway</title></html>"


def create(provider: BatchApi) -> Batch:
    """Create the batch of these tests."""
    return provider.create_batch(
        input_file_id=FileId("file_1"),
        endpoint="/v1/chat/completions",
        window="24h",
        metadata={"batchkit_key": "k1", "workload": "d\u00e9mo"},
    )


def html(status: int) -> Reply:
    """Answer with an HTML page, as gateways do."""
    return answer(HTML, status, content_type="text/html; charset=UTF-8")


def test_sends_the_documented_body(server: ScriptedServer, provider: BatchApi) -> None:
    """The POST has the four documented fields in its body and the key in its header."""
    server.script(as_json({"id": "batch_1", "status": "validating", "created_at": 1, "expires_at": 86_401}))
    batch = create(provider)
    (seen,) = server.seen
    assert (seen.method, seen.target) == ("POST", "/openai/v1/batches")
    assert seen.json == {
        "input_file_id": "file_1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
        "metadata": {"batchkit_key": "k1", "workload": "d\u00e9mo"},
    }
    assert seen.headers["authorization"].startswith("Bearer gsk_")
    assert seen.headers["content-type"] == "application/json"
    assert (batch.id, batch.status, batch.expires_at) == ("batch_1", "validating", 86_401)


UNKNOWN: dict[str, Reply] = {
    "read time-out": silence,
    "hung up": hang_up,
    "reset": reset,
    "headers, then silence": sent_then_silence(b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n{"),
    "body cut": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"id": "batch_1"'),
    "body cut by a reset": raw(b'HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\n{"id": ', reset=True),
    "not HTTP": raw(b"SSH-2.0-OpenSSH_9.6\r\n"),
    "broken compression": raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"),
    "success without JSON": answer(b"created"),
    "success without a body": answer(b"", 204),
    "success with a page": html(200),
    "success without an id": as_json({"status": "validating"}),
    "success that is a list": as_json([{"id": "batch_1"}]),
    "success that is an error": as_json({"error": {"message": "try later"}}),
    "500": refusal(500),
    "502 with a page": html(502),
    "503": refusal(503, retry_after="1"),
    "524 of a CDN": html(524),
    "408": refusal(408),
    "409": refusal(409),
    "425": refusal(425),
    "499": refusal(499),
    "302": answer(b"", 302, location="https://elsewhere.example/batches"),
    "303": answer(b"", 303, location="/openai/v1/batches/batch_1"),
    "308": answer(b"", 308, location="/openai/v1/v2/batches"),
    "400 with a page": html(400),
    "403 with a page": html(403),
    "429 without JSON": answer(b"error code: 1015", 429, content_type="text/plain"),
    "404 without a body": answer(b"", 404),
}


@pytest.mark.parametrize("reply", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_an_uncertain_create_is_unknown_and_sent_once(
    server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime, reply: Reply
) -> None:
    """Any doubt whether the batch exists is ``OutcomeUnknown``, after exactly one POST and no wait."""
    server.otherwise = reply
    with pytest.raises(OutcomeUnknown) as caught:
        create(connect(**short_read_timeout(reply)))
    assert type(caught.value) is OutcomeUnknown
    assert server.calls() == ["POST /batches"]
    assert time.slept == []
    assert caught.value.hint is not None
    assert "never by sending it again" in caught.value.hint


REFUSED: dict[int, type[ProviderRefused]] = {
    400: ProviderRefused,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    413: TooLarge,
    422: ProviderRefused,
    424: ProviderRefused,
    429: RateLimited,
    498: RateLimited,
}


@pytest.mark.parametrize(("status", "kind"), REFUSED.items())
def test_a_readable_refusal_is_certain_and_sent_once(
    server: ScriptedServer, provider: BatchApi, status: int, kind: type[ProviderRefused]
) -> None:
    """A refusal by the API keeps its message, code and field; it is not sent again."""
    server.otherwise = refusal(status, "Invalid value.", "invalid_value")
    with pytest.raises(ProviderRefused) as caught:
        create(provider)
    error = caught.value
    assert type(error) is kind
    assert (error.status, error.code, error.type, error.param) == (
        status,
        "invalid_value",
        "invalid_request_error",
        "a_field",
    )
    assert error.message == f"POST /batches: HTTP {status}: Invalid value. (invalid_value)"
    assert server.calls() == ["POST /batches"]


def test_rate_limit_is_raised_with_its_wait(server: ScriptedServer, provider: BatchApi, time: FakeTime) -> None:
    """The caller handles the wait of a 429 on create, however short it is."""
    server.otherwise = refusal(429, retry_after="2")
    with pytest.raises(RateLimited) as caught:
        create(provider)
    assert caught.value.retry_after_seconds == 2.0
    assert (len(server.seen), time.slept) == (1, [])


def test_no_listener_means_unreachable(connect: Callable[..., BatchApi]) -> None:
    """A refused connection proves that no batch exists."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ProviderUnreachable) as caught:
        create(connect(base_url=f"http://127.0.0.1:{port}/openai/v1"))
    assert "POST /batches: no connection (ConnectError" in caught.value.message


def test_each_create_takes_a_new_connection(server: ScriptedServer, provider: BatchApi) -> None:
    """A kept-alive connection, which may be closing at this moment, is never used for a create."""
    server.choose = lambda seen: as_json(
        {"id": "batch_1", "status": "validating"} if seen.method == "POST" else {"data": []}
    )
    provider.list_models()
    provider.list_models()
    create(provider)
    create(provider)
    provider.list_models()
    assert [seen.connection for seen in server.seen] == [1, 1, 2, 3, 1]


def test_a_reset_while_the_body_is_sent_is_unknown(server: ScriptedServer, provider: BatchApi) -> None:
    """A connection that breaks within the request's body leaves the outcome unknown."""
    server.early = lambda _: reset
    with pytest.raises(OutcomeUnknown):
        provider.create_batch(
            input_file_id=FileId("file_1"), endpoint="/v1", window="24h", metadata={"k": "x" * 8_000_000}
        )
    assert len(server.seen) == 1


def test_write_timeout_is_unknown(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """A body that the server does not read in time leaves the outcome unknown."""
    server.early = lambda _: silence
    with pytest.raises(OutcomeUnknown) as caught:
        connect(write_timeout_seconds=0.2).create_batch(
            input_file_id=FileId("file_1"), endpoint="/v1", window="24h", metadata={"k": "x" * 16_000_000}
        )
    assert "WriteTimeout" in caught.value.message
    assert len(server.seen) == 1


def test_a_closed_provider_sends_nothing(server: ScriptedServer, provider: BatchApi) -> None:
    """After ``close`` a call raises an error that says that nothing was sent."""
    provider.close()
    for call in (lambda: create(provider), lambda: provider.get_batch(BatchId("batch_1"))):
        with pytest.raises(ProviderUnreachable):
            call()
    assert server.seen == []


def test_every_unknown_names_its_call(server: ScriptedServer, provider: BatchApi) -> None:
    """The message names the call and its reply."""
    server.script(html(502))
    with pytest.raises(ProviderError) as caught:
        create(provider)
    assert caught.value.message == "POST /batches: HTTP 502, an HTML page: a gateway answered, not the API"
