"""A Prefect home for the tests, and one Prefect server for the few tests that need one."""

from __future__ import annotations

import gc
import logging
import os
import sqlite3
import tempfile
import time
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from batchkit.flows import entry
from batchkit.flows.temporary_server import TemporaryServer

from batchkit.emulator import Emulator
from batchkit.settings import load_settings
from tests.shared import shared_between_workers
from tests.steps.conftest import open_harness

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchkit.settings import Settings

__all__ = ["open_harness"]

# Set before any test imports Prefect, which reads its home at once.
_PREFECT_HOME = tempfile.TemporaryDirectory(prefix="batchkit-tests-prefect-")
os.environ["PREFECT_HOME"] = _PREFECT_HOME.name
for _name in ("PREFECT_API_URL", "PREFECT_API_KEY", "PREFECT_PROFILE"):
    os.environ.pop(_name, None)

_READY_WITHIN_SECONDS = 60.0


@pytest.fixture(scope="session", autouse=True)
def prefect_home() -> Iterator[Path]:
    """Return Prefect's home; it is removed at the end."""
    with _PREFECT_HOME as home:
        yield Path(home)


@dataclass(frozen=True)
class PrefectServer:
    """A running Prefect server for all test processes, and its database."""

    api_url: str
    database: Path

    def copy_database(self, home: Path) -> None:
        """Give another home a database, so that a server does not migrate a new one, which takes seconds."""
        home.mkdir()
        with closing(sqlite3.connect(self.database)) as ours, closing(sqlite3.connect(home / "prefect.db")) as theirs:
            ours.backup(theirs)


@pytest.fixture(scope="session")
def prefect_server(tmp_path_factory) -> Iterator[PrefectServer]:
    """Start one Prefect server when the first test needs it, which takes a dozen CPU seconds."""

    @contextmanager
    def start() -> Iterator[str]:
        server = TemporaryServer.start(tmp_path_factory.mktemp("server"))
        try:
            server.wait_until_ready(_READY_WITHIN_SECONDS, sleep=time.sleep)  # noqa: TID251 - waits for a process
            yield f"{server.api_url} {_PREFECT_HOME.name}/prefect.db"
        finally:
            server.stop(5)

    with shared_between_workers(tmp_path_factory, "prefect", start) as address:
        api_url, _, database = address.partition(" ")
        yield PrefectServer(api_url, Path(database))


@pytest.fixture
def prefect_api(monkeypatch) -> Iterator[Callable[[str], None]]:
    """Return a function that configures a Prefect server as a user does; Prefect's changes to the process are undone."""
    loggers = [logging.getLogger(name) for name in (None, "batchkit", "uvicorn", "fastapi")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    monkeypatch.setattr(logging, "raiseExceptions", logging.raiseExceptions)
    # Not at the top: importing Prefect takes more than a second, and most tests here do not need it.
    from prefect.context import refresh_global_settings_context  # noqa: PLC0415 - see above

    def configure(url: str) -> None:
        monkeypatch.setenv("PREFECT_API_URL", url)
        refresh_global_settings_context()

    yield configure
    monkeypatch.undo()
    refresh_global_settings_context()
    for logger, handlers, level, propagate in before:
        logger.handlers[:] = handlers
        logger.level, logger.propagate = level, propagate
    entry._mirrors.clear()
    # Collect here what Prefect leaves to the garbage collector, so that no unrelated test reports it.
    gc.collect()


@pytest.fixture
def open_settings(tmp_path) -> Iterator[Callable[..., Settings]]:
    """Return a function that starts an emulator and makes settings for it, with short waits and SQLite in its own folder."""
    with ExitStack() as stack:

        def start(*, speed: float = 400_000.0, **values: Any) -> Settings:
            emulator = stack.enter_context(Emulator(tmp_path / "emulator", speed=speed))
            given = {
                "poll_interval_seconds": 0.05,
                "max_poll_interval_seconds": 0.2,
                "http_attempts": 2,
                **values,
            }
            return load_settings(api_key=emulator.api_key, base_url=emulator.base_url, home=tmp_path / "home", **given)

        yield start
