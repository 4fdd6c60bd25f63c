"""A batch API on loopback: Files, Batches, Models and the synchronous endpoints, with scripted faults and a ledger.

It is Groq's, or with ``Emulator(provider="openai")`` another provider's.

::

    with Emulator(scenario="expire-30", speed=86_400) as emulator:
        client = Groq(base_url=emulator.root_url, api_key=emulator.api_key)
        ...
        assert emulator.ledger().totals.bought_twice == 0

Names are loaded when they are first used, so that importing a part of the package does not import the HTTP server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from batchkit.emulator.dialects.dialect import Dialect
    from batchkit.emulator.dialects.providers import DEFAULT_PROVIDER, provider_names
    from batchkit.emulator.faults import FamilyInfo, FaultInfo, fault_catalogue, fault_families
    from batchkit.emulator.http.server import DEFAULT_SPEED, Emulator, EmulatorNotStarted, serve
    from batchkit.emulator.scenarios.scenario import (
        Scenario,
        ScenarioError,
        ScenarioLimits,
        Timing,
        load_scenario,
        scenario_names,
    )
    from batchkit.emulator.state.ledger import Ledger, LedgerBatch, LedgerUpload, Totals
    from batchkit.emulator.state.world import DirectoryInUse

__all__ = [
    "DEFAULT_PROVIDER",
    "DEFAULT_SPEED",
    "Dialect",
    "DirectoryInUse",
    "Emulator",
    "EmulatorNotStarted",
    "FamilyInfo",
    "FaultInfo",
    "Ledger",
    "LedgerBatch",
    "LedgerUpload",
    "Scenario",
    "ScenarioError",
    "ScenarioLimits",
    "Timing",
    "Totals",
    "fault_catalogue",
    "fault_families",
    "load_scenario",
    "provider_names",
    "scenario_names",
    "serve",
]

_HOMES = {
    "dialects.dialect": ("Dialect",),
    "dialects.providers": ("DEFAULT_PROVIDER", "provider_names"),
    "faults": ("FamilyInfo", "FaultInfo", "fault_catalogue", "fault_families"),
    "state.ledger": ("Ledger", "LedgerBatch", "LedgerUpload", "Totals"),
    "scenarios.scenario": ("ScenarioLimits", "Scenario", "ScenarioError", "Timing", "load_scenario", "scenario_names"),
    "http.server": ("DEFAULT_SPEED", "Emulator", "EmulatorNotStarted", "serve"),
    "state.world": ("DirectoryInUse",),
}


def __getattr__(name: str) -> Any:
    for module, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
