"""The HTTP of synchronous calls: framing, keep-alive, and what is no HTTP at all."""

import pytest

from tests.emulator.support import chat_lines, jsonl
from tests.emulator.sync_support import RAW_CHAT, RawConnection, raw_head, raw_request


@pytest.fixture
def connection(client):
    """Return a plain connection to an emulator without faults."""
    with RawConnection(client) as opened:
        yield opened


def chunked(*chunks):
    """Return a body in chunks."""
    return b"".join(b"%x;note=1\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks)


def test_a_connection_is_used_again(connection):
    """Each answer has its length, and the next request comes on the same connection."""
    for _ in range(3):
        connection.send(raw_request(RAW_CHAT))
        status, headers, body = connection.read()
        assert (status, headers["content-type"], body[:1]) == (200, "application/json", b"{")


def test_bytes_may_come_one_by_one(connection):
    """The request is answered when it is complete."""
    for place in range(0, len(data := raw_request(RAW_CHAT)), 7):
        connection.send(data[place : place + 7])
    assert connection.read()[0] == 200


def test_requests_may_come_before_the_answers(connection):
    """They are answered one after the other."""
    connection.send(raw_request(RAW_CHAT) * 3)
    assert [connection.read()[0] for _ in range(3)] == [200, 200, 200]


def test_a_connection_may_mix_calls(client, connection):
    """Calls of files, models and chat take turns on it."""
    get = b"GET /openai/v1/models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer k\r\n\r\n"
    for data in (get, raw_request(RAW_CHAT), get, raw_request(RAW_CHAT), raw_request(RAW_CHAT)):
        connection.send(data)
        assert connection.read()[0] == 200
    assert client.post_file(jsonl(chat_lines(1))).status_code == 200


def test_a_body_may_come_in_chunks(connection):
    """Their sizes are hexadecimal, with extensions and trailers."""
    head = raw_head("Transfer-Encoding: chunked")
    data = head + chunked(RAW_CHAT[:10], RAW_CHAT[10:]) + b"0\r\nTrailer: x\r\n\r\n"
    for place in range(0, len(data), 11):
        connection.send(data[place : place + 11])
    assert connection.read()[0] == 200
    connection.send(head + b"0\r\n\r\n" + raw_request(RAW_CHAT))
    assert [connection.read()[0] for _ in range(2)] == [400, 200]


def test_a_client_may_ask_before_it_sends_its_body(connection):
    """It is told to continue."""
    connection.send(raw_head(f"Content-Length: {len(RAW_CHAT)}", "Expect: 100-continue"))
    assert connection.read_continue().startswith(b"HTTP/1.1 100")
    connection.send(RAW_CHAT)
    assert connection.read()[0] == 200


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_a_connection_is_closed_on_request(client, version):
    """Old clients and those that say so get one answer."""
    headers = (f"Content-Length: {len(RAW_CHAT)}", *(("Connection: close",) if version == "1.1" else ()))
    with RawConnection(client) as opened:
        opened.send(raw_head(*headers, version=version) + RAW_CHAT)
        status, sent, _ = opened.read()
        assert (status, sent["connection"]) == (200, "close")
        assert opened.rest() == b""


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (raw_head("Content-Length: many"), b"400"),
        (raw_head("Content-Length: -5"), b"400"),
        (raw_head("no colon"), b"400"),
        (raw_head(" folded: x"), b"400"),
        (raw_head("Transfer-Encoding: gzip"), b"501"),
        (raw_head("Transfer-Encoding: chunked") + b"xyz\r\n", b"400"),
        (raw_head("Transfer-Encoding: chunked") + b"-5\r\n", b"400"),
        (raw_head("Transfer-Encoding: chunked") + b"1" * 2_000, b"400"),
        (raw_head("Long: " + "x" * 70_000), b"431"),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"400"),
        (b"POST " + b"x" * 70_000, b"400"),
    ],
)
def test_what_is_no_request_is_refused_and_the_connection_closed(client, data, status):
    """Other connections are not affected."""
    with RawConnection(client) as opened:
        opened.send(data)
        assert opened.rest().startswith(b"HTTP/1.1 " + status)
    assert client.http.get("/models").status_code == 200


def test_a_json_body_that_is_too_large_is_413(connection):
    """It is read to its end without being kept."""
    size = 33_000_000
    connection.send(raw_head(f"Content-Length: {size}"))
    for _ in range(33):
        connection.send(b"x" * 1_000_000)
    assert connection.read()[0] == 413
    connection.send(raw_request(RAW_CHAT))
    assert connection.read()[0] == 200


def test_a_query_is_no_part_of_the_path(connection):
    """Azure's clients send one."""
    connection.send(raw_request(RAW_CHAT, path="/openai/v1/chat/completions?api-version=preview"))
    assert connection.read()[0] == 200
