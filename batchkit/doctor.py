"""What batchkit needs, looked at one thing after the other. Nothing is changed, nothing that costs anything is sent.

A spool at a URL is tried with a small file, which is deleted again.
"""

from __future__ import annotations

import os
import platform
import shutil
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from enum import StrEnum
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from batchkit import __version__
from batchkit.child_environment import environment_for_others
from batchkit.engine.runtime import Runner
from batchkit.errors import AccountRefused, BatchkitError, ProviderError, Unauthorized, WrongAddress
from batchkit.files import jsonl
from batchkit.files.remote import RemoteFiles
from batchkit.models import WorkloadId
from batchkit.settings import Settings, load_settings, origins_of_settings
from batchkit.store import migrate, workloads
from batchkit.store.engine import Store, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from batchkit.provider.base import Provider

_MIN_PYTHON = (3, 11)
_MIN_SQLITE = (3, 35, 0)
_SHOWN_VERSIONS = ("prefect", "sqlalchemy", "httpx")
_LOW_DISK_BYTES = 5_000_000_000
_FULL_DISK_BYTES = 200_000_000
_SKEW_SECONDS = 60
_PREFECT_SECONDS = 60
_HTTP_SECONDS = 20.0

# Run in a process of its own: whether a fresh import works is the question, and Prefect's settings may name a profile.
_PREFECT_PROBE = """
import json, anyio, prefect
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL

async def answers():
    with anyio.move_on_after(5):
        async with get_client() as client:
            return await client.api_healthcheck() is None
    return False

url = PREFECT_API_URL.value()
print(json.dumps({"version": prefect.__version__, "api_url": url, "answers": bool(url) and anyio.run(answers)}))
"""


class Level(StrEnum):
    """How bad a finding is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found, in a sentence; ``advice`` says what to do, None when there is nothing to do."""

    check: str
    level: Level
    message: str
    advice: str | None = None


