"""Single calls of the ordinary endpoints, against a real server on loopback."""

from __future__ import annotations

import gzip
import hashlib
import logging
import socket
import threading
import time as real_time
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from batchkit.errors import ConfigurationError, SpoolError
from batchkit.provider.call_bodies import FileBody
from batchkit.provider.call_reply import CallEnd
from batchkit.provider.calls import CallClient, CallOptions, path_below
from batchkit.provider.dialect import AuthStyle
from batchkit.provider.options import HttpOptions

from .conftest import KEY
from .server import (
    ScriptedServer,
    after,
    answer,
    as_json,
    hang_up,
    raw,
    refusal,
    reset,
    sent_then_silence,
    silence,
    trickle,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CHAT = "/v1/chat/completions"
HTTP = HttpOptions(connect_timeout_seconds=2.0, write_timeout_seconds=2.0)


@pytest.fixture
def open_client(server: ScriptedServer) -> Iterator[Callable[..., CallClient]]:
    """Return a function that builds clients of ``server``."""
    with ExitStack() as stack:

        def build(base_url: str = "", key: str = KEY, auth: AuthStyle = AuthStyle.BEARER, **options) -> CallClient:
            values: dict[str, Any] = {"http": HTTP, "total_seconds": 10.0}
            given = CallOptions(**values | options)
            return stack.enter_context(
                CallClient(base_url or server.base_url, SecretStr(key), auth=auth, options=given)
            )

        yield build


def test_a_call_is_one_post_with_the_body_as_it_is(server, open_client):
    """The path is that of batch lines, the key is in one header, and the reply comes back with its bytes and headers."""
    server.otherwise = answer(b'{"id": "x"}', x_request_id="req_1", X_RateLimit_Limit_Tokens="6000")
    reply = open_client().call(CHAT, b'{"model":  "m"}')
    assert (reply.end, reply.status, reply.body, reply.request_id) == (CallEnd.ANSWERED, 200, b'{"id": "x"}', "req_1")
    assert reply.headers["x-ratelimit-limit-tokens"] == "6000"
    assert reply.is_success
    (seen,) = server.seen
    assert (seen.method, seen.target, seen.body) == ("POST", "/openai/v1/chat/completions", b'{"model":  "m"}')
    assert seen.headers["authorization"] == f"Bearer {KEY}"
    assert seen.headers["content-type"] == "application/json"
    assert seen.headers["host"] == f"127.0.0.1:{server.port}"


def test_the_key_can_be_in_another_header(server, open_client):
    """The dialect says which one."""
    server.otherwise = as_json({})
    open_client(auth=AuthStyle.API_KEY).call(CHAT, b"{}")
    assert server.seen[0].headers["api-key"] == KEY
    assert "authorization" not in server.seen[0].headers


@pytest.mark.parametrize(
    ("base", "endpoint", "path"),
    [
        ("/openai/v1", "/v1/chat/completions", "/openai/v1/chat/completions"),
        ("/v1/", "/v1/embeddings", "/v1/embeddings"),
        ("", "/v1/embeddings", "/v1/embeddings"),
        ("/", "/v1/embeddings", "/v1/embeddings"),
        ("/compatible-mode/v1", "/v1/chat/completions", "/compatible-mode/v1/chat/completions"),
        ("/api/v4", "/v1/chat/completions", "/api/v4/chat/completions"),
        ("/gateway", "/v1/responses", "/gateway/v1/responses"),
        ("/v1", "/chat/completions", "/v1/chat/completions"),
    ],
)
def test_the_version_is_not_doubled(base, endpoint, path):
    """Base addresses mostly end with the version that the endpoints of lines begin with."""
    assert path_below(base, endpoint) == path


def test_a_connection_is_used_again(server, open_client):
    """Calls one after the other share a connection."""
    server.otherwise = as_json({})
    client = open_client()
    for _ in range(5):
        assert client.call(CHAT, b"{}").is_success
    assert server.connections == 1


def test_each_thread_has_a_connection(server, open_client):
    """Twenty calls at once, each of 0.2 seconds, take hardly longer than one; their answers are not mixed up."""
    server.choose = lambda seen: after(0.2, answer(seen.body))
    client = open_client()
    replies = {}
    threads = [
        threading.Thread(target=lambda number=number: replies.update({number: client.call(CHAT, b"%d" % number)}))
        for number in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {number: reply.body for number, reply in replies.items()} == {number: b"%d" % number for number in range(20)}
    assert server.connections == 20


def test_a_connection_that_the_server_closed_is_replaced_before_anything_is_sent(server, open_client):
    """A request on it would be in doubt."""
    closed = threading.Event()

    def answer_and_close(exchange):
        answer(b"{}")(exchange)
        exchange.is_kept_alive = False
        closed.set()

    server.otherwise = answer_and_close
    client = open_client()
    for _ in range(3):
        assert client.call(CHAT, b"{}").is_success
        assert closed.wait(5)
        closed.clear()
        # The end of the connection arrives after the reply.
        (connection,) = client._idle
        connection.sock.settimeout(5)
        assert connection.sock.recv(1, socket.MSG_PEEK) == b""
    assert len(server.seen) == 3


@pytest.mark.parametrize(
    ("idle_seconds", "keep_alive", "connections"), [(0.0, "", 2), (4.0, "timeout=1", 2), (4.0, "timeout=60, max=9", 1)]
)
def test_an_old_connection_is_replaced(server, open_client, idle_seconds, keep_alive, connections):
    """The limit is the option's, or the server's own where that is lower."""
    server.otherwise = answer(b"{}", **({"Keep_Alive": keep_alive} if keep_alive else {}))
    client = open_client(idle_seconds=idle_seconds)
    for _ in range(2):
        assert client.call(CHAT, b"{}").is_success
    assert server.connections == connections


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (hang_up, "without response"),
        (reset, "reset"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"), "99 bytes of its body are missing"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", reset=True), ""),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"), "IncompleteRead"),
        (raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{"), "IncompleteRead"),
        (raw(b"SSH-2.0-OpenSSH\r\n\r\n"), "BadStatusLine"),
        (raw(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 200 + b"\r\n"), "headers"),
        (raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 70_000 + b"\r\n\r\n"), "LineTooLong"),
        (raw(b"HTTP/1.1 102 Processing\r\n\r\n" * 50), "interim"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{"), "ends too early"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 1\r\n\r\nx"), "encoding"),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"), ""),
        (answer(b"x" * 2_000), "more than 1,000 bytes"),
        (answer(b"[" * 900), "JSON values"),
    ],
)
def test_a_reply_that_is_not_complete_leaves_the_call_in_doubt(server, open_client, reply, words):
    """It was sent and may have been executed: the message says how it ended, and the connection is not used again."""
    server.otherwise = reply
    client = open_client(http=HttpOptions(max_reply_bytes=1_000, max_reply_values=500))
    ended = client.call(CHAT, b"{}")
    assert ended.end is CallEnd.IN_DOUBT
    assert words in ended.message
    assert not ended.is_time_out
    server.otherwise = as_json({})
    assert client.call(CHAT, b"{}").is_success
    assert server.connections == 2


