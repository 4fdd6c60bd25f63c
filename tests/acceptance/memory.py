"""How much memory a command takes at its peak."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.commands import Command


def peak_megabytes(command: Command, *arguments: str) -> tuple[float, int, str]:
    """Run a command to its end; gives the peak of its own process in MB, its exit code and what it said on stdout and stderr.

    Read from the kernel while it runs: what it reports at the end counts the test process that it was forked from, too.
    """
    process = command.start(*arguments)
    peak = [0]

    def watch() -> None:
        with suppress(OSError, StopIteration):
            while process.poll() is None:
                peak.append(_high_water_kilobytes(process.pid))
                time.sleep(0.05)  # noqa: TID251 - looks while another process works

    watcher = threading.Thread(target=watch)
    watcher.start()
    out, err = process.communicate()
    watcher.join()
    return max(peak) / 1024, process.returncode, out + err


def _high_water_kilobytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
