"""A Postgres server that may be stopped, and fixtures of the neighbouring folders: runners in this process, and the command."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.conftest import batchkit, open_emulator, source
from tests.postgres import PostgresServer, own_server
from tests.steps.conftest import open_harness

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["batchkit", "open_emulator", "open_harness", "source"]


@pytest.fixture
def own_folder(monkeypatch, tmp_path) -> Path:
    """Work in the test's own folder; request it before the fixtures of the command."""
    folder: Path = tmp_path / "own"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    return folder


@pytest.fixture(scope="package")
def own_postgres() -> Iterator[PostgresServer]:
    """Start a Postgres server that these tests may stop and start again; it runs again when a test has ended."""
    with own_server() as server:
        yield server


@pytest.fixture
def own_database(own_postgres) -> Iterator[str]:
    """Return an empty database on that server, which is dropped after the test."""
    name = own_postgres.create()
    yield name
    own_postgres.drop(name)