@pytest.mark.parametrize(
    ("reply", "options", "words"),
    [
        (silence, {"first_byte_seconds": 0.2}, "nothing came for 0.2 s"),
        (silence, {"total_seconds": 0.2}, "no complete reply within 0.2 s"),
        (sent_then_silence(b"HTTP/1.1 200 OK\r\nContent-Le"), {"between_bytes_seconds": 0.2}, "nothing came for 0.2 s"),
        (
            sent_then_silence(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
            {"between_bytes_seconds": 0.2},
            "nothing came",
        ),
        (trickle(b"HTTP/1.1 200 OK\r\n", b"A: b\r\n", 0.05), {"total_seconds": 0.4}, "no complete reply within 0.4 s"),
        (
            trickle(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n", b"x", 0.05),
            {"total_seconds": 0.4},
            "within 0.4 s",
        ),
    ],
)
def test_no_server_holds_a_call_for_ever(server, open_client, reply, options, words):
    """Each phase has a limit, and a server that sends a byte now and then meets that of the whole call."""
    server.otherwise = reply
    began = real_time.monotonic()
    ended = open_client(**options).call(CHAT, b"{}")
    assert (ended.end, ended.is_time_out) == (CallEnd.IN_DOUBT, True)
    assert words in ended.message
    assert real_time.monotonic() - began < 3
    assert ended.seconds >= 0.15


def test_a_call_may_have_a_limit_of_its_own(server, open_client):
    """It replaces the option."""
    server.otherwise = silence
    assert "within 0.1 s" in open_client().call(CHAT, b"{}", timeout_seconds=0.1).message


def test_a_server_that_reads_nothing_ends_the_call(open_client):
    """The time-out of writing is one of each piece."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = open_client(
            f"http://127.0.0.1:{listener.getsockname()[1]}/v1", http=HttpOptions(write_timeout_seconds=0.2)
        )
        ended = client.call(CHAT, b"x" * 30_000_000)
    assert (ended.end, ended.is_time_out) == (CallEnd.IN_DOUBT, True)


@pytest.mark.parametrize("address", ["http://127.0.0.1:1/v1", "https://host.invalid/v1"])
def test_without_a_connection_nothing_was_sent(open_client, address):
    """A port without a server, a name without an address."""
    ended = open_client(address).call(CHAT, b"{}")
    assert (ended.end, ended.status) == (CallEnd.NOT_SENT, None)
    assert "no connection" in ended.message


def test_tls_is_checked_and_spoken(tls_server, open_client, tmp_path, monkeypatch):
    """A certificate that nobody trusts ends the call before it is sent; one that the environment trusts does not."""
    tls_server.otherwise = as_json({})
    ended = open_client(tls_server.base_url).call(CHAT, b"{}")
    assert ended.end is CallEnd.NOT_SENT
    assert "SSL_CERT_FILE" in ended.message
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    client = open_client(tls_server.base_url)
    before = tls_server.connections
    for _ in range(3):
        assert client.call(CHAT, b"{}").is_success
    assert tls_server.connections == before + 1


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308, 400, 429, 498, 500, 503])
def test_every_status_is_an_answer(server, open_client, status):
    """Nothing is repeated and no redirect is followed."""
    server.otherwise = refusal(status, location="http://127.0.0.1:1/elsewhere", set_cookie="a=b")
    client = open_client()
    for _ in range(2):
        ended = client.call(CHAT, b"{}")
        assert (ended.end, ended.status) == (CallEnd.ANSWERED, status)
    assert len(server.seen) == 2
    assert "cookie" not in server.seen[1].headers


def test_interim_replies_are_skipped(server, open_client):
    """The final reply is the one that counts."""
    server.otherwise = raw(
        b"HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
    )
    assert open_client().call(CHAT, b"{}").body == b"{}"


@pytest.mark.parametrize(
    "reply",
    [
        answer(gzip.compress(b'{"a": 1}'), content_encoding="gzip"),
        raw(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{"a"\r\n4\r\n: 1}\r\n0\r\n\r\n'),
        raw(b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"a": 1}'),
    ],
)
def test_bodies_come_in_several_forms(server, open_client, reply):
    """Compressed, in chunks, or up to the end of the connection."""
    server.otherwise = reply
    assert open_client().call(CHAT, b"{}").body == b'{"a": 1}'


def test_an_early_refusal_of_a_large_body_is_read(server, open_client):
    """A gateway that answers before it has read everything, and closes, has answered."""
    server.early = lambda _seen: raw(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    ended = open_client().call(CHAT, b"x" * 20_000_000)
    # Whether the reply survives the close depends on the kernel; either way it is said truthfully.
    assert (ended.end, ended.status) in {(CallEnd.ANSWERED, 413), (CallEnd.IN_DOUBT, None)}


def test_a_file_is_sent_as_a_form_and_read_again_for_each_call(server, open_client, tmp_path):
    """Its bytes are not held, and a repeated call has all of them again."""
    path = tmp_path / "a.wav"
    path.write_bytes(bytes(range(256)) * 4_000)
    server.otherwise = as_json({"text": "hello"})
    client = open_client()
    body = FileBody(source=path, fields=[("model", "whisper")], filename='a".wav')
    for _ in range(2):
        assert client.call("/v1/audio/transcriptions", body).is_success
    for seen in server.seen:
        assert seen.headers["content-type"].startswith("multipart/form-data; boundary=")
        assert seen.body_bytes == int(seen.headers["content-length"]) > 1_024_000
        assert b'name="model"\r\n\r\nwhisper' in seen.body
        assert b'filename="a%22.wav"' in seen.body
    assert server.connections == 1


def test_a_file_that_cannot_be_read_is_said_as_it_is(server, open_client, tmp_path):
    """The error is the file's own; no complete request was sent."""
    server.otherwise = as_json({})
    with pytest.raises(FileNotFoundError):
        open_client().call(CHAT, FileBody(source=tmp_path / "none", fields=[], filename="a"))
    assert server.seen == []


def test_a_binary_answer_becomes_a_file(server, open_client, tmp_path):
    """It has its size and digest; no part of it is left beside it."""
    sound = bytes(range(256)) * 5_000
    server.otherwise = answer(sound, content_type="audio/wav")
    ended = open_client().call_to_file("/v1/audio/speech", b"{}", tmp_path / "a.wav")
    assert (ended.end, ended.status, ended.body) == (CallEnd.ANSWERED, 200, b"")
    assert ended.file is not None
    assert (ended.file.size_bytes, ended.file.sha256) == (len(sound), hashlib.sha256(sound).hexdigest())
    assert (tmp_path / "a.wav").read_bytes() == sound
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]
    assert server.seen[0].headers["accept"] == "*/*"


@pytest.mark.parametrize(
    ("reply", "end"),
    [
        (refusal(429), CallEnd.ANSWERED),
        (as_json({"error": {"message": "no"}}), CallEnd.ANSWERED),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\nContent-Length: 9\r\n\r\nRIFF"), CallEnd.IN_DOUBT),
        (raw(b"HTTP/1.1 200 OK\r\nContent-Type: audio/wav\r\n\r\nRIFF"), CallEnd.IN_DOUBT),
        (answer(b"x" * 2_000, content_type="audio/wav"), CallEnd.IN_DOUBT),
    ],
)
def test_no_other_reply_becomes_a_file(server, open_client, tmp_path, reply, end):
    """A refusal is read into memory; a cut or endless answer leaves nothing on the disk."""
    server.otherwise = reply
    ended = open_client(max_file_bytes=1_000).call_to_file("/v1/audio/speech", b"{}", tmp_path / "a.wav")
    assert (ended.end, ended.file) == (end, None)
    assert bool(ended.body) == (end is CallEnd.ANSWERED)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_file_is_an_error_of_its_own(server, open_client, tmp_path):
    """It is not the server's fault."""
    server.otherwise = answer(b"RIFF", content_type="audio/wav")
    with pytest.raises(SpoolError):
        open_client().call_to_file("/v1/audio/speech", b"{}", tmp_path / "none" / "a.wav")


def test_abort_ends_the_calls_under_way(server, open_client):
    """They return at once, in doubt; a later call is not sent."""
    arrived = threading.Event()

    def hold(exchange):
        arrived.set()
        silence(exchange)

    server.otherwise = hold
    client = open_client()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(client.call(CHAT, b"{}")))
    thread.start()
    assert arrived.wait(5)
    client.abort()
    thread.join(5)
    assert [reply.end for reply in ended] == [CallEnd.IN_DOUBT]
    assert client.call(CHAT, b"{}").end is CallEnd.NOT_SENT


