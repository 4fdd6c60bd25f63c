from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from batchkit.provider.groq import GroqProvider

from .server import ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .server import Reply

KEY = "gsk_made_up_for_tests_0123456789abcdef"


class FakeTime:
    """Seconds that pass only while somebody sleeps."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        """Note the wait and let it pass."""
        self.slept.append(seconds)
        self.seconds += seconds

    def clock(self) -> float:
        """Return seconds that only rise."""
        return self.seconds

    def now(self) -> float:
        """Return Unix seconds; the test begins on 15 June 2025, 15:06:40 UTC."""
        return 1_750_000_000.0 + self.seconds


def patience(reply: Reply) -> dict[str, float]:
    """Give up soon on a server that falls silent, and only on such a one: a busy machine is slow, too."""
    return {"read_timeout_seconds": 0.2} if "silence" in reply.__qualname__ else {}


@pytest.fixture
def time() -> FakeTime:
    """Pass no time."""
    return FakeTime()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Run a server that answers by script."""
    with ScriptedServer() as running:
        yield running


@pytest.fixture
def connect(server: ScriptedServer, time: FakeTime) -> Iterator[Callable[..., GroqProvider]]:
    """Build providers that talk to ``server`` and wait in fake time."""
    with ExitStack() as stack:

        def build(**options: Any) -> GroqProvider:
            values: dict[str, Any] = {
                "base_url": server.base_url,
                "api_key": SecretStr(KEY),
                "connect_timeout_seconds": 2.0,
                "read_timeout_seconds": 10.0,
                "write_timeout_seconds": 10.0,
                "http_attempts": 3,
                "sleep": time.sleep,
                "clock": time.clock,
                "now": time.now,
                "jitter": lambda: 1.0,
            }
            return stack.enter_context(GroqProvider(**values | options))

        yield build


@pytest.fixture
def provider(connect: Callable[..., GroqProvider]) -> GroqProvider:
    """Build a provider with the options of the tests."""
    return connect()
