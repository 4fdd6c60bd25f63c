"""Fixtures for the whole suite: databases of both kinds, a migrated store, a clock that the test moves."""

from __future__ import annotations

import gc
import logging
import os
import shutil
import sys
import uuid
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings
from sqlalchemy import event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.util import LRUCache

from batchkit.emulator import Emulator, Scenario
from batchkit.store import migrate
from batchkit.store.engine import Store
from tests.clock import FakeClock
from tests.commands import Command
from tests.compiling import import_from_own_place
from tests.postgres import PostgresServer, running_server
from tests.temporary_folders import base_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


# Almost everything that is made before the first test stays until the end: modules and collected tests. The garbage
# collector would look at it thousands of times.
gc.disable()

# This also applies to pytest's own folders, unless the variable is set.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(base_folder()))

# Keep compiled code, whatever the environment says: otherwise every worker compiles all tests again, and each of the hundreds
# of commands that tests start compiles the package again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# The duration of an example depends more on the machine than on the code.
settings.register_profile("batchkit", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("batchkit")


def _share_compiled_statements() -> None:
    """Compile each statement once in this process, and not again for each of the thousands of stores that tests open."""
    shared: LRUCache[Any, Any] = LRUCache(2_000)

    def use_shared(connection: Connection) -> None:
        connection.engine._compiled_cache = shared

    event.listen(Engine, "engine_connect", use_shared)
    # The dialect is part of each statement's cache key, and each engine has its own. Methods of a library class are
    # replaced, which the type checker rightly forbids elsewhere.
    DefaultDialect.__hash__ = lambda dialect: hash(type(dialect))  # type: ignore[assignment,method-assign] # the cache compares dialects
    DefaultDialect.__eq__ = lambda dialect, other: type(dialect) is type(other)  # type: ignore[method-assign] # the cache compares dialects


_share_compiled_statements()


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Share the compilation of the test modules between the test processes."""
    if worker := getattr(session.config, "workerinput", None):
        import_from_own_place(session, worker)


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Collect garbage from here on, but never look at what was made before the first test."""
    gc.freeze()
    gc.enable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that take seconds, in the same order in every process."""
    items.sort(key=lambda item: item.get_closest_marker("patient") is None)


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch):
    """Remove the user's key and settings from the environment of the tests."""
    for name in os.environ:
        if name == "GROQ_API_KEY" or name.startswith("BATCHKIT_"):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _own_mirrors() -> Iterator[None]:
    """End the Prefect mirror of a command that ran in this process; normally it ends with its process."""
    yield
    entry = sys.modules.get("batchkit.flows.entry")
    mirrors = getattr(entry, "_mirrors", None)
    if mirrors:
        for mirror in mirrors.values():
            mirror.close(0)
        mirrors.clear()


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """Restore the loggers after a command that ran in this process and configured them."""
    logger = logging.getLogger("batchkit")
    level, handlers = logger.level, list(logger.handlers)
    yield
    logger.setLevel(level)
    logger.handlers = handlers


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still until the test calls ``advance``."""
    return FakeClock()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """Start one Postgres server for the session, when the first test needs it."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres_server) -> Iterator[str]:
    """Return a migrated Postgres database that others are copied from."""
    name = postgres_server.create()
    _migrate(postgres_server.url_of(name))
    yield name
    postgres_server.drop(name)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    """Return a migrated SQLite file that others are copied from."""
    path: Path = tmp_path_factory.mktemp("template") / "batchkit.db"
    _migrate(f"sqlite:///{path}")
    return path


def _migrate(url: str) -> None:
    store = Store(url)
    migrate.upgrade(store)
    store.close()


@pytest.fixture
def sqlite_url(sqlite_template, tmp_path) -> str:
    """Return the URL of the test's own migrated SQLite file."""
    path = tmp_path / "batchkit.db"
    shutil.copy(sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture
def postgres_url(postgres_server, postgres_template) -> Iterator[str]:
    """Return the URL of the test's own migrated Postgres database."""
    name = postgres_server.create(template=postgres_template)
    yield postgres_server.url_of(name)
    postgres_server.drop(name)


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request) -> str:
    """Return the URL of the test's own migrated database; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def empty_postgres_url(postgres_server) -> Iterator[str]:
    """Return the URL of a Postgres database without tables."""
    name = postgres_server.create()
    yield postgres_server.url_of(name)
    postgres_server.drop(name)


@pytest.fixture
def empty_sqlite_url(tmp_path) -> str:
    """Return the URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'empty.db'}"


@pytest.fixture(params=["sqlite", "postgres"])
def empty_database_url(request) -> str:
    """Return the URL of a database without tables; the test runs once on each kind."""
    url: str = request.getfixturevalue(f"empty_{request.param}_url")
    return url


@pytest.fixture
def store(database_url) -> Iterator[Store]:
    """Open the migrated store; the test runs once on each kind of database."""
    opened = Store(database_url)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_store(sqlite_url) -> Iterator[Store]:
    """Open a migrated store on SQLite, for features that only SQLite has."""
    opened = Store(sqlite_url)
    yield opened
    opened.close()


@pytest.fixture
def postgres_store(postgres_url) -> Iterator[Store]:
    """Open a migrated store on Postgres, for features that only Postgres has."""
    opened = Store(postgres_url)
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Start one S3 server for the session, when the first test needs it; yield its address."""
    from tests.s3 import running_s3  # noqa: PLC0415 - takes half a second to load, for a few tests

    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3_url(s3_server, monkeypatch) -> str:
    """Return the URL of a folder in the test's own bucket, with its credentials in the environment."""
    from tests.s3 import ENVIRONMENT, make_bucket  # noqa: PLC0415 - as above

    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL_S3": s3_server}.items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{uuid.uuid4().hex}"
    make_bucket(s3_server, bucket)
    return f"s3://{bucket}/some/folder"


@pytest.fixture
def start_command(database_url, tmp_path) -> Iterator[Any]:
    """Return a function that starts an emulator with faults and a command on it; runs once on each kind of database."""
    with ExitStack() as stack:

        def start(
            faults: Sequence[Any] = (), *, speed: float = 432_000, provider: str | None = None, **scenario: Any
        ) -> Command:
            given = Scenario(faults=tuple(faults), **scenario)
            emulator = stack.enter_context(Emulator(tmp_path / "emulator", given, speed=speed, provider=provider))
            folder = tmp_path / "work"
            folder.mkdir()
            return Command(emulator, database_url, folder)

        yield start
