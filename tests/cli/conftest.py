"""The command in this process and its own folder, with an emulator."""

from __future__ import annotations

import shutil
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.cli.app import run_command
from batchkit.emulator import Emulator, Scenario
from batchkit.files import jsonl
from tests.workloads import write_mixed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Waits in seconds that a test does not notice, in the form of settings.
QUICK = {
    "BATCHKIT_POLL_INTERVAL_SECONDS": "0.05",
    "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "0.2",
    "BATCHKIT_SETTLE_SECONDS": "0.5",
    "BATCHKIT_RESUBMIT_LINGER_SECONDS": "0",
    "BATCHKIT_CAPACITY_WAIT_SECONDS": "0.1",
    "BATCHKIT_OUTAGE_SECONDS": "0.3",
    "BATCHKIT_HTTP_ATTEMPTS": "1",
}
#: One provider day takes a fifth of a second.
SPEED = 432_000.0


@dataclass(frozen=True)
class Ended:
    """A command that has ended, with its output."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Return the single JSON value on stdout."""
        return jsonl.loads(self.out)


@pytest.fixture(autouse=True)
def _own_folder(monkeypatch, tmp_path):
    """Work in the test's own folder, in an environment that describes no terminal."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PREFECT_API_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def batchkit(capfd) -> Callable[..., Ended]:
    """Return a function that runs the command in this process, without the leading ``batchkit``."""

    def run(*words: object) -> Ended:
        capfd.readouterr()
        code = run_command([str(word) for word in words])
        sys.stdout.flush()
        out, err = capfd.readouterr()
        return Ended(code, out, err)

    return run


@pytest.fixture
def open_emulator(monkeypatch, tmp_path, sqlite_template) -> Iterator[Callable[..., Emulator]]:
    """Return a function that starts an emulator and points the environment to it; the working folder has a migrated database."""
    Path(".batchkit").mkdir()
    shutil.copy(sqlite_template, ".batchkit/batchkit.db")
    with ExitStack() as stack:

        def start(*faults: Any, speed: float = SPEED, **scenario: Any) -> Emulator:
            script = Scenario(faults=faults, **scenario)
            emulator = stack.enter_context(Emulator(tmp_path / "emulator", script, speed=speed, api_key="gsk_test"))
            for name, value in QUICK.items():
                monkeypatch.setenv(name, value)
            monkeypatch.setenv("GROQ_API_KEY", emulator.api_key)
            monkeypatch.setenv("BATCHKIT_BASE_URL", emulator.base_url)
            return emulator

        yield start


@pytest.fixture
def source(tmp_path) -> Path:
    """Write an input of 30 mixed requests."""
    return write_mixed(tmp_path / "input.jsonl", 30)
