"""Shell completion of names: workloads, scenarios and providers of the emulator, models.

A shell runs this at a keystroke: it creates nothing and prints only names, and an error gives no names.
"""

from __future__ import annotations

import logging
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from batchkit.provider.dialect import ModelFacts

#: Longest wait for a database, in seconds.
_LONGEST_SECONDS = 2.0


def workload_names(ctx: Any, incomplete: str) -> list[str]:
    """List the workloads of the database that the command names so far, newest first."""
    home, database_url = ctx.params.get("home"), ctx.params.get("database_url")
    return _matching(partial(_workload_names, home, database_url), incomplete)


def scenario_names(incomplete: str) -> list[str]:
    """List the ready-made scenarios."""
    return _matching(_scenario_names, incomplete)


def emulated_providers(incomplete: str) -> list[str]:
    """List the providers that the emulator can be."""
    return _matching(_emulated_providers, incomplete)


def chat_models(incomplete: str) -> list[str]:
    """List the known chat models; after a comma, complete the next model."""
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{model}" for model in _matching(_chat_models, last)]


def speech_models(incomplete: str) -> list[str]:
    """List the known models that transcribe."""
    return _matching(_speech_models, incomplete)


def speaking_models(incomplete: str) -> list[str]:
    """List the known models that speak."""
    return _matching(_speaking_models, incomplete)


def guard_models(incomplete: str) -> list[str]:
    """List the known models that moderate."""
    return _matching(_guard_models, incomplete)


def _matching(names: Callable[[], Iterable[str]], incomplete: str) -> list[str]:
    # Whatever is logged would stand in the middle of the user's command line.
    disabled = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        return [name for name in names() if name.startswith(incomplete)]
    except Exception:  # noqa: BLE001 - no completion is better than a traceback in a command line
        return []
    finally:
        logging.disable(disabled)


def _workload_names(home: Path | None, database_url: str | None) -> list[str]:
    from batchkit.api import existing  # noqa: PLC0415 - only where it is needed
    from batchkit.settings import load_settings  # noqa: PLC0415 - as above
    from batchkit.store import workloads  # noqa: PLC0415 - as above

    settings = load_settings(home=home, database_url=database_url)
    found: list[str] = []

    def read() -> None:
        # As above: the thread would print its traceback.
        with suppress(Exception):
            found.extend(existing.read(settings, workloads.names) or ())

    # A thread that need not end: the database may be away, or held by somebody.
    thread = Thread(target=read, daemon=True)
    thread.start()
    thread.join(_LONGEST_SECONDS)
    return list(found)


def _scenario_names() -> list[str]:
    from batchkit import emulator  # noqa: PLC0415 - as above

    return emulator.scenario_names()


def _emulated_providers() -> list[str]:
    from batchkit import emulator  # noqa: PLC0415 - as above

    return emulator.provider_names()


def _chat_models() -> list[str]:
    return list(_models().chat)


def _speech_models() -> list[str]:
    return list(_models().transcription)


def _speaking_models() -> list[str]:
    return list(_models().speech)


def _guard_models() -> list[str]:
    return list(_models().guard)


def providers(incomplete: str) -> list[str]:
    """Complete the name of a provider."""
    return _matching(_provider_names, incomplete)


def _provider_names() -> list[str]:
    from batchkit.provider.dialects import names  # noqa: PLC0415 - as above

    return list(names())


def _models() -> ModelFacts:
    from batchkit.settings import load_settings  # noqa: PLC0415 - as above

    return load_settings().dialect.models