def test_close_leaves_the_calls_under_way_alone(server, open_client):
    """Their connections are closed when they have ended."""
    arrived, release = threading.Event(), threading.Event()

    def hold(exchange):
        arrived.set()
        release.wait(5)
        as_json({})(exchange)

    server.otherwise = hold
    client = open_client()
    ended = []
    thread = threading.Thread(target=lambda: ended.append(client.call(CHAT, b"{}")))
    thread.start()
    assert arrived.wait(5)
    client.close()
    release.set()
    thread.join(5)
    assert [reply.is_success for reply in ended] == [True]
    assert client._idle == []


@pytest.mark.parametrize(
    ("address", "key", "words"),
    [
        ("http://other.example/v1", KEY, "in the clear"),
        ("https://me:secret@other.example/v1", KEY, "user name"),
        ("https://other.example/v1", "a b", "blank"),
    ],
)
def test_the_rules_for_address_and_key_are_those_of_every_client(address, key, words):
    """They are refused before anything is sent."""
    with pytest.raises(ConfigurationError, match=words):
        CallClient(address, key)


def test_a_line_break_cannot_end_a_header(server, open_client):
    """Neither in a path nor in a header."""
    client = open_client()
    for path, headers in ((f"{CHAT} HTTP/1.1\r\nX: y", {}), (CHAT, {"X": "a\r\nY: b"}), (CHAT, {"X": "a\nY: b"})):
        with pytest.raises(ValueError, match="line break"):
            client.call(path, b"{}", headers=headers)
    assert server.seen == []


