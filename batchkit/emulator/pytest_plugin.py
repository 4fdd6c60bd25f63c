"""Pytest fixtures that give a test its own batch API on loopback, Groq's or with ``provider`` another one's.

::

    @pytest.mark.groq_emulator(scenario="expire-30", speed=86_400)
    def test_my_pipeline(groq_emulator):
        client = OpenAI(base_url=groq_emulator.base_url, api_key=groq_emulator.api_key)
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from batchkit.emulator.http.server import Emulator
    from batchkit.emulator.scenarios.scenario import Scenario

_MARK = "groq_emulator"


class EmulatorFactory(Protocol):
    """Starts emulators that stop when the test ends."""

    def __call__(self, scenario: Scenario | str | Path | None = None, **settings: Any) -> Emulator:
        """Start an emulator; ``settings`` are those of ``Emulator``; by default the directory belongs to the test."""
        ...


def pytest_configure(config: pytest.Config) -> None:
    """Declare the marker."""
    config.addinivalue_line("markers", f"{_MARK}(scenario=None, speed=..., ...): settings of the groq_emulator fixture")


@pytest.fixture
def groq_emulator_factory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatorFactory]:
    """Return a factory that starts any number of emulators."""
    # Every pytest run loads this plugin; only tests that use an emulator should import the HTTP server.
    from batchkit.emulator.http.server import Emulator  # noqa: PLC0415 - see above

    with ExitStack() as stack:

        def start(scenario: Scenario | str | Path | None = None, **settings: Any) -> Emulator:
            settings.setdefault("directory", tmp_path_factory.mktemp("groq-emulator"))
            return stack.enter_context(Emulator(scenario=scenario, **settings))

        yield start


@pytest.fixture
def groq_emulator(request: pytest.FixtureRequest, groq_emulator_factory: EmulatorFactory) -> Emulator:
    """Serve one emulator for the test, with the arguments of the test's ``groq_emulator`` mark."""
    mark = request.node.get_closest_marker(_MARK)
    return groq_emulator_factory(**(mark.kwargs if mark else {}))
