"""The proxy of the environment: which one, and what it sees."""

from __future__ import annotations

import contextlib
import socket
import threading

import httpx
import pytest

from batchkit.errors import ConfigurationError
from batchkit.provider.call_reply import CallEnd
from batchkit.provider.calls import CallClient, CallOptions
from batchkit.provider.options import HttpOptions
from batchkit.provider.proxies import proxy_of

from .conftest import KEY
from .server import answer, as_json, raw, silence

CHAT = "/v1/chat/completions"
OPTIONS = CallOptions(http=HttpOptions(allow_insecure_http=True, connect_timeout_seconds=1.0))


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.mark.parametrize(
    ("url", "environment", "proxy"),
    [
        ("https://api.example.com/v1", {}, None),
        ("https://api.example.com/v1", {"HTTPS_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.example.com/v1", {"https_proxy": "p:1"}, "http://p:1"),
        ("https://api.example.com/v1", {"HTTP_PROXY": "http://p:1"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1"}, "http://p:1"),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "HTTPS_PROXY": "http://q:2"}, "http://q:2"),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "*"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "other.com, example.com"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, None),
        ("https://example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": ".example.com"}, "http://p:1"),
        ("https://badexample.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "example.com"}, "http://p:1"),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "api.example.com:443"}, None),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "api.example.com:8443"}, "http://p:1"),
        ("https://api.example.com/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "http://api.example.com"}, "http://p:1"),
        ("https://10.0.0.7/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "10.0.0.7"}, None),
        ("https://[fd00::1]/v1", {"ALL_PROXY": "http://p:1", "NO_PROXY": "fd00::1"}, None),
        ("http://127.0.0.1:8000/v1", {"ALL_PROXY": "http://p:1"}, None),
        ("http://localhost:8000/v1", {"HTTP_PROXY": "http://p:1"}, None),
    ],
)
def test_the_proxy_is_that_of_the_environment(monkeypatch, url, environment, proxy):
    """The rules are those of the HTTP library; this machine never has a proxy."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = proxy_of(httpx.URL(url))
    assert (None if found is None else str(found)) == proxy


def test_plain_http_asks_the_proxy_for_the_whole_url(server, monkeypatch):
    """The proxy's own credentials go to it alone, in a header of their own."""
    monkeypatch.setenv("HTTP_PROXY", f"http://me:hunter2@127.0.0.1:{server.port}")
    server.otherwise = as_json({})
    with CallClient("http://batchkit.invalid/v1", KEY, options=OPTIONS) as client:
        assert client.call(CHAT, b"{}").is_success
    (seen,) = server.seen
    assert seen.target == "http://batchkit.invalid/v1/chat/completions"
    assert seen.headers["host"] == "batchkit.invalid"
    assert seen.headers["proxy-authorization"] == "Basic bWU6aHVudGVyMg=="


@pytest.mark.parametrize(
    "reply",
    [answer(b"", 407), raw(b"nonsense\r\n\r\n"), raw(b""), silence],
)
def test_a_proxy_that_opens_no_tunnel_has_not_got_the_request(server, monkeypatch, reply):
    """It sees the host, and neither the key nor the body; its password is shown nowhere."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{server.port}")
    server.otherwise = reply
    with CallClient("https://batchkit.invalid/v1", KEY, options=OPTIONS) as client:
        ended = client.call(CHAT, b"{}", timeout_seconds=0.3)
    assert ended.end is CallEnd.NOT_SENT
    (seen,) = server.seen
    assert (seen.method, seen.target) == ("CONNECT", "batchkit.invalid:443")
    assert KEY not in str(seen.headers)
    assert "proxy-authorization" in seen.headers
    assert "hunter2" not in repr(ended) + repr(client)


def test_tls_goes_through_a_tunnel(tls_server, monkeypatch, tmp_path):
    """Behind the proxy the call is as it is without one, and the connection is used again."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "server.pem"))
    tls_server.otherwise = as_json({"id": "x"})
    asked = []

    def copy(source, target):
        with source, target:
            while data := source.recv(1 << 16):
                target.sendall(data)
            target.shutdown(socket.SHUT_RDWR)

    def tunnel(listener):
        connection, _ = listener.accept()
        asked.append(connection.recv(1 << 16))
        connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
        far = socket.create_connection(("127.0.0.1", tls_server.port))
        back = threading.Thread(target=lambda: _quietly(copy, far.dup(), connection.dup()))
        back.start()
        _quietly(copy, connection, far)
        back.join()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=tunnel, args=(listener,))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        monkeypatch.setattr("batchkit.provider.proxies.is_loopback", lambda _host: False)
        with CallClient(tls_server.base_url, KEY) as client:
            for _ in range(2):
                assert client.call(CHAT, b"{}").body == b'{"id": "x"}'
        thread.join(5)
    assert asked[0].startswith(f"CONNECT 127.0.0.1:{tls_server.port} HTTP/1.1\r\n".encode())
    assert [seen.target for seen in tls_server.seen] == ["/openai/v1/chat/completions"] * 2


def _quietly(work, *arguments):
    with contextlib.suppress(OSError):
        work(*arguments)


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1", "https://127.0.0.1:1", "gopher://user:hunter2@proxy"])
def test_other_proxies_are_refused(monkeypatch, proxy):
    """With the remedy, and without quoting them."""
    monkeypatch.setenv("ALL_PROXY", proxy)
    with pytest.raises(ConfigurationError, match="http:// proxies only") as caught:
        CallClient("https://api.example.com/v1", KEY)
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"
