"""The command in this process, and in another one with every log on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import make_url

from batchkit.emulator import Emulator, Scenario
from tests.cli.conftest import QUICK, SPEED
from tests.cli.conftest import _own_folder as _own_folder  # noqa: PLC0414 - a fixture
from tests.cli.conftest import batchkit as batchkit  # noqa: PLC0414 - a fixture
from tests.cli.conftest import open_emulator as open_emulator  # noqa: PLC0414 - a fixture
from tests.cli.conftest import source as source  # noqa: PLC0414 - a fixture
from tests.safety.needles import KEY, PASSWORD
from tests.steps.conftest import open_harness as open_harness  # noqa: PLC0414 - a fixture

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_NOISY = Path(__file__).with_name("noisy.py")

# Runs at the start of every Python process of ours, and records its command line and environment.
_NOTE = """
import os, sys
with open(os.path.join(os.environ["NOTES"], str(os.getpid())), "wb") as note:
    for given in (*sys.orig_argv, *(f"{name}={value}" for name, value in os.environ.items())):
        note.write(os.fsencode(given) + b"\\n")
"""


class Surroundings:
    """Folders for everything that commands write, and the environment that names them."""

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self.folder = folder
        self.work, self.notes = folder / "work", folder / "notes"
        self._site = folder / "site"
        for name in ("work", "notes", "site", "temporary", "prefect"):
            (folder / name).mkdir(exist_ok=True)
        (self._site / "sitecustomize.py").write_text(_NOTE)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("BATCHKIT_", "PREFECT_"))
        }
        self.environment = {
            **inherited,
            **QUICK,
            "BATCHKIT_HTTP_ATTEMPTS": "3",
            "COLUMNS": "100",
            "PGPASSWORD": PASSWORD,
            "HOME": str(folder / "home"),
            "TMPDIR": str(folder / "temporary"),
            "PYTHONPATH": os.pathsep.join(filter(None, (str(self._site), os.environ.get("PYTHONPATH")))),
            "NOTES": str(self.notes),
            "PREFECT_HOME": str(folder / "prefect"),
            "PREFECT_LOGGING_LEVEL": "DEBUG",
            "PREFECT_LOGGING_INTERNAL_LEVEL": "DEBUG",
            "PREFECT_LOGGING_SERVER_LEVEL": "DEBUG",
            "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "DEBUG",
            **environment,
        }
        self.said = b""
        self._own: set[str] = set()

    def run(self, *words: object, **environment: str) -> str:
        """Run commands in one process with every log on (see ``noisy``); return everything that they printed."""
        process = subprocess.Popen(
            [sys.executable, "-P", str(_NOISY), *map(str, words)],
            cwd=self.work,
            env=self.environment | environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self._own.add(str(process.pid))
        said, _ = process.communicate(timeout=100)
        self.said += said
        return said.decode(errors="replace")

    def notes_of_children(self) -> list[bytes]:
        """Return the command line and the environment of every process that a command has started."""
        return [note.read_bytes() for note in self.notes.iterdir() if note.name not in self._own]


@pytest.fixture
def guarded_url(database_url) -> str:
    """Return the URL of a migrated database, with a password where a server could receive it; runs once per kind."""
    return with_password(database_url)


def with_password(database_url: str) -> str:
    """Add the made-up password to a Postgres URL: the tests' server trusts all users and does not ask for one."""
    url = make_url(database_url)
    if url.get_backend_name() == "sqlite":
        return database_url
    return url.set(password=PASSWORD).render_as_string(hide_password=False)


@pytest.fixture
def open_surroundings(tmp_path) -> Iterator[Callable[..., Any]]:
    """Return a function that starts an emulator with faults, which accepts only one key, and surroundings for commands."""
    emulators: list[Emulator] = []

    def start(database_url: str, *faults: Any) -> Surroundings:
        emulator = Emulator(tmp_path / "all" / "emulator", Scenario(faults=faults), speed=SPEED, api_key=KEY)
        emulators.append(emulator.__enter__())
        given = {
            "GROQ_API_KEY": KEY,
            "BATCHKIT_BASE_URL": emulator.base_url,
            "BATCHKIT_DATABASE_URL": database_url,
        }
        return Surroundings(tmp_path / "all", given)

    yield start
    for emulator in emulators:
        emulator.__exit__(None, None, None)
