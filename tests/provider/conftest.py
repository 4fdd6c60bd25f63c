from __future__ import annotations

import datetime as dt
import ssl
from contextlib import ExitStack
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pydantic import SecretStr

from batchkit.provider.client import BatchApi
from batchkit.provider.groq.dialect import GROQ
from batchkit.provider.options import HttpOptions

from .server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchkit.provider.dialect import Dialect

    from .server import Reply

KEY = "gsk_made_up_for_tests_0123456789abcdef"


class FakeTime:
    """Seconds that pass only during a sleep."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Record the wait and advance the time."""
        self.slept.append(seconds)
        self.seconds += seconds

    def clock(self) -> float:
        """Return monotonic seconds."""
        return self.seconds

    def now(self) -> float:
        """Return Unix seconds; the test begins on 15 June 2025, 15:06:40 UTC."""
        return 1_750_000_000.0 + self.seconds


def short_read_timeout(reply: Reply) -> dict[str, float]:
    """Return a short read timeout for replies that fall silent, and no option for others, because a busy machine is slow too."""
    return {"read_timeout_seconds": 0.2} if "silence" in reply.__qualname__ else {}


@pytest.fixture
def time() -> FakeTime:
    """Return a clock that passes no real time."""
    return FakeTime()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Run a server with scripted replies."""
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def connect(server: ScriptedServer, time: FakeTime) -> Iterator[Callable[..., BatchApi]]:
    """Return a function that builds providers which talk to ``server`` and wait in fake time."""
    with ExitStack() as stack:

        def build(
            base_url: str = server.base_url, api_key: str = KEY, dialect: Dialect = GROQ, **changed: Any
        ) -> BatchApi:
            own = {"list_limits": changed.pop("list_limits")} if "list_limits" in changed else {}
            values: dict[str, Any] = {
                "connect_timeout_seconds": 2.0,
                "read_timeout_seconds": 10.0,
                "write_timeout_seconds": 10.0,
                "attempts": 3,
                "sleep": time.sleep,
                "clock": time.clock,
                "now": time.now,
                "jitter": lambda: 1.0,
            }
            options = HttpOptions(**values | changed)
            return stack.enter_context(
                BatchApi(dialect, base_url=base_url, api_key=SecretStr(api_key), options=options, **own)
            )

        yield build


@pytest.fixture
def provider(connect: Callable[..., BatchApi]) -> BatchApi:
    """Build a provider with the options of the tests."""
    return connect()


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[ScriptedServer]:
    """Run a TLS server with a self-signed certificate, which is in ``server.pem`` of ``tmp_path``."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    start = dt.datetime(2025, 1, 1, tzinfo=dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(start)
        .not_valid_after(start + dt.timedelta(days=36_500))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = tmp_path / "server.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    with ScriptedServer(wrap=lambda connection: context.wrap_socket(connection, server_side=True)) as server:
        server.base_url = server.base_url.replace("http://", "https://")
        yield server
