"""Workloads for reports: run through an emulator, or inserted row by row."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.emulator import Emulator, Scenario
from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from tests.steps.conftest import QUICK, SPEED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@contextmanager
def running(folder: Path, *faults: Any, **more: Any) -> Iterator[Runner]:
    """Open a runner in a folder on an emulator with faults."""
    with Emulator(folder / "emulator", Scenario(faults=faults), speed=SPEED) as emulator:
        settings = load_settings(
            home=folder / "home",
            database_url=f"sqlite:///{folder / 'batchkit.db'}",
            **{**QUICK, "api_key": emulator.api_key, "base_url": emulator.base_url, **more},
        )
        with Runner(settings) as runner:
            yield runner


@pytest.fixture
def runner(database_url, tmp_path) -> Iterator[Runner]:
    """Return a runner on an empty store that calls no provider; runs once on each kind of database."""
    with Runner(load_settings(home=tmp_path / "home", database_url=database_url)) as opened:
        yield opened


@pytest.fixture
def sqlite_runner(sqlite_url, tmp_path) -> Iterator[Runner]:
    """Return the same on SQLite only, for tests that do not depend on the kind of database."""
    with Runner(load_settings(home=tmp_path / "home", database_url=sqlite_url)) as opened:
        yield opened


@pytest.fixture
def page_text() -> Callable[[str], str]:
    """Return a function that removes the tags of a page and separates its words by single blanks."""
    import html  # noqa: PLC0415 - here alone
    import re  # noqa: PLC0415 - as above

    def plain(page: str) -> str:
        body = re.sub(r"<(style|script)>.*?</\1>", " ", page, flags=re.DOTALL)
        return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", body)).split())

    return plain
