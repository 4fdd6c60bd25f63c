"""The key is sent only to the host of the base URL, never over plain HTTP or because of a redirect, a proxy or a .netrc file."""

from __future__ import annotations

import pytest

from batchkit.engine.runtime import Runner
from batchkit.errors import ConfigurationError, ProviderRefused, ProviderUnreachable
from batchkit.models import BatchId, FileId
from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import GROQ
from batchkit.settings import load_settings
from tests.provider.conftest import KEY
from tests.provider.conftest import connect as connect  # noqa: PLC0414 - a fixture
from tests.provider.conftest import server as server  # noqa: PLC0414 - a fixture
from tests.provider.conftest import time as time  # noqa: PLC0414 - a fixture
from tests.provider.server import ScriptedServer, answer, as_json

#: Addresses that begin, end or look like this machine, but belong to another.
DISGUISES = [
    "http://localhost.evil.example/v1",
    "http://127.0.0.1.evil.example/v1",
    "http://evil-localhost/v1",
    "http://127.0.0.1@evil.example/v1",
    "http://localhost:80@evil.example/v1",
    "http://localhost\\@evil.example/v1",
    "http://127.0.0.1%2eevil.example/v1",
    "http://localhost%00.evil.example/v1",
    "http://evil.example#@localhost/v1",
    "http://evil.example?@127.0.0.1/v1",
    "http://[::ffff:8.8.8.8]/v1",
    "http://127.1.evil.example/v1",
    "http://0x7f.1/v1",
    "HTTP://EVIL.EXAMPLE/v1",
]


@pytest.mark.parametrize("base_url", DISGUISES)
def test_another_host_that_resembles_this_machine_is_refused(batchkit, monkeypatch, source, base_url):
    """Plain HTTP to a host that only resembles this machine is refused before anything is written or sent."""
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    ended = batchkit("run", source, "--no-prefect", "--base-url", base_url)
    assert ended.code == 2, ended.err
    assert "URL" in ended.err or "in the clear" in ended.err
    assert KEY not in ended.err


def test_plain_http_to_another_host_must_be_allowed(batchkit, monkeypatch, server, source):
    """The error names the risk; one setting allows it."""
    server.otherwise = as_json({"data": []})
    monkeypatch.setenv("GROQ_API_KEY", KEY)
    # The system treats this address as this machine, batchkit does not.
    monkeypatch.setenv("BATCHKIT_BASE_URL", f"http://0.0.0.0:{server.port}/v1")
    refused = batchkit("run", source, "--no-prefect")
    assert refused.code == 2
    assert "would carry the API key in the clear" in refused.err
    assert server.seen == []
    monkeypatch.setenv("BATCHKIT_ALLOW_INSECURE_HTTP", "true")
    with Runner(load_settings()) as runner:
        runner.provider.list_models()
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_sends_the_key(server, connect, tmp_path, status):
    """Every redirected call is refused with its target; the other host gets no request, with a key or without."""
    shard = tmp_path / "shard.jsonl"
    shard.write_bytes(b"{}\n")
    with ScriptedServer(otherwise=as_json({"id": "stolen"})) as other:
        storage = f"http://localhost:{other.port}/bucket/file"
        server.otherwise = answer(b"", status, location=f"{storage}?signature=abc")
        provider = connect(attempts=1)
        calls = {
            "a read": lambda: provider.get_batch(BatchId("batch_1")),
            "an upload": lambda: provider.upload_file(shard, "shard.jsonl"),
            "a download": lambda: provider.download_file(FileId("file_1"), tmp_path / "output.jsonl"),
        }
        for call in calls.values():
            with pytest.raises(ProviderRefused, match=f"HTTP {status}, a redirect to {storage}") as caught:
                call()
            assert "redirects are not followed, so that the key stays with its host" in (caught.value.hint or "")
        assert other.seen == []
        assert other.connections == 0
    assert not (tmp_path / "output.jsonl").exists()


@pytest.fixture
def netrc(monkeypatch, tmp_path):
    """Write a .netrc file for every host of the tests, and set it for every library that might read it."""
    path = tmp_path / ".netrc"
    hosts = ("127.0.0.1", "0.0.0.0", "localhost")  # noqa: S104 - names in a file
    path.write_text("".join(f"machine {host} login me password hunter2\n" for host in (*hosts,)) + "default login me\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.mark.usefixtures("netrc")
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 - a name of this machine that is not loopback
def test_a_netrc_file_does_not_replace_the_key(server, connect, host):
    """This holds for this machine and for others: whatever .netrc has for the host, the header is ours."""
    server.otherwise = as_json({"id": "batch_1"})
    provider = connect(base_url=f"http://{host}:{server.port}/v1", allow_insecure_http=True)
    provider.get_batch(BatchId("batch_1"))
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_plain_http_uses_the_environments_proxy(monkeypatch, server, connect):
    """When plain HTTP to another host is allowed, a proxy from the environment sees the key, like every machine on the route."""
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.port}")
    server.otherwise = as_json({"id": "batch_1"})
    connect(base_url="http://batchkit.invalid/v1", allow_insecure_http=True).get_batch(BatchId("batch_1"))
    assert server.seen[0].target == "http://batchkit.invalid/v1/batches/batch_1"
    assert server.seen[0].headers["authorization"] == f"Bearer {KEY}"


def test_a_proxys_password_is_not_shown(monkeypatch, server, connect):
    """The refusal of a proxy is reported with its reason, but without the credentials from the environment."""
    monkeypatch.setenv("HTTPS_PROXY", f"http://me:hunter2@127.0.0.1:{server.port}")
    server.otherwise = answer(b"", 407)
    provider = connect(base_url="https://batchkit.invalid/v1", attempts=1)
    with pytest.raises(ProviderUnreachable, match="407") as caught:
        provider.get_batch(BatchId("batch_1"))
    assert [seen.method for seen in server.seen] == ["CONNECT"]
    assert "proxy-authorization" in server.seen[0].headers
    assert KEY not in str(server.seen[0].headers)
    assert "hunter2" not in f"{caught.value} {caught.value.hint} {caught.value.__cause__!r} {provider!r}"


@pytest.mark.parametrize("base_url", ["http://127.0.0.1\u3002evil.example/v1", "http://\u24db\u24de\u24d2al/v1"])
def test_lookalike_characters_make_no_loopback_address(base_url):
    """Full-width dots and circled letters make no loopback address."""
    with pytest.raises(ConfigurationError):
        BatchApi(GROQ, api_key=KEY, base_url=base_url)
