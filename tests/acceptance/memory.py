"""The peak memory of a command."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from tests.processes import peak_bytes

if TYPE_CHECKING:
    from tests.commands import Command


def peak_megabytes(command: Command, *arguments: str) -> tuple[float, int, str]:
    """Run a command; return the peak of its own process in MB, its exit code, stdout and stderr.

    It is read from the kernel during the run: the value at the end includes the test process that it was forked from.
    """
    process = command.start_anew(*arguments)
    peak = [0]

    def watch() -> None:
        # The process may end between the two calls.
        with suppress(psutil.NoSuchProcess):
            while process.poll() is None:
                peak.append(peak_bytes(process.pid))
                time.sleep(0.05)  # noqa: TID251 - looks while another process works

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    return max(peak) / (1 << 20), process.returncode, out + err