def examine(flags: Mapping[str, Any], *, clock: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Yield the findings as they are made; ``flags`` are settings given on the command line, ``clock`` gives Unix seconds."""
    yield _versions()
    try:
        settings = load_settings(**flags)
    except BatchkitError as error:
        yield Finding("settings", Level.FAILED, error.message, error.hint)
        return
    yield _origins(settings, flags)
    yield _whose(settings, flags)
    yield from _guarded("disk", lambda: [_disk(settings)])
    if url := settings.spool_url:
        yield from _guarded("spool", lambda: [_spool(url)])
    yield from _guarded("database", lambda: _database(settings))
    yield from _guarded("provider", lambda: _provider(settings, clock))
    yield from _guarded("prefect", lambda: [_prefect()])


def has_failure(findings: Iterable[Finding]) -> bool:
    """Say whether anything failed."""
    return any(finding.level is Level.FAILED for finding in findings)


def _guarded(check: str, look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    try:
        yield from look()
    except BatchkitError as error:
        yield Finding(check, Level.FAILED, error.message, error.hint)
    except Exception as error:  # noqa: BLE001 - a check that breaks is a finding; the others are still worth making
        yield Finding(check, Level.FAILED, f"{type(error).__name__}: {error}")


def _versions() -> Finding:
    shown = ", ".join(f"{name} {_version(name)}" for name in _SHOWN_VERSIONS)
    message = f"batchkit {__version__}, Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {shown}"
    if sys.version_info < _MIN_PYTHON:
        return Finding("versions", Level.FAILED, message, "Python 3.11 or newer is needed")
    if sqlite3.sqlite_version_info < _MIN_SQLITE:
        return Finding("versions", Level.FAILED, message, "SQLite 3.35 or newer is needed: use another Python build")
    return Finding("versions", Level.OK, message)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "is not installed"


def _origins(settings: Settings, flags: Mapping[str, Any]) -> Finding:
    """Say where each setting comes from; of the key only whether it is there."""
    origins = origins_of_settings(flags, settings.dialect)
    parts = [
        f"key present ({origins.get('api_key', 'none is needed on this machine')})"
        if settings.api_key
        else "key absent"
    ]
    parts += [f"{name} from {origin}" for name, origin in origins.items() if name != "api_key"]
    return Finding("settings", Level.OK, f"{', '.join(parts)}; everything else at its default")


def _whose(settings: Settings, flags: Mapping[str, Any]) -> Finding:
    """Say whose batch API it is, where that was said, and how its limits are known."""
    dialect = settings.dialect
    origin = origins_of_settings(flags, dialect).get("provider", "the default")
    where = settings.base_url or dialect.base_url or "no address"
    message = f"{settings.provider}, {dialect.title} ({origin}), at {where}; its limits: {dialect.verified}"
    return Finding("provider", Level.OK, message)


def _existing_parent(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def _disk(settings: Settings) -> Finding:
    place = _existing_parent(settings.home)
    free = shutil.disk_usage(place).free
    message = f"{free / 1e9:,.1f} GB free at {settings.home.absolute()}"
    advice = "shards, answers and the database take about three times the input; BATCHKIT_HOME moves them"
    if not os.access(place, os.W_OK):
        return Finding("disk", Level.FAILED, f"{place} cannot be written", "mend its permissions, or set BATCHKIT_HOME")
    if free < _FULL_DISK_BYTES:
        return Finding("disk", Level.FAILED, message, advice)
    return (
        Finding("disk", Level.WARNING, message, advice)
        if free < _LOW_DISK_BYTES
        else Finding("disk", Level.OK, message)
    )


def _spool(url: str) -> Finding:
    remote = RemoteFiles(url, attempts=1)
    remote.try_out()
    return Finding("spool", Level.OK, f"{remote.display_url} takes a file, gives it back and deletes it")


def _database(settings: Settings) -> Iterator[Finding]:
    url = parse_url(settings.resolved_database_url)
    if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
        parent = _existing_parent(Path(url.database or ""))
        if os.access(parent, os.W_OK):
            yield Finding("database", Level.OK, f"{url.database} does not exist yet: the first run makes it")
        else:
            advice = "mend its permissions, or set BATCHKIT_HOME or BATCHKIT_DATABASE_URL"
            yield Finding("database", Level.FAILED, f"{parent} cannot be written", advice)
        return
    store = Store(settings.resolved_database_url)
    try:
        schema = migrate.check(store)
        if not schema.is_current:
            message = f"{store.display_url} has {schema.current or 'no schema'}, {schema.wanted} is needed"
            advice = "the next run upgrades it; `batchkit db upgrade` does it now"
            yield Finding("database", Level.WARNING, message, advice)
            return
        with store.write() as connection:
            # A write that hits no row, since ids start at 1: it shows whether writing is allowed.
            workloads.set_values(connection, WorkloadId(0), cancel_requested_at=None)
        yield Finding("database", Level.OK, f"{store.display_url} is up to date and writable")
    finally:
        store.close()


def _provider(settings: Settings, clock: Callable[[], float]) -> Iterator[Finding]:
    if settings.api_key is None or not settings.api_key.get_secret_value().strip():
        message = f"{settings.address} not tried: there is no key"
        yield Finding("key", Level.FAILED, message, settings.dialect.key_hint)
        return
    with TemporaryDirectory(prefix="batchkit-doctor-") as scratch:
        # A runner knows how to build the provider; it gets a database that is thrown away.
        hasty = {"home": Path(scratch), "database_url": None, "http_attempts": 2, "http_timeout_seconds": _HTTP_SECONDS}
        with Runner(settings.model_copy(update=hasty)) as runner:
            yield from _key_and_plan(runner.provider, settings.address)
            yield from _clock(runner.provider.now(), clock())


def _key_and_plan(provider: Provider, base_url: str) -> Iterator[Finding]:
    accepted = Finding("key", Level.OK, f"{base_url} accepts the key")
    try:
        warning = provider.check()
    except WrongAddress as error:
        yield Finding("key", Level.FAILED, error.message, error.hint)
    except ProviderError as error:
        if isinstance(error, AccountRefused) and not isinstance(error, Unauthorized):
            yield accepted
            yield Finding("plan", Level.FAILED, f"the Batch API refuses: {error.message}", error.hint)
        else:
            yield Finding("key", Level.FAILED, f"{base_url}: {error.message}", error.hint)
    else:
        yield Finding("key", Level.WARNING, warning) if warning else accepted
        yield Finding("plan", Level.OK, "the plan includes the Batch API")


def _clock(provider_now: float | None, now: float) -> Iterator[Finding]:
    """Compare the clock with the ``Date`` of the provider's last reply; without any reply there is nothing to say."""
    if provider_now is None:
        return
    ahead = now - provider_now
    if abs(ahead) > _SKEW_SECONDS:
        message = f"this machine's clock is {abs(ahead):,.0f} s {'ahead of' if ahead > 0 else 'behind'} the provider's"
        yield Finding("clock", Level.WARNING, message, "set the clock (NTP): short waits are measured by it")
    else:
        yield Finding("clock", Level.OK, f"within {_SKEW_SECONDS} s of the provider's")


def _prefect() -> Finding:
    environment = {**environment_for_others(), "DO_NOT_TRACK": "1"}
    try:
        probe = subprocess.run(  # noqa: S603 - our own interpreter and our own text
            # -P: no file in the working directory may stand in for a module.
            [sys.executable, "-P", "-c", _PREFECT_PROBE],
            capture_output=True,
            check=False,
            env=environment,
            timeout=_PREFECT_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Finding("prefect", Level.WARNING, "did not load within a minute", "`--no-prefect` works without it")
    lines = probe.stdout.splitlines()
    if probe.returncode or not lines:
        problem = (probe.stderr.decode(errors="replace").strip().splitlines() or ["no answer"])[-1]
        return Finding("prefect", Level.FAILED, f"cannot be imported: {problem}", "`--no-prefect` works without it")
    answer = jsonl.loads(lines[-1])
    message = f"Prefect {answer['version']}"
    if not answer["api_url"]:
        return Finding("prefect", Level.OK, f"{message}, no server configured: a temporary one is used")
    if answer["answers"]:
        return Finding("prefect", Level.OK, f"{message}, its server answers")
    advice = "start it (`prefect server start`) or unset PREFECT_API_URL; until then runs continue without Prefect"
    return Finding("prefect", Level.WARNING, f"{message}, the configured server does not answer", advice)
