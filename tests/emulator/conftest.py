"""One emulator for the whole folder, whose scenario each test sets, and a factory for tests that need their own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator import Emulator, Scenario, ScenarioLimits
from batchkit.emulator.pytest_plugin import groq_emulator_factory as groq_emulator_factory  # noqa: PLC0414 - a fixture
from tests.emulator.dialects import FILES_AT_ONCE
from tests.emulator.support import FAST, Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.emulator.faults import Fault

    Emulate = Callable[..., Client]


@pytest.fixture(scope="session")
def _shared_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    with Emulator(tmp_path_factory.mktemp("emulator"), speed=FAST) as emulator, Client(emulator) as client:
        yield client


@pytest.fixture
def emulate(_shared_client: Client) -> Emulate:
    """Set faults or a ready-made scenario and return the client."""

    def put(*faults: Fault | str, **settings: Any) -> Client:
        if faults and isinstance(faults[0], str):
            _shared_client.emulator.set_scenario(faults[0])
        else:
            _shared_client.emulator.set_scenario(Scenario(faults=faults, **settings))
        return _shared_client

    return put


@pytest.fixture
def client(emulate: Emulate) -> Client:
    """Return a client of an emulator without faults."""
    return emulate("clean")


@pytest.fixture
def make_client(groq_emulator_factory) -> Iterator[Emulate]:
    """Return a function that starts an emulator for one test."""
    clients = []

    def make(scenario: Any = None, **settings: Any) -> Client:
        clients.append(Client(groq_emulator_factory(scenario, **{"speed": FAST, **settings})))
        return clients[-1]

    yield make
    for made in clients:
        made.http.close()


@pytest.fixture
def serve(make_client: Emulate) -> Emulate:
    """Return a function that starts an emulated provider, whose files are ready at once."""

    def start(provider, *faults, limits=None, timing=FILES_AT_ONCE, **settings):
        scenario = Scenario(faults=faults, limits=limits or ScenarioLimits(), timing=timing)
        return make_client(scenario, provider=provider, **settings)

    return start
