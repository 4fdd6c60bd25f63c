"""The installed command as a user starts it, against an emulator in another process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from batchkit.store.engine import Store
from tests.forked import ForkedCommand

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batchkit.emulator import Emulator

#: Waits in seconds, so short that they do not slow a test.
QUICK = {
    "BATCHKIT_POLL_INTERVAL_SECONDS": "0.1",
    "BATCHKIT_MAX_POLL_INTERVAL_SECONDS": "0.3",
    "BATCHKIT_SETTLE_SECONDS": "1.5",
    "BATCHKIT_RESUBMIT_LINGER_SECONDS": "0",
    "BATCHKIT_CAPACITY_WAIT_SECONDS": "0.1",
    "BATCHKIT_HTTP_TIMEOUT_SECONDS": "20",
}


class Command:
    """Starts ``batchkit`` in its own folder."""

    def __init__(self, emulator: Emulator, database_url: str, folder: Path) -> None:
        self.emulator = emulator
        self._started = 0
        self.folder = folder
        self.database_url = database_url
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("BATCHKIT_", "PREFECT_"))},
            **QUICK,
            emulator.dialect.key_variable: emulator.api_key,
            "BATCHKIT_PROVIDER": emulator.dialect.name,
            "BATCHKIT_BASE_URL": emulator.base_url,
            "BATCHKIT_DATABASE_URL": database_url,
            "COLUMNS": "100",
        }

    def start(self, *arguments: str) -> ForkedCommand:
        """Start the command and return at once."""
        self._started += 1
        printed = self.folder.parent / f"printed-{self.folder.name}" / str(self._started)
        return ForkedCommand(arguments, self.folder, self.environment, printed)

    def start_anew(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command in a new process, whose memory holds only what the command needs."""
        return subprocess.Popen(
            [sys.executable, "-m", "batchkit", *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str, timeout_seconds: float = 100) -> subprocess.CompletedProcess[str]:
        """Run the command to its end."""
        return self.start(*arguments).completed(timeout_seconds)

    def kill_when(self, condition: Callable[[], bool], *arguments: str, timeout_seconds: float = 60) -> None:
        """Start the command and send SIGKILL as soon as ``condition`` holds."""
        process = self.start(*arguments)
        deadline = time.monotonic() + timeout_seconds
        try:
            while not condition():
                if process.poll() is not None:
                    raise AssertionError(f"the command ended by itself: {process.communicate()}")
                assert time.monotonic() < deadline, "the condition never held"
                time.sleep(0.002)  # noqa: TID251 - the condition is polled
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()

    def count(self, query: str) -> int:
        """Query the results store; 0 if it does not exist."""
        path = self.folder / ".batchkit"
        if not path.exists():
            return 0
        store = Store(self.database_url)
        try:
            with store.read() as connection:
                return int(connection.exec_driver_sql(query).scalar_one())
        finally:
            store.close()
