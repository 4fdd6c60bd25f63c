from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from batchkit.errors import ConfigurationError, ProviderUnreachable
from batchkit.models import BatchId
from batchkit.provider import wire
from batchkit.provider.access import credential_digest, is_loopback
from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import BASE_URL, GROQ
from batchkit.provider.http import ApiClient
from batchkit.provider.options import HttpOptions

from .conftest import KEY
from .server import ScriptedServer, as_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.provider.base import Provider

    from .conftest import FakeTime


def test_it_is_a_provider() -> None:
    """``BatchApi`` has every call of the protocol, and Groq's address by default."""
    with BatchApi(GROQ, api_key=KEY) as provider:
        as_protocol: Provider = provider
        assert as_protocol.dialect.limits.max_lines == 50_000
        assert repr(provider) == f"BatchApi('groq', ApiClient('{BASE_URL}'))"


@pytest.mark.parametrize(
    "base_url",
    [
        "",
        "api.groq.com/openai/v1",
        "ftp://api.groq.com",
        "https://",
        "https:///openai/v1",
        "https://user:hunter2@api.groq.com/v1",
        "https://api.groq.com/v1?key=hunter2",
        "https://api.groq.com/v1#hunter2",
        "https://api.groq.com:hunter2/v1",
        "https://api.groq.com\n/v1",
        f"https://{'a' * 70}.example/v1",
        "https://a..example/v1",
        "http://api.groq.com/openai/v1",
        "http://127.0.0.1.example/v1",
        "http://10.0.0.8/v1",
        "http://0.0.0.0/v1",
    ],
)
def test_addresses_that_are_refused(base_url: str) -> None:
    """An address that is malformed, holds a secret, or would send the key unencrypted is refused without quoting it."""
    with pytest.raises(ConfigurationError) as caught:
        BatchApi(GROQ, api_key=KEY, base_url=base_url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    "base_url",
    [
        "http://localhost:8000/v1",
        "http://127.9.9.9/v1",
        "http://[::1]:80/v1",
        "http://groq.localhost/v1",
        " https://a.b/ ",
    ],
)
def test_addresses_that_are_accepted(base_url: str) -> None:
    """Plain HTTP is allowed to this machine; blanks around an address are dropped."""
    BatchApi(GROQ, api_key=KEY, base_url=base_url).close()


def test_insecure_http_can_be_allowed() -> None:
    """A setting allows plain HTTP to another host."""
    BatchApi(GROQ, api_key=KEY, base_url="http://10.0.0.8/v1", options=HttpOptions(allow_insecure_http=True)).close()


@pytest.mark.parametrize(
    ("host", "is_local"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("127.0.0.1", True),
        ("::1", True),
        ("a.localhost", True),
        ("notlocalhost", False),
        ("localhost.example", False),
        ("192.168.0.1", False),
        ("::2", False),
    ],
)
def test_loopback(host: str, is_local: bool) -> None:
    """Only addresses of this machine count as loopback."""
    assert is_loopback(host) is is_local


def test_digest() -> None:
    """Another key or address gives another digest, another spelling does not, and the digest reveals nothing of the key."""
    digest = credential_digest(BASE_URL, KEY)
    assert len(digest) == 16
    assert int(digest, 16) >= 0
    for same in (f"{BASE_URL}/", f" {BASE_URL}", "https://API.groq.com/openai/v1"):
        assert credential_digest(same, SecretStr(KEY)) == digest
    assert credential_digest(BASE_URL, KEY + "x") != digest
    assert credential_digest("http://localhost/openai/v1", KEY) != digest
    with pytest.raises(ConfigurationError):
        credential_digest("https://host:port", KEY)


def test_loopback_takes_no_proxy(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, connect: Callable[..., BatchApi]
) -> None:
    """A proxy from the environment never sees a key that is meant for this machine."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server.script(as_json({"id": "batch_1"}))
    assert connect().get_batch(BatchId("batch_1")).id == "batch_1"


def test_a_proxy_that_refuses_proves_that_nothing_was_sent(
    monkeypatch: pytest.MonkeyPatch, server: ScriptedServer, connect: Callable[..., BatchApi]
) -> None:
    """A proxy that opens no tunnel counts as a connection that was not made."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{server.port}")
    provider = connect(base_url="https://batchkit.invalid/v1", attempts=1)
    with pytest.raises(ProviderUnreachable, match="ProxyError"):
        provider.get_batch(BatchId("batch_1"))
    assert [seen.method for seen in server.seen] == ["CONNECT"]
    assert "authorization" not in server.seen[0].headers


@pytest.mark.parametrize(
    ("name", "value"), [("HTTPS_PROXY", "gopher://user:hunter2@proxy"), ("SSL_CERT_FILE", "/nowhere/hunter2.pem")]
)
def test_a_bad_environment(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    """Unusable proxy and certificate settings are named, not quoted."""
    monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError) as caught:
        BatchApi(GROQ, api_key=KEY)
    assert name in (caught.value.hint or "")
    assert "hunter2" not in str(caught.value)


def test_an_untrusted_certificate_is_final(
    tls_server: ScriptedServer, connect: Callable[..., BatchApi], time: FakeTime
) -> None:
    """An untrusted certificate proves that nothing was sent; the call is not retried."""
    with pytest.raises(ProviderUnreachable, match="CERTIFICATE_VERIFY_FAILED") as caught:
        connect(base_url=tls_server.base_url).get_batch(BatchId("batch_1"))
    assert "SSL_CERT_FILE" in (caught.value.hint or "")
    assert time.slept == []


def test_plain_text_behind_https(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """A server without TLS never sees the request."""
    provider = connect(base_url=server.base_url.replace("http://", "https://"), attempts=1, connect_timeout_seconds=0.2)
    with pytest.raises(ProviderUnreachable, match=r"Connect(Error|Timeout)"):
        provider.get_batch(BatchId("batch_1"))
    # The random bytes of a TLS hello may look like a request line to the server.
    assert not [seen for seen in server.seen if seen.method == "GET"]


def test_many_threads_share_a_provider(server: ScriptedServer, connect: Callable[..., BatchApi]) -> None:
    """Calls from many threads share a few connections, and each gets its own answer at the first attempt."""
    barrier = threading.Barrier(8)
    server.choose = lambda seen: as_json({"id": seen.path.rpartition("/")[2]})
    provider = connect(max_connections=2, read_timeout_seconds=10.0, attempts=1)

    def ask(number: int) -> bool:
        if number < 8:
            barrier.wait(10)
        return provider.get_batch(BatchId(f"batch_{number}")).id == f"batch_{number}"

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(ask, range(600)))
    assert server.connections <= 2


def test_no_free_connection_proves_that_nothing_was_sent(server: ScriptedServer) -> None:
    """A call that gets no connection in time has sent nothing."""
    asked, done = threading.Event(), threading.Event()

    def slow(_exchange: object) -> None:
        asked.set()
        done.wait(10)

    server.script(slow)
    client = ApiClient(
        server.base_url,
        KEY,
        explain=partial(wire.explain, hints=GROQ.hints),
        address_hint="check the address",
        options=HttpOptions(max_connections=1, pool_timeout_seconds=0.05, attempts=1),
    )
    with ThreadPoolExecutor(1) as threads:
        first = threads.submit(client.get, "/batches/batch_1")
        assert asked.wait(10)
        with pytest.raises(ProviderUnreachable, match="PoolTimeout") as caught:
            client.get("/batches/batch_2")
        done.set()
        first.exception(10)
    assert "fewer transfers" in (caught.value.hint or "")
    assert len(server.seen) == 1
    client.close()
