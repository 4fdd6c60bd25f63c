"""Harnesses for whole runs of suites."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from batchkit.emulator import Emulator, Scenario
from tests.steps.conftest import SPEED, Harness, open_harness

__all__ = ["open_harness"]


@pytest.fixture
def sqlite_harness(open_harness_on_sqlite):
    """Start an emulator and a harness on SQLite."""
    return open_harness_on_sqlite()


@pytest.fixture
def open_harness_on_sqlite(sqlite_url, tmp_path):
    """Give what starts a harness, for what has nothing to do with the kind of database."""
    with ExitStack() as stack:

        def start(*faults: Any, **scenario: Any) -> Harness:
            emulator = stack.enter_context(
                Emulator(tmp_path / "emulator", Scenario(faults=faults, **scenario), speed=SPEED)
            )
            return Harness(emulator, sqlite_url, tmp_path / "home", stack)

        yield start
