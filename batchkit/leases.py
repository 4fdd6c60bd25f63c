"""Who a runner is, and whether another one on this machine is still alive.

A lease outlives its holder by up to its length. On the same machine that wait is not needed: the name of an owner says
which process it is, and a process that is gone holds nothing.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_FIELDS = 5
_START_TIME_FIELD = 19  # of /proc/PID/stat, counted behind the command's closing bracket (proc(5): starttime)


def _start_time(pid: int) -> str | None:
    """When a process started, in the kernel's ticks: with the pid it names a process for good. None when unknown."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()[_START_TIME_FIELD]


def _place() -> str:
    """The machine and its process namespace: containers may share a host name but not their process numbers."""
    try:
        namespace = Path("/proc/self/ns/pid").readlink().name
    except OSError:
        namespace = "-"
    return f"{socket.gethostname()}|{namespace}"


def new_owner() -> str:
    """Make the name of a new owner: host, process namespace, process, its start, and a random part."""
    pid = os.getpid()
    return f"{_place()}|{pid}|{_start_time(pid) or '-'}|{uuid.uuid4().hex[:12]}"


def is_certainly_dead(owner: str) -> bool:
    """Whether the owner was a process of this machine that exists no longer. When in doubt: no."""
    parts = owner.split("|")
    if len(parts) != _FIELDS or "|".join(parts[:2]) != _place() or parts[1] == "-" or parts[3] == "-":
        return False
    return _start_time(int(parts[2])) != parts[3]


def dead_among(owners: Iterable[str]) -> list[str]:
    """Pick the owners that are certainly dead."""
    return [owner for owner in owners if is_certainly_dead(owner)]


class LeaseKeeper:
    """A thread that calls ``renew`` every ``interval_seconds`` until closed. An error of one call is left to the next."""

    def __init__(self, renew: Callable[[], None], interval_seconds: float) -> None:
        self._renew = renew
        self._interval_seconds = interval_seconds
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="batchkit-leases", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._closing.wait(self._interval_seconds):
            try:
                self._renew()
            except Exception:  # noqa: BLE001, S112 - a lease that could not be renewed is found out by the next guarded write
                continue

    def close(self) -> None:
        """Stop renewing."""
        self._closing.set()
        self._thread.join()