def test_the_key_is_in_nothing_that_comes_back(server, open_client, caplog):
    """A server that repeats it, in a header or in a body, changes nothing of that."""
    caplog.set_level(logging.DEBUG)
    server.otherwise = refusal(
        401, f"Incorrect API key provided: {KEY}", KEY, x_request_id=KEY, x_other=f"Bearer {KEY}"
    )
    client = open_client()
    ended = client.call(CHAT, b"{}")
    shown = f"{ended!r} {ended.body!r} {ended.headers!r} {client!r} {vars(ended) if hasattr(ended, '__dict__') else ''}"
    server.otherwise = raw(f"{KEY}\r\n\r\n".encode())
    shown += repr(client.call(CHAT, b"{}"))
    assert KEY not in shown + caplog.text
    assert "[key]" in ended.body.decode()


def test_no_error_shows_the_key(open_client, tmp_path, server):
    """Not even with the local variables of its frames."""
    server.otherwise = answer(b"RIFF", content_type="audio/wav")
    client = open_client()
    for call in (
        lambda: client.call(CHAT, FileBody(source=tmp_path / "none", fields=[], filename="a")),
        lambda: client.call_to_file(CHAT, b"{}", tmp_path / "none" / "a.wav"),
    ):
        with pytest.raises((OSError, SpoolError)) as caught:
            call()
        shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
        frames = [frame for frame in shown.stack if "/tests/" not in frame.filename]
        assert KEY not in "".join(str(frame.locals) for frame in frames)
